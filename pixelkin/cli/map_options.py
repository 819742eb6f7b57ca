"""How `pixelkin predict` and `evaluate` use semantic models: options of looks, volumes, formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from pixelkin.cli.options import Flag
from pixelkin.cli.words import counted
from pixelkin.errors import PixelkinError

if TYPE_CHECKING:
    from pixelkin.cli.map_writing import BenchmarkWriter
    from pixelkin.data.class_maps.bdd100k import LaneTarget
    from pixelkin.semantic.segmenter import SemanticSegmenter


@Parameter(name="*")
@dataclass(frozen=True)
class Averaging:
    """How a semantic model looks at an image, and how often; its probabilities are averaged.

    Attributes:
        scales: sizes at which it looks, as factors separated by commas, such as 0.75,1,1.25.
        flip: also look at it mirrored.
        window: of volumes, the Hounsfield units that become black and white; the model's own where
            left out. Write --window=-200,250.
    """

    scales: Annotated[str, Parameter(show_default=False)] = "1"
    flip: Flag = False
    window: str | None = None

    def factors(self) -> tuple[float, ...]:
        """The scales as numbers."""
        try:
            found = tuple(float(part) for part in self.scales.split(","))
        except ValueError:
            found = (0.0,)
        if min(found) <= 0:
            raise PixelkinError(
                f"--scales is {self.scales}, expected factors above 0; try 0.75,1,1.25"
            )
        return found

    def load(self, model: str | Path, *, device: str, tile_px: int) -> SemanticSegmenter:
        """A semantic model that looks so."""
        from pixelkin.semantic.checkpoints import load_semantic_segmenter

        return load_semantic_segmenter(
            model,
            device=device,
            tile_px=tile_px,
            scales=self.factors(),
            flip=self.flip,
            window_hu=self.window_hu(),
        )

    def window_hu(self) -> tuple[float, float] | None:
        """The window as numbers; None where the model's own is meant."""
        if self.window is None:
            return None
        try:
            low, high = (float(part) for part in self.window.split(","))
        except ValueError:
            low = high = 0.0
        if not low < high:
            raise PixelkinError(
                f"--window is {self.window}, expected two numbers, the lower first; try "
                "--window=-200,250"
            )
        return low, high


@Parameter(name="*")
@dataclass(frozen=True)
class MapOptions(Averaging):
    """What `predict` takes for semantic models beside.

    Attributes:
        scales: sizes at which it looks, as factors separated by commas, such as 0.75,1,1.25.
        flip: also look at it mirrored.
        window: of volumes (.nii, .nii.gz), the Hounsfield units that become black and white; the
            model's own where left out. Write --window=-200,250.
        tags: what the images are known to show, in any form that pixelkin label takes: a tagged
            image is given none but its own classes and the background.
        axes: of volumes whose header does not say how they lie, what their axes are, such as LPS.
        lane_styles: for the format bdd-lanes, a second model, of solid and dashed marks.
        lane_directions: for the format bdd-lanes, a third, of parallel and vertical marks.
    """

    tags: Path | None = None
    axes: str | None = None
    lane_styles: str | None = None
    lane_directions: str | None = None

    def given(self) -> list[str]:
        """The options that differ from what they are where left out."""
        return [
            f"--{one.name.replace('_', '-')}"
            for one in fields(self)
            if getattr(self, one.name) != one.default
        ]

    def check_used(self, kinds: list[str]) -> None:
        """Raise `PixelkinError` for an option that none of the formats needs."""
        needs = {"window": "nifti", "axes": "nifti"}
        needs |= {"lane_styles": "bdd-lanes", "lane_directions": "bdd-lanes"}
        for name, kind in needs.items():
            if getattr(self, name) is not None and kind not in kinds:
                option = f"--{name.replace('_', '-')}"
                what = "volumes" if kind == "nifti" else f"--format {kind}"
                raise PixelkinError(f"{option} is for {what}, and there is none; leave it out")
        self.window_hu()

    def shown(
        self, paths: Sequence[Path], class_names: tuple[str, ...], *, say: Callable[[str], None]
    ) -> dict[Path, tuple[int, ...]]:
        """The classes that tagged images show, the background among them; none without tags.

        Args:
            paths: of the images.
            class_names: of the model.
            say: told of the faults of the tags.

        Raises:
            PixelkinError: there is no image, or none is tagged; or the model knows no background.
        """
        if self.tags is None:
            return {}
        if not paths:
            raise PixelkinError("--tags are for images, and there is none; leave it out")
        from pixelkin.data.class_maps.background import background_index
        from pixelkin.data.tags.image_tags import resolve
        from pixelkin.data.tags.sources import read_tags

        background = background_index(class_names)
        if background is None:
            raise PixelkinError(
                "--tags say which objects an image shows, and the model has no class for what lies "
                f"around them, expected background among {', '.join(class_names)}; leave them out"
            )
        found, problems = resolve(
            read_tags(self.tags), class_names=class_names, images=[path.stem for path in paths]
        )
        # Warnings are of what a training could learn; and tags may well be of more images.
        errors = [one for one in problems if one.severity == "error"]
        faults = [str(one) for one in errors if not one.what.startswith("no image ")]
        if faults:
            say(f"tags left out: {len(faults)}, the first: {faults[0]}")
        told = {path: found.by_name.get(path.stem) for path in paths}
        shown = {
            path: tuple(sorted({background, *classes}))
            for path, classes in told.items()
            if classes is not None
        }
        if not shown:
            raise PixelkinError(
                f"{self.tags} tags none of {counted(len(paths), 'image')}; check that names agree"
            )
        return shown

    def benchmark_writers(
        self, kinds: list[str], class_names: tuple[str, ...], *, device: str, tile_px: int
    ) -> dict[str, BenchmarkWriter]:
        """Of those `kinds` that are benchmarks', what writes class maps as they take them.

        Raises `PixelkinError` where the models have other classes than a benchmark.
        """
        from pixelkin.results import benchmark_maps

        found: dict[str, BenchmarkWriter] = {}
        if ids_of := [kind for kind in kinds if kind in ("cityscapes", "kitti")]:
            ids = benchmark_maps.cityscapes_order(class_names)
            found |= dict.fromkeys(
                ids_of,
                lambda path, image, labels: benchmark_maps.write_label_ids(path, ids[labels]),
            )
        if "bdd-lanes" not in kinds:
            return found
        order = benchmark_maps.lane_order(class_names, "category")
        style = self._lanes("style", self.lane_styles, device=device, tile_px=tile_px)
        direction = self._lanes("direction", self.lane_directions, device=device, tile_px=tile_px)
        found["bdd-lanes"] = lambda path, image, labels: benchmark_maps.write_lane_bytes(
            path, order[labels], style(image), direction(image)
        )
        return found

    def _lanes(
        self, target: LaneTarget, model: str | None, *, device: str, tile_px: int
    ) -> Callable[[Any], Any]:
        """From an image to the classes of a target of its lane marks; None without a model."""
        from pixelkin.results.benchmark_maps import lane_order

        if model is None:
            return lambda image: None
        segmenter = self.load(model, device=device, tile_px=tile_px)
        order = lane_order(segmenter.class_names, target)
        return lambda image: order[segmenter.segment(image)]
