import gzip
import threading
from pathlib import Path

import numpy as np
import pytest

from pixelkin.data.class_maps import unpacked as module
from pixelkin.data.class_maps.lits import Lits
from pixelkin.data.class_maps.nifti import open_volume
from pixelkin.data.class_maps.unpacked import unpacked
from pixelkin.errors import PixelkinError

nibabel = pytest.importorskip("nibabel")

AFFINE = np.array([[-0.8, 0, 0, 9], [0, 0, 0.9, -7], [0, -2.5, 0, 3], [0, 0, 0, 1]], np.float64)
SIZE = (24, 7, 20)


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module._kept.clear()
    (tmp_path / "room").mkdir()
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path / "room"))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are unpacked from their first byte on, one entry a time."""
    opened: list[str] = []
    whole = module.gzip.open

    def counted(path: Path) -> object:
        opened.append(Path(path).name)
        return whole(path)

    monkeypatch.setattr(module.gzip, "open", counted)
    return opened


def scan(kind: type = np.int16) -> np.ndarray:
    return np.random.default_rng(5).integers(-900, 900, SIZE).astype(kind)


def save(path: Path, stored: np.ndarray, *, slope: float = 1, inter: float = 0) -> Path:
    image = nibabel.Nifti1Image(stored, AFFINE)
    image.set_sform(AFFINE, 2)
    image.header.set_slope_inter(slope, inter)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, ">i2"])
@pytest.mark.parametrize(("slope", "inter"), [(1, 0), (2, -1024), (0.5, 0)])
def test_packed_is_what_the_plain_file_is(
    tmp_path: Path, kind: type, slope: float, inter: float
) -> None:
    plain = save(tmp_path / "v.nii", scan(kind), slope=slope, inter=inter)
    packed = tmp_path / "v.nii.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    expected, found = open_volume(plain), open_volume(packed)
    for part in [(0, 7), (2, 5), (6, 7)]:
        want, have = expected.slab_zyx(*part), found.slab_zyx(*part)
        assert want.dtype == have.dtype
        np.testing.assert_array_equal(want, have)


def test_one_pass_for_all_slices_of_a_case(tmp_path: Path, passes: list[str]) -> None:
    volume = save(tmp_path / "volume-0.nii.gz", scan())
    save(tmp_path / "segmentation-0.nii.gz", (scan() > 0).astype(np.uint8))
    data = Lits(tmp_path)
    assert passes == []
    images = np.stack([sample.image[..., 0] for sample in (data[n] for n in range(len(data)))])
    assert images.shape == (7, 20, 24)
    assert sorted(passes) == ["segmentation-0.nii.gz", "volume-0.nii.gz"]
    # Nothing is to be cleaned up: the copies have no names.
    assert list((tmp_path / "room").iterdir()) == []
    # What was written anew is another file.
    save(volume, -scan())
    again = open_volume(volume).read_zyx()
    plain = save(tmp_path / "plain.nii", -scan())
    np.testing.assert_array_equal(again, open_volume(plain).read_zyx())
    assert passes.count("volume-0.nii.gz") == 2


def test_the_longest_unused_goes_first(
    tmp_path: Path, passes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"{n}.gz" for n in range(4)]
    for number, path in enumerate(files):
        path.write_bytes(gzip.compress(bytes([number]) * 1000))
    monkeypatch.setattr(module, "UNPACKED_BYTES", 3500)
    held = unpacked(files[0])
    for path in (files[1], files[2], files[0], files[3], files[0]):
        unpacked(path)
    assert passes == ["0.gz", "1.gz", "2.gz", "3.gz"]
    unpacked(files[1])
    assert passes[4:] == ["1.gz"]
    # A volume and its segmentation stay, however large.
    monkeypatch.setattr(module, "UNPACKED_BYTES", 1)
    for path in (files[2], files[3]) * 3:
        unpacked(path)
    assert passes[5:] == ["2.gz", "3.gz"]
    # What somebody reads from outlives that.
    assert held[:3] == b"\0\0\0"


def test_many_threads_unpack_once(tmp_path: Path, passes: list[str]) -> None:
    path = save(tmp_path / "v.nii.gz", scan())
    expected = open_volume(path).read_zyx()
    module._kept.clear()
    passes.clear()
    found: list[bool] = []

    def read() -> None:
        found.extend(np.array_equal(open_volume(path).slice_yx(z), expected[z]) for z in range(7))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 28
    assert passes == ["v.nii.gz"]


def test_faults_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "v.nii.gz", scan())
    volume = open_volume(path)
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:-8] + bytes(8)):
        path.write_bytes(broken)
        with pytest.raises(PixelkinError, match=r"cannot read the volume .*v\.nii\.gz"):
            volume.slice_yx(0)
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:500]))
    with pytest.raises(PixelkinError, match=r"cannot read the volume .*v\.nii\.gz"):
        volume.slice_yx(0)
    path.write_bytes(whole)
    monkeypatch.setattr(module.tempfile, "TemporaryFile", lambda **_: _FullDisk())
    with pytest.raises(PixelkinError, match=r"no space is left on the disk.*TMPDIR.*v\.nii\.gz"):
        volume.slice_yx(0)


class _FullDisk:
    def __enter__(self) -> "_FullDisk":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, _: bytes) -> None:
        raise OSError(28, "No space left on device")
