"""`pixelkin predict`: objects or classes in stills, found by a model and written out."""

from __future__ import annotations

import json as json_text
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from pixelkin.cli import volumes
from pixelkin.cli.map_options import MapOptions
from pixelkin.cli.map_writing import MAP_FORMATS, MapWriting
from pixelkin.cli.object_writing import FORMATS, ObjectWriting
from pixelkin.cli.options import Flag, output_folder, split_list
from pixelkin.cli.segmenters import gives_class_maps, is_model, load_model
from pixelkin.cli.stages import Stages
from pixelkin.cli.words import counted
from pixelkin.errors import PixelkinError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

    from pixelkin.instances.segmenter import Segmenter
    from pixelkin.structures import Instances


_SHOWN_FAILURES = 10


@Parameter(name="*")
@dataclass(frozen=True)
class Finding:
    """How objects are found.

    Attributes:
        min_score: objects of a lower score are left out.
        tile: larger images go through the network in tiles of so many pixels; 0 never.
        device: auto (a GPU where there is one), cpu, cuda, cuda:1 or mps.
    """

    min_score: float = 0.5
    tile: int = 1024
    device: str = "auto"

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise PixelkinError(f"--min-score is {self.min_score:g}, expected 0 to 1; try 0.5")
        if self.tile < 0:
            raise PixelkinError(f"--tile is {self.tile}, expected pixels, or 0 for none; try 1024")


def predict(
    model: str,
    /,
    *images: Path,
    out: Path,
    format: Annotated[str, Parameter(show_default=False)] = "",
    overlays: Flag = False,
    finding: Finding = Finding(),  # frozen
    averaging: MapOptions = MapOptions(),  # noqa: B008
    json: Flag = False,
    quiet: Flag = False,
) -> int:
    """Find the objects of images, or the class of every pixel, and write them down.

    Example: pixelkin predict run/model photos --out found --format coco,png --overlays

    An image that cannot be read is reported, the others go on; the exit status is then 1.

    Args:
        model: checkpoint folder or hub id of an instance or semantic model; or one inside: nuclei,
            nuclei-discriminative, pedestrians, pedestrians-discriminative, otsu (not learned).
        images: image files, and folders of images. With a semantic model also volumes, as
            computed tomographies in NIfTI (.nii, .nii.gz), which are taken slice by slice.
        out: folder for the results; files of an earlier run are replaced where names are equal.
        format: several are separated by commas. Objects: coco (the default), coco-results (a list
            for COCO's tools), yolo, labelme, png (ids as pixels).
            Classes: png (the default; named in classes.txt), coco, coco-results (class regions);
            cityscapes, kitti (label ids for their servers), bdd-lanes (lane bytes), of models of
            their classes. Of volumes: nifti, which lies on the volume voxel by voxel.
        overlays: write each image with its objects or classes tinted and outlined, too.
        json: print one JSON object.
        quiet: show no progress.
    """
    _check_order(model, images)
    paths = list_images(images)
    semantic = gives_class_maps(model)
    formats = tuple(MAP_FORMATS if semantic else FORMATS)
    if semantic:
        format = volumes.formats_for(paths, format, formats[0])
        averaging.check_used([kind.strip() for kind in format.split(",")])
    else:
        paths = volumes.without_volumes(paths, images, model)
    kinds = split_list(format or formats[0], formats, "format")
    with Stages(quiet=quiet) as stages, output_folder(out):
        with stages.stage("load"):
            find, names, place, window_hu = _finder(model, finding, averaging, semantic=semantic)
        stages.say(f"{counted(len(paths), 'image')}, {model} on {place}")
        if "bdd-lanes" in kinds and not (averaging.lane_styles and averaging.lane_directions):
            stages.say("without --lane-styles lanes are solid, without --lane-directions parallel")
        writing = (MapWriting if semantic else ObjectWriting)(out, kinds, names, overlays=overlays)
        if isinstance(writing, ObjectWriting):
            writing.min_score = finding.min_score
        else:
            writing.window_hu = window_hu
            writing.benchmarks = averaging.benchmark_writers(
                kinds, names, device=finding.device, tile_px=finding.tile
            )
        stills = [path for path in paths if not volumes.is_volume(path)]
        shown = averaging.shown(stills, names, say=stages.say)
        failed = _run(find, paths, writing, stages, shown=shown, axes=averaging.axes)
    done = {
        "model": model,
        "device": place,
        "out": str(out),
        "outputs": {kind: str(path) for kind, path in writing.places.items()},
        "class_names": list(names),
        "images": len(paths) - len(failed),
        **writing.counted(),
        "failed": [{"image": str(path), "reason": reason} for path, reason in failed.items()],
        "seconds": {name: round(spent, 3) for name, spent in stages.seconds.items()},
    }
    if json:
        print(json_text.dumps(done, ensure_ascii=False))
    elif not quiet:
        lines = [f"{kind:>12}  {where}" for kind, where in writing.places.items()]
        print(*lines, writing.summary(done["images"], place), sep="\n")
    if failed:
        raise PixelkinError(f"{_sum_up(failed, len(paths))}; the other results are in {out}")
    return 0


