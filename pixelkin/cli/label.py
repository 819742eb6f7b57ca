"""`pixelkin label`: from photos with tags to masks and a trained network."""

from __future__ import annotations

import io
import time
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from cyclopts import Parameter

from pixelkin.cli.options import Flag, check_writable
from pixelkin.cli.stages import Bar, Stages
from pixelkin.errors import PixelkinError

if TYPE_CHECKING:
    from pixelkin.pipelines.weak_labels import Options


@Parameter(name="*")
@dataclass(frozen=True)
class Part:
    """Which stages run.

    Attributes:
        only: this stage alone: photos, classifier, activations, regions, affinity, walk, network
            or predictions; with --instances also irnet or instances.
        until: the last stage.
        again: make this stage and all that need it anew.
    """

    only: str | None = None
    until: str | None = None
    again: str | None = None


@Parameter(name="*")
@dataclass(frozen=True)
class Effort:
    """How long it trains, and on what.

    Attributes:
        long_side: of the photos as the networks see them, pixels.
        classifier_steps: of the tag classifier, 16 photos each.
        affinity_steps: of AffinityNet, 8 windows each.
        network_steps: of the segmentation network, 8 windows each.
        network: the segmentation network that is trained on the masks: light, or another that can
            start from the classifier too.
        irnet_steps: of IRNet, for --instances, 8 windows each.
        weights: what the backbones start from: imagenet (a package of its own; without it the
            message says how to install it), shipped (those inside pixelkin), none; auto takes
            imagenet where installed, else shipped.
        one_step: spread activations by mean similarity to confident pixels, not by the walk.
        crf: draw confident regions to the edges of the photo (dense CRF).
        crf_masks: draw the masks to them too.
        seed: of all trainings.
    """

    long_side: int = 448
    classifier_steps: int = 700
    affinity_steps: int = 400
    network_steps: int = 1200
    network: Literal["light", "timm-fcn", "deeplab-v3-plus", "deeplab-v2"] = "light"
    irnet_steps: int = 300
    weights: Literal["auto", "imagenet", "shipped", "none"] = "auto"
    one_step: Flag = False
    crf: Annotated[bool, Parameter(negative="--no-crf")] = True
    crf_masks: Flag = False
    seed: int = 0

    def options(self, *, instances: bool = False) -> Options:
        """For the pipeline."""
        from pixelkin.models.imagenet import has_efficientnet_lite0
        from pixelkin.pipelines.weak_labels import InstanceOptions, Options

        start = Options()
        steps = ("classifier_steps", "affinity_steps", "network_steps", "irnet_steps")
        for name in ("long_side", *steps):
            if getattr(self, name) < 1:
                given = getattr(self, name)
                raise PixelkinError(f"--{name.replace('_', '-')} is {given}: expected 1 or more")
        weights = self.weights
        if weights == "auto":
            weights = "imagenet" if has_efficientnet_lite0() else "shipped"
        objects = InstanceOptions()
        irnet = replace(objects.irnet, steps=self.irnet_steps, weights=weights)
        if weights == "none":
            # A frozen backbone of chance sees little.
            irnet = replace(irnet, backbone_rate=start.affinity.backbone_rate)
        return replace(
            start,
            long_side_px=self.long_side,
            classifier=replace(start.classifier, steps=self.classifier_steps, weights=weights),
            affinity=replace(start.affinity, steps=self.affinity_steps, weights=weights),
            network=replace(start.network, steps=self.network_steps, weights=weights),
            architecture=self.network,
            crf=start.crf if self.crf else replace(start.crf, iterations=0),
            walk=replace(
                start.walk, method="one_step" if self.one_step else "walk", crf=self.crf_masks
            ),
            instances=replace(objects, irnet=irnet) if instances else None,
        )


@Parameter(name="*")
@dataclass(frozen=True)
class Where:
    """Where it computes.

    Attributes:
        device: auto (a GPU where there is one), cpu, cuda, cuda:1 or mps.
        precision: of the trainings; weights are always float32.
        workers: processes that make training windows.
    """

    device: str = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    workers: int = 0


