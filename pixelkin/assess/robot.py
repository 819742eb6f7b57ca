"""The interactive benchmark: a robot scribbles where the masks of a session are worst."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pixelkin.assess.files import provenance, write_json
from pixelkin.assess.first_mask import Progress
from pixelkin.assess.methods import LabelMap, SequenceClip
from pixelkin.data.clips.davis import VideoFolder
from pixelkin.errors import PixelkinError
from pixelkin.evaluation.interactive import (
    InteractiveResult,
    Scribbles,
    evaluate_interactive,
    read_scribbles,
    scribble_robot,
)
from pixelkin.grouping.references import Scribble
from pixelkin.runtime import Runtime
from pixelkin.video import ClipSession


def assess_interactive(
    data: VideoFolder,
    runtime: Runtime,
    *,
    sequences: Sequence[str] | None = None,
    scribbles: Path | None = None,
    max_interactions: int = 8,
    out: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run the DAVIS interactive protocol through a `ClipSession` per sequence.

    One session serves all interactions of a sequence, so frames are embedded once, in the first.

    Args:
        data: clips with a mask for every frame.
        runtime: from `pixelkin.load`.
        sequences: names; None takes all.
        scribbles: folder with the first scribbles, `<sequence>/001.json`; None lets the robot
            draw them in the first frame.
        max_interactions: rounds at most.
        out: folder for `interactive.json`; None writes nothing.
        progress: called after every interaction.

    Returns:
        Plain data: mean `AUC` and `J&F@60s`, and `sequences`, each with these, times and scores.
    """
    names = list(data.sequences if sequences is None else sequences)
    done: dict[str, Any] = {}
    for name in names:
        truths = list(data.labels(name))
        first = _first_scribbles(scribbles, name, truths)
        done[name] = _work(
            SequenceClip(data, name), runtime, truths, first, max_interactions, progress
        ).to_json()
    means = {
        key: float(np.mean([entry[key] for entry in done.values()])) for key in ("AUC", "J&F@60s")
    }
    result = {**means, "sequences": done, "device": runtime.name}
    if out is not None:
        write_json(out / "interactive.json", {**result, **provenance()})
    return result


def _work(
    clip: SequenceClip,
    runtime: Runtime,
    truths: list[LabelMap],
    first: Scribbles,
    max_interactions: int,
    progress: Progress | None,
) -> InteractiveResult:
    rounds = 0
    with ClipSession(runtime, clip) as session:

        def predict(strokes: Scribbles) -> list[LabelMap]:
            nonlocal rounds
            session.replace_all(to_references(strokes, clip.size_hw))
            labels = list(session.all_labels())
            rounds += 1
            if progress is not None:
                progress(clip.path.name, rounds, max_interactions)
            return labels

        return evaluate_interactive(predict, truths, first, max_interactions=max_interactions)


def to_references(strokes: Scribbles, size_hw: tuple[int, int]) -> list[Scribble]:
    """The robot's strokes, in shares of the frame, as references in pixels."""
    height, width = size_hw
    return [
        Scribble(
            frame,
            # 0 and 1 are the centres of the first and the last pixel.
            tuple((x * (width - 1) + 0.5, y * (height - 1) + 0.5) for x, y in stroke.path_xy),
            stroke.object_id,
        )
        for frame in sorted(strokes)
        for stroke in strokes[frame]
    ]


def _first_scribbles(folder: Path | None, name: str, truths: list[LabelMap]) -> Scribbles:
    if folder is not None:
        return read_scribbles(folder / name / "001.json")
    drawn = scribble_robot(np.zeros_like(truths[0]), truths[0])
    if not drawn:
        raise PixelkinError(
            f"the first frame of {name} shows no object to scribble on; give first scribbles"
        )
    return {0: drawn}
