"""The benchmark with the first mask given: a method's masks, measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pixelkin.assess.files import Assessment, write_assessment
from pixelkin.assess.methods import ClipMethod, LabelMap, MasksIn, SequenceClip
from pixelkin.data.clips.davis import VideoFolder
from pixelkin.errors import PixelkinError
from pixelkin.evaluation.video import (
    DAVIS_2016_UNSTABLE,
    Report,
    SequenceResult,
    evaluate_sequence_2016,
    evaluate_sequence_2017,
)
from pixelkin.masks import write_indexed_png

Progress = Callable[[str, int, int], None]
"""Called with what is under way, steps done, and steps in all."""


def assess(
    data: VideoFolder,
    method: ClipMethod,
    *,
    name: str = "",
    year: int = 2016,
    sequences: Sequence[str] | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Assessment:
    """Give a method the first mask of each sequence and judge all its masks.

    Args:
        data: clips with a mask for every frame, opened with the same `year`.
        method: from `build_method` or `masks_in`.
        name: of the method, for the files.
        year: rules of DAVIS 2016, which include T, or 2017.
        sequences: names; None takes all.
        out: folder for the masks (`masks/<sequence>/<frame>.png`), `table.txt`, `per_frame.json`,
            `summary.json` and `worst.png`; None writes nothing.
        progress: called after every frame.

    Raises:
        PixelkinError: no such sequence, frames without mask, fewer than 3 frames.
    """
    if year not in (2016, 2017):
        raise PixelkinError(f"year {year} is unknown: expected 2016 or 2017")
    names = list(data.sequences if sequences is None else sequences)
    _check_annotated(data, names)
    results: list[SequenceResult] = []
    frames, seconds = 0, 0.0
    for sequence in names:
        clip = SequenceClip(data, sequence)
        start = time.perf_counter()
        found = _run(method, clip, data.labels_at(sequence, 0), sequence, progress)
        seconds += time.perf_counter() - start
        frames += len(found)
        if out is not None:
            for frame_name, labels in zip(clip.names, found, strict=True):
                write_indexed_png(out / "masks" / sequence / f"{frame_name}.png", labels)
        truths = list(data.labels(sequence))
        if year == 2016:
            results.append(evaluate_sequence_2016(found, truths, name=sequence))
        else:
            results.append(evaluate_sequence_2017(found, truths, name=sequence))
    unstable = DAVIS_2016_UNSTABLE if year == 2016 else frozenset()
    timed = None if isinstance(method, MasksIn) else seconds
    assessment = Assessment(name, year, Report(tuple(results), unstable), frames, timed)
    if out is not None:
        write_assessment(out, assessment, data)
    return assessment


def _run(
    method: ClipMethod,
    clip: SequenceClip,
    first_labels: LabelMap,
    sequence: str,
    progress: Progress | None,
) -> list[LabelMap]:
    found: list[LabelMap] = []
    for labels in method(clip, first_labels):
        found.append(labels)
        if progress is not None:
            progress(sequence, len(found), len(clip))
    if len(found) != len(clip):
        raise PixelkinError(
            f"the method gave {len(found)} masks of {sequence}, expected {len(clip)}; "
            "yield one per frame, the first included"
        )
    return found


def _check_annotated(data: VideoFolder, names: Sequence[str]) -> None:
    """Refuse at once what would fail after hours."""
    for name in names:
        have, want = len(data.annotated(name)), len(data.frame_paths(name))
        if have != want or want < 3:
            raise PixelkinError(
                f"sequence {name} has masks for {have} of {want} frames, expected one for every "
                "frame, and 3 or more; choose other sequences"
            )
