"""One photo: embedded once, asked many times.

    python examples/one_photo.py [IMAGE] [--click 0:X,Y[@OBJECT] ...] [--out FOLDER]

Without IMAGE, a portrait that comes with scikit-image, and four clicks on it. Each click refines
the answer to the clicks before it; FOLDER gets the cut-out after every one.
"""

import argparse
from pathlib import Path

from PIL import Image
from skimage.data import astronaut

import pixelkin
from pixelkin.errors import one_line_errors
from pixelkin.files import atomic_path
from pixelkin.grouping.reference_text import parse_click
from pixelkin.media import read_image
from pixelkin.predictor import ImageSession
from pixelkin.results import cutout

CLICKS = [parse_click(text) for text in ("0:220,130", "0:170,70", "0:100,330", "0:400,420@-1")]


@one_line_errors()
def main(arguments: list[str] | None = None) -> None:
    """Ask after each click."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", nargs="?", type=Path, help="image file")
    parser.add_argument("--click", type=parse_click, action="append", help="may be given again")
    parser.add_argument("--out", type=Path, default=Path("photo"), help="folder for the cut-outs")
    given = parser.parse_args(arguments)

    image = read_image(given.image) if given.image else astronaut()
    with ImageSession(pixelkin.load()) as session:
        session.set_image(image)  # the network runs here, and nowhere below
        for number, click in enumerate(given.click or CLICKS, start=1):
            session.add(click)
            share = (session.labels() > 0).mean()
            print(f"after click {number}: {share:.1%} of the photo")
            with atomic_path(given.out / f"{number}.png") as temporary:
                Image.fromarray(cutout(image, session.segments())).save(temporary)


if __name__ == "__main__":
    main()
