"""What `pixelkin predict` writes of the objects of images."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelkin.cli.places import OVERLAYS, open_coco, places_of
from pixelkin.cli.words import counted

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

    from pixelkin.results import CocoWriter
    from pixelkin.structures import Instances

FORMATS = {
    "coco": "instances.json",
    "coco-results": "results.json",
    "yolo": "yolo",
    "labelme": "labelme",
    "png": "masks",
}
"""What `--format` takes → file or folder inside the output folder."""


@dataclass
class ObjectWriting:
    """What is written where.

    Attributes:
        out: folder.
        kinds: keys of `FORMATS`.
        class_names: of the model.
        overlays: whether to write pictures too.
        min_score: that objects must have.
        objects: number written so far.
        without: number of images without any, so far.
    """

    out: Path
    kinds: list[str]
    class_names: tuple[str, ...]
    overlays: bool = False
    min_score: float = 0.0
    objects: int = 0
    without: int = 0
    _open: list[CocoWriter] = field(default_factory=list)
    _named: bool = False

    @property
    def places(self) -> dict[str, Path]:
        """Format → file or folder."""
        return places_of(self.kinds, FORMATS, out=self.out, overlays=self.overlays)

    def open(self, stack: ExitStack) -> None:
        """Open the files that hold all images, and close them with `stack`."""
        self._open += open_coco(self.places, self.class_names, stack)

    def write(self, path: Path, image: UInt8[np.ndarray, "h w 3"], found: Instances) -> None:
        """Write the objects of one image."""
        from pixelkin import results

        places, stem = self.places, path.stem
        for writer in self._open:
            writer.write(path.name, found)
        if "yolo" in places:
            if not self._named:
                results.write_yolo_names(places["yolo"] / "data.yaml", self.class_names)
                self._named = True
            results.write_yolo_labels(places["yolo"] / "labels" / f"{stem}.txt", found)
        if "labelme" in places:
            results.write_labelme(
                places["labelme"] / f"{stem}.json",
                found,
                class_names=self.class_names,
                image_path=path,
            )
        if "png" in places:
            results.write_instance_png(places["png"] / f"{stem}.png", found)
        if self.overlays:
            results.write_instance_overlay(places[OVERLAYS] / f"{stem}.png", image, found)
        self.objects += len(found)
        self.without += not len(found)

    def counted(self) -> dict[str, Any]:
        """What was found, for `--json`."""
        return {"objects": self.objects}

    def summary(self, images: int, place: str) -> str:
        """What was found in how many images, where that ran, and how more may be found."""
        seen = counted(images, "image")
        text = f"{counted(self.objects, 'object')} in {seen} ({place})"
        if not self.without:
            return text
        none, lower = "no object", ""
        if self.min_score > 0:
            none, lower = (
                f"no object of score {self.min_score:g} or more",
                "; --min-score lowers it",
            )
        if not self.objects:
            return f"{none} in {seen} ({place}){lower}"
        return f"{text}\n{none} in {self.without:,} of them{lower}"
