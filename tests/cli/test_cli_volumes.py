"""`pixelkin predict` with volumes: every voxel has a class, and the file lies on the volume."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_class_map_sets import make_pngs

from pixelkin.cli.app import main
from pixelkin.cli.map_options import MapOptions
from pixelkin.cli.predict import predict
from pixelkin.data.class_maps.lits import Lits
from pixelkin.data.class_maps.nifti import open_volume, save_segmentation, windowed
from pixelkin.errors import PixelkinError
from pixelkin.semantic.checkpoints import (
    build_network,
    load_semantic_network,
    load_semantic_segmenter,
    save_semantic_model,
)
from pixelkin.semantic.scoring import evaluate_semantic
from pixelkin.semantic.volumes import segment_volume

nibabel = pytest.importorskip("nibabel")

CONFIG = {
    "architecture": "semantic_unet",
    "class_names": ["background", "liver", "tumour"],
    "network": {"channels": 2},
}
# Stored left to right, head to feet, front to back.
AFFINE = np.array([[-0.8, 0, 0, 9], [0, 0, 0.9, -7], [0, -2.5, 0, 3], [0, 0, 0, 1]], np.float64)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small U-Net with random weights that gives more than one class."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("model") / "random"
    network = build_network(CONFIG)
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    save_semantic_model(network, folder, CONFIG, "")
    return folder


@pytest.fixture
def scan(tmp_path):
    stored = np.random.default_rng(0).integers(-400, 400, (24, 3, 20)).astype(np.int16)
    path = tmp_path / "volume-0.nii.gz"
    save(path, stored, AFFINE)
    return path


def save(path, stored, affine):
    image = nibabel.Nifti1Image(stored, affine)
    if affine is not None:
        image.set_sform(affine, 2)
        image.set_qform(affine, 1)
    nibabel.save(image, path)


def test_a_volume_is_segmented_as_the_slices_of_training(model, scan, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(str(model), scan, out=out, overlays=True, json=True, quiet=True) == 0
    done = json.loads(capsys.readouterr().out)
    assert sum(done["pixels"].values()) == 24 * 3 * 20
    assert done["outputs"]["nifti"] == str(out / "segmentations")
    # What LiTS gives the training for slices is what the model saw.
    labels = tmp_path / "lits" / "segmentation-0.nii"
    labels.parent.mkdir()
    save(labels, np.zeros((24, 3, 20), np.uint8), AFFINE)
    (labels.parent / scan.name).write_bytes(scan.read_bytes())
    segmenter = load_semantic_segmenter(model)
    expected = np.stack([segmenter.segment(sample.image) for sample in Lits(labels.parent)])
    written = out / "segmentations" / scan.name
    found = open_volume(written).read_zyx()
    assert found.shape == (3, 20, 24)
    assert np.array_equal(found, expected)
    assert len(np.unique(found)) > 1
    original, saved = nibabel.load(scan), nibabel.load(written)
    assert np.array_equal(saved.affine, original.affine)
    assert saved.shape == original.shape
    assert saved.get_data_dtype() == np.uint8
    assert (out / "classes.txt").read_text().splitlines()[1] == "1: liver"
    shown = sorted(path.name for path in (out / "overlays" / "volume-0").iterdir())
    assert shown == ["0000.png", "0001.png", "0002.png"]
    assert (out / "overlay_classes.png").is_file()


def test_the_window_and_a_folder_of_volumes_and_images(model, scan, tmp_path, capsys):
    Image.new("RGB", (16, 12)).save(tmp_path / "photo.png")
    out = tmp_path / "out"
    options = MapOptions(window="-100,50")
    predict(str(model), tmp_path, out=out, averaging=options, json=True, quiet=True)
    done = json.loads(capsys.readouterr().out)
    assert done["images"] == 2
    assert (out / "masks" / "photo.png").is_file()
    found = open_volume(out / "segmentations" / scan.name)
    grey = windowed(open_volume(scan).slice_yx(1), (-100, 50))
    expected = load_semantic_segmenter(model).segment(np.repeat(grey[..., None], 3, axis=2))
    assert np.array_equal(found.slice_yx(1), expected)


def test_volumes_that_cannot_be_are_named_and_others_go_on(model, scan, tmp_path):
    save(tmp_path / "four.nii", np.zeros((2, 2, 2, 2), np.int16), AFFINE)
    save(tmp_path / "flat.nii", np.zeros((2, 2), np.int16), AFFINE)
    save(tmp_path / "lost.nii", np.zeros((20, 20, 2), np.int16), None)
    (tmp_path / "none.nii").write_bytes(b"no volume")
    for name, reason in {
        "four": r"four\.nii has size \(2, 2, 2, 2\): expected three axes",
        "flat": r"flat\.nii has size .*: expected three axes",
        "lost": r"lost\.nii has neither qform nor sform.* --axes LPS",
        "none": r"cannot read the volume .*none\.nii",
    }.items():
        with pytest.raises(PixelkinError, match=reason):
            predict(str(model), tmp_path / f"{name}.nii", out=tmp_path / name, quiet=True)
        assert not (tmp_path / name).exists()
    out = tmp_path / "out"
    with pytest.raises(PixelkinError, match=r"4 of 5 images gave no result.* are in .*out"):
        predict(str(model), tmp_path, out=out, quiet=True)
    assert [path.name for path in (out / "segmentations").iterdir()] == [scan.name]
    options = MapOptions(axes="LPS")
    predict(str(model), tmp_path / "lost.nii", out=out, averaging=options, quiet=True)
    assert (out / "segmentations" / "lost.nii").is_file()


def test_what_a_volume_does_not_go_with_is_refused(model, scan, tmp_path, monkeypatch):
    out = tmp_path / "out"
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.png")
    for images, options, reason in (
        ((scan,), {"format": "png"}, "is a volume, which is written as nifti"),
        ((tmp_path / "photo.png",), {"format": "nifti"}, "nifti is for volumes, and none is"),
        ((tmp_path,), {"format": "nifti"}, "photo.png is no volume; add png"),
        ((scan,), {"averaging": MapOptions(window="50")}, "--window is 50, expected two"),
        ((tmp_path / "photo.png",), {"averaging": MapOptions(window="0,1")}, "is for volumes"),
    ):
        with pytest.raises(PixelkinError, match=reason):
            predict(str(model), *images, out=out, quiet=True, **options)
    with pytest.raises(PixelkinError, match=r"volume-0\.nii\.gz is a volume, .* semantic model"):
        predict("otsu", scan, out=out, quiet=True)
    # A volume that only lies in a folder of photos is passed over.
    predict("otsu", tmp_path, out=tmp_path / "objects", quiet=True)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(PixelkinError, match=r"pip install 'pixelkin\[medical\]'"):
        predict(str(model), scan, out=out, quiet=True)
    assert not out.exists()


def test_tags_are_of_images_alone(model, scan, tmp_path):
    (tmp_path / "tags.csv").write_text("volume-0.nii,liver\n")
    options = MapOptions(tags=tmp_path / "tags.csv")
    with pytest.raises(PixelkinError, match="--tags are for images, and there is none"):
        predict(str(model), scan, out=tmp_path / "out", averaging=options, quiet=True)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def narrow(model, tmp_path):
    """The same model, trained, as it says, in another window."""
    config = {**CONFIG, "window_hu": [-100, 50]}
    save_semantic_model(load_semantic_network(model), tmp_path / "narrow", config, "")
    return tmp_path / "narrow"


def test_the_model_says_its_window(model, narrow, scan, tmp_path):
    def found(folder, **options):
        out = tmp_path / "out"
        predict(str(folder), scan, out=out, quiet=True, **options)
        return open_volume(out / "segmentations" / scan.name).read_zyx()

    own = found(narrow)
    assert np.array_equal(own, found(model, averaging=MapOptions(window="-100,50")))
    usual = found(model)
    assert (own != usual).any()
    # What is said here wins.
    assert np.array_equal(found(narrow, averaging=MapOptions(window="-200,250")), usual)


def test_models_are_judged_each_in_its_window(model, narrow, scan, tmp_path, capsys):
    lits = tmp_path / "lits"
    lits.mkdir()
    segment = load_semantic_segmenter(model).segment
    truth = segment_volume(segment, open_volume(scan), window_hu=(-100, 50))
    save_segmentation(lits / "segmentation-0.nii", truth, like=open_volume(scan))
    (lits / scan.name).write_bytes(scan.read_bytes())

    def judged(*words):
        models = f"{model},{narrow}"
        assert main(["evaluate", f"lits:{lits}", "--model", models, "--json", *words]) == 0
        done = json.loads(capsys.readouterr().out)
        return [done[str(one)]["overlap/mIoU"] for one in (model, narrow)]

    def expected(window_hu):
        segmenter = load_semantic_segmenter(model)
        return evaluate_semantic(segmenter, Lits(lits, window_hu=window_hu))["overlap/mIoU"]

    usual, other = expected((-200, 250)), expected((-100, 50))
    assert usual < other == 1
    assert judged() == [usual, other]
    assert judged("--window=-200,250") == [usual, usual]
    assert judged("--window=-100,50") == [other, other]
    photos = tmp_path / "photos"
    make_pngs(photos)
    assert main(["evaluate", f"pngs:{photos}", "--model", str(model), "--window=0,1"]) == 1
    assert "--window is for volumes" in capsys.readouterr().err
