"""`pixelkin track`: marked objects, cut out of a clip."""

from __future__ import annotations

import json as json_text
import math
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter

from pixelkin.cli.clip_models import check_for_clips
from pixelkin.cli.options import Flag, Machine, output_folder, split_list
from pixelkin.cli.stages import Stages
from pixelkin.cli.words import counted
from pixelkin.errors import PixelkinError
from pixelkin.files import write_error

if TYPE_CHECKING:
    from pixelkin.grouping.references import Reference
    from pixelkin.media import Clip
    from pixelkin.structures import Segments
    from pixelkin.video import ClipSession

OUTPUTS = {
    "png": "masks",
    "overlay": "overlay.mp4",
    "cutout": "cutout.webm",
    "cutout-mov": "cutout.mov",
    "cutout-png": "cutout",
    "coco": "masks.json",
}
"""What `--write` takes → file or folder inside the output folder."""


@Parameter(name="*", show_default=False)
@dataclass(frozen=True)
class Marks:
    """What the user marks; every option may be given many times.

    Attributes:
        click: FRAME:X,Y[@OBJECT], such as 0:320,240@2. @0 marks background, @-2 says "not 2".
        scribble: JSON file with strokes.
        mask: FRAME:FILE, an indexed PNG of the clip's size.
        box: FRAME:LEFT,TOP,RIGHT,BOTTOM[@OBJECT].
    """

    click: tuple[str, ...] = ()
    scribble: tuple[Path, ...] = ()
    mask: tuple[str, ...] = ()
    box: tuple[str, ...] = ()


def track(
    clip: Path,
    /,
    *,
    marks: Marks = Marks(),  # frozen
    out: Path,
    write: str = "png,overlay",
    machine: Machine = Machine(),  # noqa: B008
    budget_mb: float = 512,
    json: Flag = False,
    quiet: Flag = False,
) -> int:
    """Cut marked objects out of a clip.

    Example: pixelkin track clip.mp4 --click 0:320,240 --out cut

    Args:
        clip: a video, a folder of frames, or one image.
        out: folder for the results; PNGs of an earlier run in its masks and cutout are removed.
        write: any of png, overlay, cutout, cutout-mov, cutout-png, coco, separated by commas.
        budget_mb: memory for embeddings; what is more goes to a temporary file.
        json: print one JSON object about the results.
        quiet: show no progress.
    """
    kinds = split_list(write, tuple(OUTPUTS), "output")
    if not (marks.click or marks.scribble or marks.mask or marks.box):
        raise PixelkinError(
            "nothing marks an object, expected a click, scribble, mask or box; "
            "for example --click 0:320,240 (frame 0, x 320, y 240)"
        )
    if not 1 <= budget_mb < math.inf:
        raise PixelkinError(f"--budget-mb is {budget_mb:g}, expected 1 or more; try 512")
    check_for_clips(machine.model, "track needs a model for clips; leave --model out")
    from pixelkin.media import open_clip
    from pixelkin.video import ClipSession

    with Stages(quiet=quiet) as stages, open_clip(clip) as opened:
        references = read_marks(marks, opened)
        with output_folder(out):
            with stages.stage("load"):
                runtime = machine.load()
            stages.say(f"{clip}: {counted(len(opened), 'frame')}, {runtime.name}")
            with ClipSession(runtime, opened, budget_mb=budget_mb) as session:
                session.add(*references)
                writing = Writing(opened, out, kinds)
                done = _run(session, writing, stages)
    done |= {"clip": str(clip), "device": runtime.name, "references": len(references)}
    _show(done, as_json=json, quiet=quiet)
    _warn_of_missing(references, writing.masks)
    return 0


def read_marks(marks: Marks, clip: Clip) -> list[Reference]:
    """The references that the options name, checked against the clip.

    Masks come first, then boxes, scribbles and clicks: of references that contradict each other
    the more precise one holds.
    """
    from pixelkin.grouping.reference_text import (
        parse_box,
        parse_click,
        parse_mask,
        read_scribbles,
    )
    from pixelkin.grouping.references import Click, Mask, check_reference, reference_object_ids
    from pixelkin.masks import read_indexed_png

    found: list[Reference] = []
    for text in marks.mask:
        frame, path = parse_mask(text)
        found.append(Mask.from_labels(frame, read_indexed_png(path, size_hw=clip.size_hw)))
    found += [parse_box(text) for text in marks.box]
    for file in marks.scribble:
        found += read_scribbles(file, clip.size_hw)
    found += [parse_click(text) for text in marks.click]
    for reference in found:
        check_reference(reference, clip.size_hw, len(clip))
    if not any(
        reference_object_ids(r) and not (isinstance(r, Click) and not r.positive) for r in found
    ):
        raise PixelkinError(
            "the references mark only background, expected at least one on an object; "
            "for example --click 0:320,240"
        )
    return found


@dataclass
class Writing:
    """What is written where, and the masks so far.

    Attributes:
        clip: the frames.
        out: folder.
        kinds: keys of `OUTPUTS`.
        masks: one per frame done.
        files: kind → path, of what is written whole.
    """

    clip: Clip
    out: Path
    kinds: list[str]
    masks: list[Segments] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)


