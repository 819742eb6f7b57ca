"""The stills that the shipped models are trained on: four public sets, never a frame of DAVIS."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pixelkin.data.clips.bsds import Bsds
from pixelkin.data.clips.ccp import Ccp
from pixelkin.data.clips.synthetic_clips import shrink
from pixelkin.data.instances.penn_fudan import PennFudan
from pixelkin.data.instances.yolo_seg import YoloSeg
from pixelkin.data.splits import split_by_name
from pixelkin.errors import PixelkinError
from pixelkin.masks import paint_instances
from pixelkin.structures import InstanceSample, Sample


def _coco_mini(data: Path) -> YoloSeg:
    root = data / "coco_mini"
    return YoloSeg(root / "images/train2017", root / "instance_segmentation/labels/train2017")


_SOURCES: dict[str, Callable[[Path], YoloSeg | PennFudan | Ccp | Bsds]] = {
    "coco_mini": _coco_mini,
    "penn_fudan": lambda data: PennFudan(data / "penn_fudan"),
    "ccp": lambda data: Ccp(data / "ccp", target="person"),
    "bsds500": lambda data: Bsds(data / "bsds500", "train"),
}
# Fashion photos are many and alike; the varied sets are seen more often.
_REPEATS = {"coco_mini": 4, "penn_fudan": 1, "ccp": 1, "bsds500": 2}

STILL_SETS = tuple(_SOURCES)
"""Names of the sets."""

OBJECT_SETS = ("coco_mini", "penn_fudan", "ccp")
"""Those that tell objects from background; `bsds500` has regions everywhere."""


def still_sets(
    data: Path,
    *,
    validation: float,
    longest_px: int,
    limit: int = 0,
    names: Sequence[str] = STILL_SETS,
) -> tuple[list[Sample], list[Sample]]:
    """Stills to train on and stills held out, split by file name, read into memory.

    Args:
        data: folder that holds the sets, each in its public layout: `coco_mini`, `penn_fudan`,
            `ccp`, `bsds500`.
        validation: share that is held out.
        longest_px: larger stills are scaled down to this.
        limit: stills per set and part, for a quick trial; 0 takes all.
        names: the sets to take.

    Returns:
        (train, held out). Some sets come several times in `train`; the samples are shared.
    """
    train: list[Sample] = []
    held_out: list[Sample] = []
    for name in names:
        if name not in _SOURCES:
            raise PixelkinError(f"still set {name!r} is unknown; choose {', '.join(STILL_SETS)}")
        source = _SOURCES[name](data)
        ours, theirs = split_by_name(source.names, validation=validation)
        stop = limit or None
        train += [_still(source[i], longest_px) for i in ours[:stop]] * _REPEATS[name]
        held_out += [_still(source[i], longest_px) for i in theirs[:stop]]
    return train, held_out


def _still(sample: Sample | InstanceSample, longest_px: int) -> Sample:
    painted = paint_instances(sample) if isinstance(sample, InstanceSample) else sample
    return shrink(painted, longest_px=longest_px)
