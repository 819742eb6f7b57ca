"""A method of your own in the DAVIS harness, beside the one to beat.

    python examples/judge_a_method.py DAVIS_ROOT [--sequences NAME ...] [--out FOLDER]

A method is a function: a clip and the label map of its first frame in, a label map per frame out.
The one here takes each colour for object or background as in the first frame, near where the object
was last. FOLDER gets masks, tables and the worst frames.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from pixelkin.assess import assess, build_method
from pixelkin.data.clips.davis import VideoFolder
from pixelkin.errors import one_line_errors
from pixelkin.evaluation.video import text_table
from pixelkin.media import Clip

NEAR = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (31, 31))


def bins(frame: np.ndarray) -> np.ndarray:
    """Which of 16×16×16 colours each pixel has."""
    return (frame >> 4).astype(int) @ (256, 16, 1)


def by_colour(clip: Clip, first_labels: np.ndarray) -> Iterator[np.ndarray]:
    """Follow object 1 by a histogram of its colours."""
    found, first = (first_labels == 1).astype(np.uint8), bins(clip[0])
    on, off = (np.bincount(first[first_labels == i], minlength=4096) for i in (1, 0))
    yield found
    for frame in clip.frames(1):
        likely = (on > off)[bins(frame)] & (cv2.dilate(found, NEAR) > 0)
        found = cv2.medianBlur(likely.astype(np.uint8), 5)
        yield found


@one_line_errors()
def main(arguments: list[str] | None = None) -> None:
    """Judge it and the copied first mask by the same measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="holds JPEGImages/480p and Annotations/480p")
    parser.add_argument("--sequences", nargs="+", help="names; the first where left out")
    parser.add_argument("--out", type=Path, default=Path("judged"), help="folder for the results")
    given = parser.parse_args(arguments)

    data = VideoFolder(given.root, year=2016)
    sequences = given.sequences or data.sequences[:1]
    for name, method in (("by_colour", by_colour), ("copy", build_method("copy"))):
        judged = assess(data, method, name=name, sequences=sequences, out=given.out / name)
        print(f"{name}\n{text_table(judged.report)}\n")


if __name__ == "__main__":
    main()
