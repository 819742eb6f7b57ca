"""Stills of bright and of dark discs: two classes that any colour tells apart."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from pixelkin.masks import encode_rle
from pixelkin.structures import Instance, InstanceSample

CLASS_NAMES = ("bright", "dark")


def disc_still(number: int, *, side: int = 96, radius: int = 9) -> InstanceSample:
    """Four discs, two of each class, that do not touch."""
    rng = np.random.default_rng(number)
    image = rng.normal(110, 6, (side, side, 3))
    y, x = np.mgrid[:side, :side]
    instances = []
    for n, (row, column) in enumerate(((1, 1), (1, 3), (3, 1), (3, 3))):
        centre = np.array([row, column]) * side / 4 + rng.uniform(-3, 3, 2)
        disc = np.hypot(y - centre[0], x - centre[1]) <= radius - rng.uniform(0, 2)
        image[disc] += (90, -80)[n % 2]
        instances.append(Instance(encode_rle(disc), n % 2))
    return InstanceSample(image.clip(0, 255).astype(np.uint8), tuple(instances), f"still{number}")


class DiscStills:
    """A source of `count` stills."""

    class_names = CLASS_NAMES

    def __init__(self, count: int, **options: int) -> None:
        self.count, self.options = count, options
        self.names = [f"still{number}" for number in range(count)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> InstanceSample:
        return disc_still(index, **self.options)

    def image_file(self, index: int) -> None:
        return None


def write_disc_coco(root: Path, *, count: int = 12, side: int = 96) -> tuple[Path, Path]:
    """The annotations as COCO JSON, and the folder of the images."""
    (root / "photos").mkdir(parents=True)
    content: dict = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 3, "name": "bright"}, {"id": 8, "name": "dark"}],
    }
    for number in range(count):
        sample = disc_still(number, side=side)
        name = f"{sample.name}.png"
        Image.fromarray(sample.image).save(root / "photos" / name)
        content["images"].append(
            {"id": number + 1, "file_name": name, "height": side, "width": side}
        )
        for instance in sample.instances:
            content["annotations"].append({
                "id": len(content["annotations"]) + 1,
                "image_id": number + 1,
                "category_id": (3, 8)[instance.category],
                "iscrowd": 0,
                "segmentation": {"size": [side, side], "counts": instance.rle.decode()},
            })  # fmt: skip
    path = root / "ann.json"
    path.write_text(json.dumps(content))
    return path, root / "photos"