def label(
    images: Path,
    /,
    *,
    tags: Path,
    out: Annotated[Path, Parameter(alias="-o")],
    classes: str = "",
    instances: Flag = False,
    part: Part = Part(),
    effort: Effort = Effort(),
    where: Where = Where(),
    quiet: Flag = False,
) -> int:
    """Make masks of photos that are only tagged, and train a network on them.

    ```
    pixelkin label photos --tags tags.csv --out run
    ```

    tags.csv holds a photo and its tags per line: `beach.jpg,sea,sand`. Photos that it does not
    name are not learnt from; the trained network is asked about them too.

    The stages (Ahn & Kwak, CVPR 2018): a classifier learns the tags and shows where it sees each
    (activations); what is sure of that (regions) trains AffinityNet, which says how alike
    neighbouring pixels are; along these likenesses the activations spread (walk) into masks
    (labels/); a segmentation network is trained on them (7_network/model, for pixelkin predict),
    and asked (predictions/). OUT/report.html shows every stage.

    A run that was stopped, by Ctrl-C or otherwise, goes on with the same command, without --again.

    Args:
        images: folder of photos.
        tags: CSV, JSON lines, COCO JSON, VOC XML folder, CCP's folder, or a folder per tag.
        out: folder of the run.
        classes: names separated by commas, to learn these alone.
        instances: tell objects of a class apart too (IRNet, Ahn et al. 2019): OUT/instances.
        quiet: show no progress.
    """
    from pixelkin.pipelines.weak_labels import GO_ON, Extent, Machine, label_photos

    options = effort.options(instances=instances)
    if where.workers < 0:
        raise PixelkinError(f"--workers is {where.workers}: expected 0 or more; 0 needs no process")
    check_writable(out)
    bars = _Bars(quiet=quiet)
    # The trainings tell their steps on the standard output.
    with bars, redirect_stdout(io.StringIO()) if quiet else nullcontext():
        try:
            run = label_photos(
                images,
                tags,
                out,
                classes=[name.strip() for name in classes.split(",") if name.strip()],
                options=options,
                extent=Extent(only=part.only, until=part.until, again=part.again),
                seed=effort.seed,
                machine=Machine(where.device, where.precision, where.workers),
                report=bars.report,
                say=bars.say,
            )
        except KeyboardInterrupt:
            bars.say(f"{out}: stopped; {GO_ON} to go on")
            raise
    done = all(run.workspace.is_done(stage) for stage in options.stages())
    print(f"{out}: {'all stages done' if done else 'stopped as asked'}; see {out / 'report.html'}")
    return 0


_LINE_SECONDS = 60
"""Between two lines of how far a stage is, where there are no bars: a run takes an hour."""


class _Bars:
    """One bar at a time, and none in a training: its own and this would overwrite each other.

    Where the standard error is no terminal, a line a minute takes its place.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._stages: Stages | None = None
        self._bar: Bar | None = None
        self._line = (0.0, 0)  # when the latest was due, and what was done then

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stages is not None:
            self._stages.__exit__(None, None, None)
        self._stages = self._bar = None

    def report(self, stage: str, done: int, total: int) -> None:
        """Show how far a stage is."""
        if self._stages is None:
            self._stages = Stages(quiet=self._quiet)
            self._stages.__enter__()
            self._bar = self._stages.bar(stage)
            self._line = (time.monotonic(), done)
        assert self._bar is not None
        self._bar(stage, done, total)
        if not self._stages.has_bars and done < total:
            self._tell(stage, done, total)
        if done == total:
            self.__exit__()

    def _tell(self, stage: str, done: int, total: int) -> None:
        now, (last, before) = time.monotonic(), self._line
        if now - last < _LINE_SECONDS:
            return
        self._line = (now, done)
        # At the speed since the line before: what was there already took no time.
        left = (total - done) * (now - last) / max(done - before, 1)
        self.say(f"{stage} {done}/{total}  ETA {timedelta(seconds=round(left))}")

    def say(self, text: str) -> None:
        """A line of text on the standard error."""
        (self._stages or Stages(quiet=self._quiet)).say(text)
