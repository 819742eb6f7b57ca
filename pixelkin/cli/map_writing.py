"""What `pixelkin predict` writes of class maps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelkin.cli.places import OVERLAYS, open_coco, places_of
from pixelkin.cli.volumes import stem_of
from pixelkin.cli.words import counted

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Integer, UInt8

    from pixelkin.data.class_maps.nifti import NiftiVolume
    from pixelkin.results import CocoWriter

    BenchmarkWriter = Callable[[Path, UInt8[np.ndarray, "h w 3"], Integer[np.ndarray, "h w"]], None]

MAP_FORMATS = {
    "png": "masks",
    "coco": "regions.json",
    "coco-results": "results.json",
    "cityscapes": "cityscapes",
    "kitti": "kitti",
    "bdd-lanes": "bdd-lanes",
    "nifti": "segmentations",
}
"""What `--format` takes for class maps → file or folder inside the output folder."""

KEY = "overlay_classes.png"
"""Which colour of the overlays is which class; those of the masks are others."""

CLASSES = "classes.txt"


@dataclass
class MapWriting:
    """What is written where.

    Attributes:
        out: folder.
        kinds: keys of `MAP_FORMATS`.
        class_names: of the model.
        overlays: whether to write pictures too.
        benchmarks: format → what writes an image's class map in it.
        window_hu: of volumes, the Hounsfield units that are black and white for the model.
        pixels: number of pixels of each class, so far.
    """

    out: Path
    kinds: list[str]
    class_names: tuple[str, ...]
    overlays: bool = False
    benchmarks: dict[str, BenchmarkWriter] = field(default_factory=dict)
    window_hu: tuple[float, float] | None = None
    pixels: dict[str, int] = field(default_factory=dict)
    _open: list[CocoWriter] = field(default_factory=list)

    @property
    def places(self) -> dict[str, Path]:
        """Format → file or folder."""
        return places_of(self.kinds, MAP_FORMATS, out=self.out, overlays=self.overlays)

    def open(self, stack: ExitStack) -> None:
        """Open the files that hold all images, and close them with `stack`."""
        self._open += open_coco(self.places, self.class_names, stack)

    def write(
        self, path: Path, image: UInt8[np.ndarray, "h w 3"], found: Integer[np.ndarray, "h w"]
    ) -> None:
        """Write the class map of one image."""
        from pixelkin.data.class_maps.background import background_index
        from pixelkin.results import class_maps

        background = background_index(self.class_names)
        if self._open:
            left_out = () if background is None else (background,)
            regions = class_maps.regions_of_classes(found, leave_out=left_out)
            for writer in self._open:
                writer.write(path.name, regions)
        for kind, write in self.benchmarks.items():
            write(self.places[kind] / f"{path.stem}.png", image, found)
        if "png" in self.kinds:
            self._name_classes()
            masks, classes = self.places["png"], len(self.class_names)
            class_maps.write_class_png(masks / f"{path.stem}.png", found, classes=classes)
        if self.overlays:
            self._key_colours(background)
            class_maps.write_class_overlay(
                self.out / OVERLAYS / f"{path.stem}.png", image, found, background=background
            )
        self._count(found)

    def write_volume(
        self, path: Path, volume: NiftiVolume, found: Integer[np.ndarray, "z y x"]
    ) -> None:
        """Write the segmentation of one volume, which lies on it; overlays are of its slices."""
        from pixelkin.data.class_maps.background import background_index
        from pixelkin.data.class_maps.nifti import save_segmentation
        from pixelkin.results import class_maps
        from pixelkin.semantic.volumes import grey_slices

        self._name_classes()
        save_segmentation(self.places["nifti"] / path.name, found, like=volume)
        if self.overlays:
            background = background_index(self.class_names)
            self._key_colours(background)
            room = self.out / OVERLAYS / stem_of(path)
            for z, image in enumerate(grey_slices(volume, window_hu=self.window_hu)):
                class_maps.write_class_overlay(
                    room / f"{z:04}.png", image, found[z], background=background
                )
        self._count(found)

    def _name_classes(self) -> None:
        from pixelkin.results import class_maps

        if not self.pixels:
            class_maps.write_class_names(self.out / CLASSES, self.class_names)

    def _key_colours(self, background: int | None) -> None:
        from pixelkin.results import class_maps

        if not self.pixels:
            class_maps.write_class_key(self.out / KEY, self.class_names, background=background)

    def _count(self, found: Integer[np.ndarray, "*size"]) -> None:
        import numpy as np

        for index, count in enumerate(np.bincount(found.ravel()).tolist()):
            name = self.class_names[index]
            self.pixels[name] = self.pixels.get(name, 0) + count

    def counted(self) -> dict[str, Any]:
        """What was found, for `--json`."""
        return {"pixels": {name: count for name, count in self.pixels.items() if count}}

    def summary(self, images: int, place: str) -> str:
        """What was found in how many images, and where that ran."""
        total = max(sum(self.pixels.values()), 1)
        most = sorted(self.pixels.items(), key=lambda item: -item[1])
        shares = [f"{name} {100 * count / total:.0f} %" for name, count in most[:5] if count]
        return f"{', '.join(shares)} in {counted(images, 'image')} ({place})"
