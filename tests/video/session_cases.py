"""References of every kind, and label maps of sessions that know nothing else."""

import numpy as np
from tiny_model import tiny_runtime

from pixelkin.grouping.references import Box, Click, Mask, Reference, Scribble
from pixelkin.structures import IGNORE
from pixelkin.video import ClipSession

FRAMES = 8


def fresh_labels(clip, references, order=None, **options) -> np.ndarray:
    """All label maps from a session that knows nothing but these references."""
    with ClipSession(tiny_runtime(), clip, **options) as session:
        session.add(*references)
        found = {t: session.labels(t) for t in (order or range(len(clip)))}
    return np.stack([found[t] for t in sorted(found)])


def random_reference(rng: np.random.Generator, truth: np.ndarray) -> Reference:
    frames, h, w = truth.shape
    frame = int(rng.integers(frames))
    object_id = int(rng.integers(1, 4))
    x, y = float(rng.uniform(0, w)), float(rng.uniform(0, h))
    kind = rng.choice(["click", "negative", "background", "scribble", "box", "mask", "part"])
    if kind in ("click", "negative"):
        return Click(frame, (x, y), object_id, positive=bool(kind == "click"))
    if kind == "background":
        return Click(frame, (x, y), 0)
    if kind == "scribble":
        return Scribble(frame, ((x, y), (float(rng.uniform(0, w)), y)), object_id, 3)
    if kind == "box":
        return Box(frame, (x - 20, y - 15, x + 20, y + 15), object_id)
    labels = truth[frame].copy()
    labels[labels == 1] = object_id
    if kind == "part":
        labels[:, : w // 2] = IGNORE
    return Mask.from_labels(frame, labels)


REFERENCES = (
    Click(6, (40.0, 20.0), 1),
    Scribble(3, ((60.0, 40.0), (72.0, 52.0)), 2),
    Click(1, (60.0, 10.0), 0),
    Box(7, (30.0, 4.0, 66.0, 36.0), 3),
)
