"""Several objects, each marked its own way in its own frame; then a correction, and an undo.

    python examples/several_objects_any_frame.py [CLIP MASK] [--frames N] [--out VIDEO]

The places below are those of bikes.mp4, a clip that comes with `.[demo]`: for a clip of your own,
change them. MASK is an indexed PNG of the frame START. Writes an overlay video.
"""

import argparse
from importlib.resources import files
from pathlib import Path

import numpy as np

import pixelkin
from pixelkin.demo.scenes import clips_folder
from pixelkin.errors import one_line_errors
from pixelkin.grouping.references import Box, Click, Mask, Scribble
from pixelkin.masks import read_indexed_png
from pixelkin.media import open_clip
from pixelkin.results import write_overlay_video
from pixelkin.video import ClipSession

START = 30
CAR = Scribble(START, ((440, 110), (490, 30), (540, 180), (600, 150)), object_id=2, width_px=7)
VAN = Box(START + 6, (0, 112, 105, 272), object_id=3)
NOT_THE_RIDER = Click(START + 6, (300, 60), object_id=1, positive=False)


@one_line_errors()
def main(arguments: list[str] | None = None) -> None:
    """Mark, look, correct, take back."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=Path, help="video, or folder of images")
    first_mask = files("pixelkin.demo") / "bikes_first_mask.png"
    parser.add_argument("mask", nargs="?", default=first_mask, help=f"indexed PNG of frame {START}")
    parser.add_argument("--frames", type=int, default=12, help="how many are written")
    parser.add_argument("--out", type=Path, default=Path("objects.mp4"), help="overlay video")
    given = parser.parse_args(arguments)

    path = given.clip or clips_folder() / "bikes.mp4"
    with open_clip(path) as clip, ClipSession(pixelkin.load(), clip) as session:
        session.add(Mask.from_labels(START, read_indexed_png(given.mask)), CAR)
        session.add(VAN)  # in mid-clip; it is followed backward too
        before = session.labels(VAN.frame)
        session.add(NOT_THE_RIDER)  # no frame is embedded again
        changed = np.mean(session.labels(VAN.frame) != before)
        session.undo()
        assert np.array_equal(session.labels(VAN.frame), before)
        print(f"objects {session.object_ids}; the correction changed {changed:.2%} of its frame")
        stop = min(START + given.frames, len(clip))
        found = [session.segments(frame) for frame in range(START, stop)]
        write_overlay_video(given.out, clip.frames(START, stop), found, fps=clip.fps)
    print(given.out)


if __name__ == "__main__":
    main()