def _finder(
    model: str, finding: Finding, averaging: MapOptions, *, semantic: bool
) -> tuple[Callable[..., Any], tuple[str, ...], str, tuple[float, float] | None]:
    """From an image to what is found in it; the names of its classes; where that runs; and the
    Hounsfield units of `SemanticSegmenter`."""
    if semantic:
        if finding.min_score != Finding().min_score:
            raise PixelkinError(
                f"--min-score is for instance models, and {model} gives every pixel a class; "
                "leave it out"
            )
        maps = averaging.load(model, device=finding.device, tile_px=finding.tile)
        return maps.segment, maps.class_names, str(maps.device), maps.window_hu
    if given := averaging.given():
        raise PixelkinError(
            f"{given[0]} is for semantic models, and {model} finds objects; leave it out"
        )
    segmenter = load_model(model, device=finding.device, tile_px=finding.tile)
    _check_options(finding, segmenter, model)

    def find(image: UInt8[np.ndarray, "h w 3"]) -> Instances:
        return at_least(segmenter.segment(image), finding.min_score)

    return find, segmenter.class_names, str(getattr(segmenter, "device", "cpu")), None


def _check_order(model: str, images: tuple[Path, ...]) -> None:
    """Raise `PixelkinError` where a model stands among the images, and none where it should."""
    last = next((str(path) for path in images if is_model(str(path))), None)
    if last is not None and not is_model(model):
        raise PixelkinError(
            f"{last} is a model, and stands behind {model}: MODEL stands before IMAGES; write "
            f"pixelkin predict {last} {model}"
        )


def list_images(given: tuple[Path, ...]) -> list[Path]:
    """The files among `given` and the images directly in its folders, in natural order.

    Raises `PixelkinError` where there is none, a path is missing, or two images share a stem: their
    results would have one name.
    """
    from pixelkin.media import frame_paths

    if not given:
        raise PixelkinError("no image is named, expected files or folders; name them after MODEL")
    paths: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = frame_paths(path) + volumes.volumes_in(path)
            if not inside:
                raise PixelkinError(
                    f"folder {path} holds no image, expected some directly in it; choose the "
                    "folder that does"
                )
            paths += inside
        elif path.is_file():
            paths.append(path)
        else:
            raise PixelkinError(f"no image or folder at {path}; check the path")
    unique = {os.path.abspath(path): path for path in paths}
    owner: dict[str, Path] = {}
    for path in unique.values():
        # Some file systems take A.json and a.json for one file.
        stem = volumes.stem_of(path)
        other = owner.setdefault(stem.casefold(), path)
        if other is not path:
            raise PixelkinError(
                f"{other} and {path} share the name {stem}, and so would their results; "
                "rename one, or run them into two folders"
            )
    return list(unique.values())


def _check_options(finding: Finding, segmenter: Segmenter, model: str) -> None:
    """Raise `PixelkinError` for an option that is given, but not used by this model."""
    if finding.tile not in (0, Finding.tile) and not hasattr(segmenter, "tile_px"):
        raise PixelkinError(
            f"--tile is for the methods seeds, discriminative and boundary; {model} takes every "
            "image whole; leave it out"
        )
    if finding.device not in ("auto", "cpu") and not hasattr(segmenter, "device"):
        raise PixelkinError(
            f"--device {finding.device} is for learned models; {model} runs on the CPU; leave it "
            "out"
        )


def _run(
    find: Callable[..., Any],
    paths: list[Path],
    writing: ObjectWriting | MapWriting,
    stages: Stages,
    *,
    shown: Mapping[Path, tuple[int, ...]],
    axes: str | None,
) -> dict[Path, str]:
    """Find and write, an image at a time. Returns the images that gave no result, and why.

    Of those in `shown` the classes are known.
    """
    from pixelkin.data.reading import read_image

    failed: dict[Path, str] = {}
    with ExitStack() as stack:
        writing.open(stack)
        for path in stages.each("images", paths):
            try:
                if isinstance(writing, MapWriting) and volumes.is_volume(path):
                    volume, labels = volumes.find_in_volume(
                        path, find, stages, axes=axes, window_hu=writing.window_hu
                    )
                    write: Callable[[], None] = partial(writing.write_volume, path, volume, labels)
                else:
                    with stages.stage("read"):
                        image = read_image(path)
                    with stages.stage("find"):
                        found = find(image, among=shown[path]) if path in shown else find(image)
                    write = partial(writing.write, path, image, found)
            except (PixelkinError, MemoryError, RuntimeError) as error:
                failed[path] = _reason(path, error)
                stages.say(f"no result: {failed[path]}")
                continue
            with stages.stage("write"):
                write()
        if len(failed) == len(paths):
            raise PixelkinError(_sum_up(failed, len(paths)))
    return failed


def at_least(found: Instances, min_score: float) -> Instances:
    """The objects of that score or a better one."""
    from pixelkin.structures import Instances

    kept = [index for index, score in enumerate(found.scores) if score >= min_score]
    return Instances(
        found.size_hw,
        tuple(found.rles[index] for index in kept),
        tuple(found.categories[index] for index in kept),
        tuple(found.scores[index] for index in kept),
    )


def _reason(path: Path, error: Exception) -> str:
    """Why an image gave no result, in a line; raises what is no matter of this image."""
    if isinstance(error, PixelkinError):
        return str(error)
    # torch has an error of its own for GPUs only.
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        return f"{path} needs more memory than there is; give a smaller --tile, or scale it down"
    raise error


def _sum_up(failed: dict[Path, str], count: int) -> str:
    """One line of all that failed."""
    if count == 1:
        return next(iter(failed.values()))
    names = [path.name for path in failed]
    rest = len(names) - _SHOWN_FAILURES
    shown = ", ".join(names[:_SHOWN_FAILURES]) + (f" and {rest} more" if rest > 0 else "")
    first = next(iter(failed.values()))
    return f"{len(failed)} of {count} images gave no result ({shown}): {first}"
