"""Trainings of semantic networks: one budget, one augmentation, one loss for all of them.

Cross-entropy of every known pixel, weighted by class (D. Eigen, R. Fergus: "Predicting Depth,
Surface Normals and Semantic Labels with a Common Multi-Scale Convolutional Architecture", ICCV
2015, section 4.3.2), and by pixel where asked for; AdamW by DeepLab's schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor, nn

from pixelkin.data.instance_crops import InstanceCrops
from pixelkin.data.semantic_crops import Weigh, collate_semantic
from pixelkin.data.source import window_of
from pixelkin.data.transforms import Compose, Transform
from pixelkin.engine import Training
from pixelkin.errors import PixelkinError
from pixelkin.losses.border_weights import weighted_cross_entropy
from pixelkin.models.semantic_network import SemanticNetwork
from pixelkin.semantic.checkpoints import save_semantic_model
from pixelkin.semantic.tiling import fitting_size
from pixelkin.structures import IGNORE, Batch, Sample
from pixelkin.trainings.augmentation import Windows, augmentation
from pixelkin.trainings.borders import border_weigher, ground_index, separated
from pixelkin.trainings.optimisation import (
    Optimisation,
    batch_norms,
    parameter_groups,
    poly_schedule,
)
from pixelkin.trainings.semantic_networks import (
    NETWORKS,
    NetworkName,
    NetworkOptions,
    described,
    own_rate,
)
from pixelkin.trainings.semantic_start import Started, start_network

T = TypeVar("T")
Picture = UInt8[np.ndarray, "h w 3"]

COUNTED_STILLS = 500
"""How many stills, evenly spread, the frequencies of classes are taken from."""


@dataclass(frozen=True)
class Balance:
    """How rare classes, and the narrow ground between objects, are made up for.

    Attributes:
        class_balance: exponent of the median-frequency weights of the classes: 1 is Eigen & Fergus,
            0 weighs all classes alike; between them rare ones count more, but not so much more
            that they are seen where they are not.
        near_class: share of windows that are made to hold a pixel of a class of the still, every
            class with the same chance.
        border_weight: height w0 of U-Net's border term, which adds to the weight of ground between
            two near objects; 10 in the paper, 0 for none. Objects that touch get ground between
            them where the data set tells them apart; else they are one object. See `borders`.
        border_sigma_px: its width; 5 in the paper.
        border_ground: name of the class that is ground; all others are of objects.
    """

    class_balance: float = 0.5
    near_class: float = 0.0
    border_weight: float = 0.0
    border_sigma_px: float = 5.0
    border_ground: str = "background"

    def __post_init__(self) -> None:
        if self.border_weight < 0 or self.border_sigma_px <= 0:
            raise PixelkinError(
                f"border_weight is {self.border_weight:g} and border_sigma_px "
                f"{self.border_sigma_px:g}, expected 0 or more and a positive σ; U-Net's paper has "
                "10 and 5"
            )


@dataclass(frozen=True)
class Hooks:
    """What a training calls besides the network.

    Attributes:
        validate: (model, its configuration) → numbers.
        pictures: (model, its configuration) → name → uint8 (H, W, 3), shown at validations.
        weigh: a window, the network's margin included → what the loss of each pixel is multiplied
            by, in place of the border term of `Balance`.
    """

    validate: Callable[[nn.Module, dict[str, Any]], dict[str, float]] | None = None
    pictures: Callable[[nn.Module, dict[str, Any]], dict[str, Picture]] | None = None
    weigh: Weigh | None = None


def semantic_training(
    samples: Sequence[Sample],
    network: NetworkName,
    *,
    class_names: tuple[str, ...],
    options: NetworkOptions = NetworkOptions(),  # noqa: B008
    optimisation: Optimisation = Optimisation(),  # noqa: B008
    windows: Windows = Windows(crop_px=256),  # noqa: B008
    balance: Balance = Balance(),
    hooks: Hooks = Hooks(),
    config: Mapping[str, Any] | None = None,
) -> Training:
    """Everything of one training.

    Args:
        samples: stills with class maps, read anew at every visit; see `data.memory.InMemory`. The
            window of those that are slices goes with the model.
        network: by name.
        class_names: of the data.
        options: of the network.
        optimisation: windows seen = steps · batch_size.
        windows: what is cut from the stills; `crop_px` are those that have a score.
        balance: between frequent and rare classes.
        hooks: what judges the model, shows it, and weighs pixels.
        config: options to write to run.json beside these.

    Raises:
        PixelkinError: the network, its options or its weights do not exist or do not fit.
    """
    torch.manual_seed(optimisation.seed)
    optimisation = optimisation.at_rate(own_rate(network, options))
    description = described(network, class_names, options.chosen())
    if NETWORKS[network].far_taps:
        description["window_px"] = windows.crop_px
    if window_hu := window_of(samples):
        description["window_hu"] = list(window_hu)
    started = start_network(description, optimisation.weights)
    optimizer = _adamw(started, optimisation)
    class_weights = median_frequency_weights(samples, len(class_names)) ** balance.class_balance
    steps = optimisation.steps
    weigh = hooks.weigh
    finish: tuple[Transform, ...] = ()
    if weigh is None and balance.border_weight:
        ground = ground_index(class_names, balance.border_ground)
        finish = (partial(separated, ground=ground),)
        weigh = border_weigher(
            class_names, class_weights, ground=balance.border_ground,
            w0=balance.border_weight, sigma_px=balance.border_sigma_px,
        )  # fmt: skip
    return Training(
        model=started.model,
        loss=partial(
            semantic_loss,
            class_weights=torch.from_numpy(class_weights),
            frozen_norms=tuple(batch_norms(started.model, started.trained)),
        ),
        loss_weights={"cross_entropy": 1.0},
        optimizer=optimizer,
        schedule=poly_schedule(optimizer, steps, warmup=min(100, steps // 10)),
        data=InstanceCrops(
            samples,
            _look(started.model, windows, balance, finish),
            repeats=optimisation.repeats(len(samples)),
        ),
        collate=partial(collate_semantic, weigh=weigh),
        batch_size=optimisation.batch_size,
        steps=steps,
        validate=_with(hooks.validate, description),
        pictures=_with(hooks.pictures, description),
        validate_every=optimisation.validate_every or steps,
        workers=optimisation.workers,
        clip_norm=5.0,
        ema_decay=optimisation.ema_decay,
        save=lambda m, folder: save_semantic_model(m, folder, description, CARD),
        config={**description, "training": network, "samples": len(samples),
                **asdict(optimisation), **asdict(windows), **asdict(balance), **(config or {}),
                "weights": started.start, "class_weights": class_weights.tolist()},
    )  # fmt: skip


def _adamw(started: Started, optimisation: Optimisation) -> torch.optim.AdamW:
    slow, fast = parameter_groups(started.model, started.trained, optimisation)
    # The rate that the log shows is that of the first group.
    return torch.optim.AdamW([group for group in (fast, slow) if group["params"]])


def _look(
    model: nn.Module, windows: Windows, balance: Balance, finish: tuple[Transform, ...]
) -> Compose:
    """What makes windows of stills; `finish` comes last."""
    window = augmentation(
        input_px(model, windows.crop_px),  # type: ignore[arg-type]
        windows.scale,
        windows.rotate,
        near_instance=balance.near_class,
    )
    return Compose((window, *finish))


def _with(
    hook: Callable[[nn.Module, dict[str, Any]], T] | None, description: dict[str, Any]
) -> Callable[[nn.Module], T] | None:
    return None if hook is None else lambda model: hook(model, description)


def input_px(model: SemanticNetwork, crop_px: int) -> int:
    """Side of the square window in which `crop_px` pixels or more, each way, get a score."""
    side = crop_px + 2 * model.margin_px
    return max(fitting_size(model, (side, side)))


def semantic_loss(
    model: nn.Module,
    batch: Batch,
    *,
    class_weights: Float32[Tensor, " c"],
    frozen_norms: Sequence[str] = (),
) -> dict[str, Tensor]:
    """ "cross_entropy" of the known pixels, weighted by class and pixel, and "accuracy".

    Args:
        model: a `SemanticNetwork`.
        batch: of its input's size; of the labels the middle counts, where it has scores.
        class_weights: of C classes.
        frozen_norms: names of batch normalisations that keep their statistics.
    """
    # `train()` of the engine has switched them on again.
    for name in frozen_norms:
        model.get_submodule(name).eval()
    # Half precision has too few digits for a sum over pixels.
    logits = _asked(model, batch).float()
    labels, weights = _middle(batch.labels, logits), class_weights.to(logits.device)
    weights = weights[labels.clamp(max=len(weights) - 1)]
    if batch.weights is not None:
        weights = weights * _middle(batch.weights, logits)
    known = labels != IGNORE
    right = (logits.argmax(dim=1) == labels) & known
    return {
        "cross_entropy": weighted_cross_entropy(logits, labels, weights),
        "accuracy": right.sum() / known.sum().clamp(min=1),
    }


def _asked(model: nn.Module, batch: Batch) -> Tensor:
    try:
        logits: Tensor = model(batch.images)
    except ValueError as error:
        # What torch says where batch normalisation has one cell of one window.
        if "more than 1 value per channel" not in str(error):
            raise
        n, _, h, w = batch.images.shape
        raise PixelkinError(
            f"batches of {n} window of {w}×{h} pixels leave batch normalisation one cell, whose "
            "spread is nothing; give --batch-size 2 or more, or a larger --crop-px"
        ) from error
    return logits


def _middle(maps: Tensor, logits: Tensor) -> Tensor:
    """The middle of (N, H, W), as large as the logits."""
    h, w = logits.shape[-2:]
    top, left = (maps.shape[1] - h) // 2, (maps.shape[2] - w) // 2
    return maps[:, top : top + h, left : left + w]


def median_frequency_weights(
    samples: Sequence[Sample], classes: int
) -> Float32[np.ndarray, " classes"]:
    """median(f) / f of every class (Eigen & Fergus 2015, section 4.3.2); 1 where it has no pixel.

    f is the share that a class has of the known pixels of the stills that show it. Of more than
    `COUNTED_STILLS` stills some are looked at.

    Raises:
        PixelkinError: no pixel has a class, or one has a class that is not there.
    """
    pixels, seen = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    step = max(1, len(samples) // COUNTED_STILLS)
    for index in range(0, len(samples), step):
        sample = samples[index]
        counts = np.bincount(_known(sample.labels), minlength=classes)
        if len(counts) > classes:
            raise PixelkinError(
                f"{sample.name or 'a still'} has the label {len(counts) - 1}, expected 0 to "
                f"{classes - 1} or {IGNORE} (unknown); run pixelkin check on the data"
            )
        pixels += counts
        seen += counts.sum() * (counts > 0)
    if not pixels.any():
        raise PixelkinError(
            "no pixel of the training stills has a class; run pixelkin check on the data"
        )
    there = pixels > 0
    frequency = pixels[there] / seen[there]
    weights = np.ones(classes, np.float32)
    weights[there] = np.median(frequency) / frequency
    return weights


def _known(labels: Int64[np.ndarray, "h w"]) -> Int64[np.ndarray, " n"]:
    known: Int64[np.ndarray, " n"] = labels[labels != IGNORE]
    return known


CARD = """# A model of `pixelkin.trainings.semantic`

The options of the training, its versions and its numbers stand in `run.json` and `metrics.csv`
beside this folder. `pixelkin predict "this folder" IMAGES --out OUT` runs it.
"""
