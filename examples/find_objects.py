"""Objects of photos, found by a trained model or without one.

    python examples/find_objects.py [PHOTO ...] [--model MODEL] [--min-score S] [--out FOLDER]

MODEL is a checkpoint folder, RUN/model of `pixelkin train seeds DATA --out RUN`, or a hub id;
without it, Otsu's threshold and a watershed, which know only blobs. Without PHOTO, the coins that
come with scikit-image. Objects from the score S on are listed; FOLDER gets each photo with all of
them tinted, and one COCO JSON.
"""

import argparse
from pathlib import Path

import numpy as np
from skimage.data import coins

from pixelkin.errors import one_line_errors
from pixelkin.instances.checkpoints import load_segmenter
from pixelkin.instances.otsu import OtsuWatershed
from pixelkin.masks import rle_area
from pixelkin.media import read_image
from pixelkin.results import CocoWriter, write_instance_overlay


@one_line_errors()
def main(arguments: list[str] | None = None) -> None:
    """Find, look, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="*", type=Path, help="image files")
    parser.add_argument("--model", help="checkpoint folder, or hub id")
    parser.add_argument("--min-score", type=float, default=0.5, help="of objects listed")
    parser.add_argument("--out", type=Path, default=Path("objects"), help="folder for the results")
    given = parser.parse_args(arguments)

    segmenter = load_segmenter(given.model) if given.model else OtsuWatershed()
    photos = {path.name: read_image(path) for path in given.photos}
    if not photos:
        photos["coins.png"] = np.stack([coins()] * 3, axis=2)
    with CocoWriter(given.out / "objects.json", class_names=segmenter.class_names) as coco:
        for name, photo in photos.items():
            found = segmenter.segment(photo)
            objects = zip(found.rles, found.categories, found.scores, strict=True)
            for rle, category, score in objects:  # best first
                if score >= given.min_score:
                    area_px = rle_area(rle, found.size_hw)
                    print(f"{name}: {segmenter.class_names[category]}, {score:.2f}, {area_px} px")
            coco.write(name, found)
            write_instance_overlay(given.out / f"{Path(name).stem}.png", photo, found)


if __name__ == "__main__":
    main()
