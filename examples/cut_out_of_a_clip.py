"""A click in a clip → the object cut out: video with alpha, and a mask per frame.

    python examples/cut_out_of_a_clip.py [CLIP] [--click FRAME:X,Y] [--frames N] [--out FOLDER]

CLIP is a video or a folder of images; without it, a rabbit in a clip that comes with `.[demo]`.
Writes FOLDER/cutout.mov (ProRes 4444 with alpha) and FOLDER/masks/*.png (indexed, as DAVIS has
them).
"""

import argparse
from pathlib import Path

import pixelkin
from pixelkin.demo.scenes import clips_folder
from pixelkin.errors import one_line_errors
from pixelkin.grouping.reference_text import parse_click
from pixelkin.media import open_clip
from pixelkin.results import write_cutout_video, write_davis_png
from pixelkin.video import ClipSession


@one_line_errors()
def main(arguments: list[str] | None = None) -> None:
    """Cut out what the click is on, from its frame on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=Path, help="video, or folder of images")
    parser.add_argument("--click", type=parse_click, default="24:370,400", help="FRAME:X,Y")
    parser.add_argument("--frames", type=int, default=24, help="how many, from the click's on")
    parser.add_argument("--out", type=Path, default=Path("cut"), help="folder for the results")
    given = parser.parse_args(arguments)

    path = given.clip or clips_folder() / "bigbuckbunny.mp4"
    with open_clip(path) as clip, ClipSession(pixelkin.load(), clip) as session:
        session.add(given.click)
        start = given.click.frame
        stop = min(start + given.frames, len(clip))
        # Run-length encoded: a whole clip's masks fit into memory, its frames need not.
        found = [session.segments(frame) for frame in range(start, stop)]
        cutout = given.out / "cutout.mov"
        write_cutout_video(cutout, clip.frames(start, stop), found, fps=clip.fps)
        names = (f"{frame:05}" for frame in range(start, stop))
        count = write_davis_png(given.out / "masks", found, names)
    print(f"frames: {count}, in {cutout} and {given.out / 'masks'}")


if __name__ == "__main__":
    main()