def _run(session: ClipSession, writing: Writing, stages: Stages) -> dict[str, Any]:
    """Embed, find masks, write; of a damaged clip, as far as it can be read."""
    from pixelkin.media import DamagedClipError

    count, damage = len(writing.clip), None
    try:
        with stages.stage("embed"):
            for frame in stages.each("embed", range(count)):
                session.embed(frame)
    except DamagedClipError as error:
        references = [r for r in session.references if r.frame < frame]
        session.replace_all(references)
        if not session.object_ids:
            raise
        count, damage = frame, error
    _write(session, writing, stages, count)
    if damage is not None:
        raise PixelkinError(f"{damage} (masks of frames 0 to {count - 1} are in {writing.out})")
    work_s = stages.seconds["embed"] + stages.seconds["masks"]
    return {
        "out": str(writing.out),
        "outputs": {kind: str(path) for kind, path in writing.files.items()},
        "frames": count,
        "size_hw": list(writing.clip.size_hw),
        "objects": session.object_ids,
        "seconds": {name: round(spent, 3) for name, spent in stages.seconds.items()},
        "fps": round(count / max(work_s, 1e-9), 2),
    }


def _write(session: ClipSession, writing: Writing, stages: Stages, count: int) -> None:
    from pixelkin import results

    clip, masks, names = writing.clip, writing.masks, frame_names(writing.clip)[:count]
    found = _masks(session, masks, stages, count)
    files = [f"{name}.png" for name in names]
    # Masks are written as they come, so that an interruption loses none of them.
    if "png" in writing.kinds:
        writing.files["png"] = writing.out / OUTPUTS["png"]
        with stages.stage("png"):
            results.write_davis_png(writing.files["png"], found, files)
            _remove_others(writing.files["png"], files, clip)
        stages.seconds["png"] -= stages.seconds["masks"]
    else:
        deque(found, maxlen=0)
    for kind in writing.kinds:
        if kind == "png":
            continue
        path = writing.out / OUTPUTS[kind]
        with stages.stage(kind):
            shown = stages.each(kind, masks)
            if kind == "overlay":
                results.write_overlay_video(path, clip.frames(0, count), shown, fps=clip.fps)
            elif kind == "cutout-png":
                results.write_cutout_png(path, clip.frames(0, count), shown, files)
                _remove_others(path, files, clip)
            elif kind == "coco":
                results.write_coco_json(path, shown, names, video_name=clip.name)
            else:
                results.write_cutout_video(path, clip.frames(0, count), shown, fps=clip.fps)
        writing.files[kind] = path


def _remove_others(folder: Path, names: list[str], clip: Clip) -> None:
    """Remove the PNGs of an earlier run: a reader of the folder could not tell them from ours."""
    if clip.path.exists() and clip.path.samefile(folder):
        return
    kept = set(names)
    try:
        for path in folder.iterdir():
            if path.match("[!.]*.png") and path.name not in kept and path.is_file():
                path.unlink()
    except OSError as error:
        raise write_error(folder, error) from error


def _masks(
    session: ClipSession, masks: list[Segments], stages: Stages, count: int
) -> Iterator[Segments]:
    """Masks as they come; they are kept too, run-length encoded."""
    for frame in stages.each("masks", range(count)):
        with stages.stage("masks"):
            masks.append(session.segments(frame))
        yield masks[-1]


def frame_names(clip: Clip) -> list[str]:
    """Names for results: those of the frames of a folder, else 00000, 00001, …"""
    from pixelkin.media import frame_paths

    numbers = [f"{index:05}" for index in range(len(clip))]
    stems = [path.stem for path in frame_paths(clip.path)] if clip.path.is_dir() else []
    # a.jpg and a.png in one folder would overwrite each other's masks.
    return stems if len(set(stems)) == len(clip) else numbers


def _warn_of_missing(references: list[Reference], masks: list[Segments]) -> None:
    """One line for each object without a pixel in any frame in which it was marked."""
    from pixelkin.grouping.references import Click, reference_object_ids
    from pixelkin.masks import rle_area

    marked: dict[int, set[int]] = {}
    for reference in references:
        if not isinstance(reference, Click) or reference.positive:
            for object_id in reference_object_ids(reference):
                marked.setdefault(object_id, set()).add(reference.frame)
    for object_id, frames in sorted(marked.items()):
        found = [masks[frame] for frame in frames if object_id in masks[frame].rles]
        if not any(rle_area(each.rles[object_id], each.size_hw) for each in found):
            where = ", ".join(map(str, sorted(frames)))
            print(
                f"pixelkin: warning: object {object_id} has no mask in frame {where}, where it is "
                "marked; do marks of another object lie on the same pixels?",
                file=sys.stderr,
            )


def _show(done: dict[str, Any], *, as_json: bool, quiet: Flag) -> None:
    if as_json:
        print(json_text.dumps(done))
    elif not quiet:
        for kind, path in done["outputs"].items():
            print(f"{kind:>10}  {path}")
        count = counted(done["frames"], "frame")
        print(f"{count}, {done['fps']:g} frames per second ({done['device']})")
