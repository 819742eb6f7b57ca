"""`pixelkin predict` and `pixelkin evaluate` with semantic models: a class for every pixel."""

from __future__ import annotations

import json as json_text
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from pixelkin.cli.options import Flag, output_folder
from pixelkin.errors import PixelkinError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Integer, UInt8

    from pixelkin.cli.instances import Stills
    from pixelkin.cli.stages import Stages
    from pixelkin.data.class_maps.nifti import NiftiVolume
    from pixelkin.data.source import SemanticSource
    from pixelkin.results import CocoWriter
    from pixelkin.semantic.segmenter import SemanticSegmenter

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

OVERLAYS = "overlays"
CLASSES = "classes.txt"


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


def gives_class_maps(model: str) -> bool:
    """Whether MODEL names a semantic model; raises `PixelkinError` where it names none at all."""
    from pixelkin.instances.checkpoints import SHIPPED
    from pixelkin.semantic.checkpoints import is_semantic_model

    return model not in ("otsu", *SHIPPED) and is_semantic_model(model)


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
        found = {kind: self.out / MAP_FORMATS[kind] for kind in self.kinds}
        return found | ({OVERLAYS: self.out / OVERLAYS} if self.overlays else {})

    def open(self, stack: ExitStack) -> None:
        """Open the files that hold all images, and close them with `stack`."""
        from pixelkin.results import CocoWriter

        for kind in self.kinds:
            if kind in ("coco", "coco-results"):
                writer = CocoWriter(
                    self.out / MAP_FORMATS[kind],
                    class_names=self.class_names,
                    form="dataset" if kind == "coco" else "results",
                )
                self._open.append(stack.enter_context(writer))

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
            class_maps.write_class_overlay(
                self.out / OVERLAYS / f"{path.stem}.png", image, found, background=background
            )
        self._count(found)

    def write_volume(
        self, path: Path, volume: NiftiVolume, found: Integer[np.ndarray, "z y x"]
    ) -> None:
        """Write the segmentation of one volume, which lies on it; overlays are of its slices."""
        from pixelkin.cli.volumes import stem_of
        from pixelkin.data.class_maps.background import background_index
        from pixelkin.data.class_maps.nifti import save_segmentation
        from pixelkin.results import class_maps
        from pixelkin.semantic.volumes import grey_slices

        self._name_classes()
        save_segmentation(self.places["nifti"] / path.name, found, like=volume)
        if self.overlays:
            background = background_index(self.class_names)
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

    def _count(self, found: Integer[np.ndarray, "*size"]) -> None:
        import numpy as np

        for index, count in enumerate(np.bincount(found.ravel()).tolist()):
            name = self.class_names[index]
            self.pixels[name] = self.pixels.get(name, 0) + count

    def counted(self) -> dict[str, Any]:
        """What was found, for `--json`."""
        return {"pixels": {name: count for name, count in self.pixels.items() if count}}

    def summary(self) -> str:
        """What was found, in a few words."""
        total = max(sum(self.pixels.values()), 1)
        most = sorted(self.pixels.items(), key=lambda item: -item[1])
        shares = [f"{name} {100 * count / total:.0f} %" for name, count in most[:5] if count]
        return ", ".join(shares)


def evaluate_class_maps(
    data: str,
    *,
    models: tuple[str, ...],
    stills: Stills,
    averaging: Averaging,
    device: str,
    out: Path | None,
    json: bool,
    stages: Stages,
) -> int:
    """Judge semantic models; prints a table per model, or one JSON object."""
    from pixelkin.cli.instances import seen_in_training
    from pixelkin.data.class_maps.sources import semantic_format
    from pixelkin.data.source import window_of
    from pixelkin.evaluation.semantic import VOLUMES
    from pixelkin.evaluation.text_table import text_table
    from pixelkin.semantic.scoring import evaluation_of

    source = _judged(data, stills)
    if averaging.window is not None and window_of(source) is None:
        raise PixelkinError(f"--window is for volumes, and {data} has none; leave it out")
    format_name, _ = semantic_format(data)
    # All are loaded first: a missing checkpoint must not show after an hour of another.
    segmenters = {name: averaging.load(name, device=device, tile_px=stills.tile) for name in models}
    if stills.validation is None:
        for hint in filter(None, (seen_in_training(name, source) for name in models)):
            stages.say(hint)
    chosen = [word.strip() for word in stills.measures.split(",") if word.strip()] or None
    done: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        if out is not None:
            stack.enter_context(output_folder(out))
        for name, segmenter in segmenters.items():
            evaluation = evaluation_of(source, measures=chosen, format_name=format_name)
            done[name] = _judge(name, segmenter, source, evaluation, stages)
            if out is not None:
                _write(out, name, evaluation, {"data": data, "models": done})
    if json:
        print(json_text.dumps(done))
        return 0
    for name, values in done.items():
        print(f"{name}: {len(source)} images, {values['seconds_per_image']:.3f} s an image")
        # Side by side, the columns of slices and of volumes would be wider than a screen.
        of_volumes = {key: value for key, value in values.items() if key.startswith(VOLUMES)}
        rest = {k: v for k, v in values.items() if "/" in k and k not in of_volumes}
        for part in filter(None, (rest, of_volumes)):
            print(text_table(part) + "\n")
    return 0


def _judged(data: str, stills: Stills) -> SemanticSource:
    """The part of the data that judges: what training on it would have held out."""
    from pixelkin.data.source import split_source
    from pixelkin.trainings.semantic_user_data import MapStills

    classes = tuple(name.strip() for name in stills.classes.split(",") if name.strip())
    given = MapStills(stills.images, stills.masks, classes)
    if stills.validation is not None:
        whole = given.open(data, stills.data_split)
        return split_source(whole, validation=stills.validation)[1]
    if stills.data_split is not None:
        return given.open(data, stills.data_split)
    return given.own_judges(data) or given.open(data, None)


def _judge(
    name: str,
    segmenter: SemanticSegmenter,
    source: SemanticSource,
    evaluation: Any,
    stages: Stages,
) -> dict[str, float]:
    from pixelkin.semantic.scoring import evaluate_semantic

    bar = stages.bar(name)
    return evaluate_semantic(
        segmenter,
        source,
        evaluation=evaluation,
        progress=lambda done, total: bar(name, done, total),
    )


def _write(out: Path, name: str, evaluation: Any, document: dict[str, Any]) -> None:
    """Measures so far, a picture of the confusion of classes, and a table of volumes."""
    import csv
    import io

    from PIL import Image

    from pixelkin.evaluation.semantic import confusion_picture
    from pixelkin.files import atomic_path, atomic_write

    out.mkdir(parents=True, exist_ok=True)
    atomic_write(out / "measures.json", json_text.dumps(document, indent=1) + "\n")
    picture = confusion_picture(evaluation.confusion.counts, evaluation.class_names)
    stem = "_".join(part for part in Path(name).parts if part not in ("/", "..", "."))
    with atomic_path(out / f"confusion_{stem}.png") as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
    rows = [] if evaluation.volumes is None else evaluation.volumes.by_case()
    if rows:
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        atomic_write(out / f"cases_{stem}.csv", text.getvalue())
