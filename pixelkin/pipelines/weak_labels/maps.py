"""From one photo and its tags to masks, step by step: pure functions of a photo and networks.

J. Ahn, S. Kwak: "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly
Supervised Semantic Segmentation", CVPR 2018. Section 3.1 `activations`, 3.3 `regions`, 3.4 `walked`
and `label_map`. Maps have a cell per `CELL_PX` pixels of the photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Integer, UInt8
from torch import Tensor

from pixelkin.grouping.activation_maps import (
    combine_activations,
    confident_regions,
    scaled_size,
    with_background,
)
from pixelkin.grouping.affinity import RADIUS_CELLS, affinities, half_plane_offsets
from pixelkin.grouping.dense_crf import dense_crf
from pixelkin.grouping.random_walk import one_step, transition, walk
from pixelkin.models.affinity_net import AffinityNet
from pixelkin.models.tag_classifier import TagClassifier
from pixelkin.structures import IGNORE

CELL_PX = 8
"""Pixels of a working copy per cell of the maps."""

COPY_MULTIPLE = 32
"""Sides of working copies are divisible by this, the coarsest stride of the networks."""


@dataclass(frozen=True)
class ActivationOptions:
    """How activation maps are read.

    Attributes:
        scales: of the photo. The paper's 2 is left out: more than half of the time for one map.
        flip: read the mirrored photo too.
    """

    scales: tuple[float, ...] = (0.5, 1.0, 1.5)
    flip: bool = True


@dataclass(frozen=True)
class CrfOptions:
    """The dense CRF; what is not here is as in the paper.

    Attributes:
        iterations: of mean field; 0 leaves the CRF out.
        shrink: the photo is shrunk by this for it, which takes a quarter of the time at 2.
    """

    iterations: int = 10
    shrink: int = 2


@dataclass(frozen=True)
class RegionOptions:
    """What is confident. The paper's exponents, for objects that fill a photo, are 4 and 24.

    Attributes:
        alpha_foreground: the smaller, the more must speak for a class.
        alpha_background: the larger, the less may speak for any class.
    """

    alpha_foreground: float = 0.6
    alpha_background: float = 2.0


@dataclass(frozen=True)
class WalkOptions:
    """How activations spread.

    Attributes:
        method: "walk" is the paper's; "one_step" takes the mean similarity to each class's
            confident cells instead, wherever these are.
        alpha: of the background map that takes part; the paper's is 16.
        power: β, see `grouping.random_walk.transition`.
        steps: of the walk; the paper's is 256, on larger things.
        radius: cells nearer than this are neighbours.
        crf: draw the masks to the photo's edges. What the walk gives is softer than an activation
            map; with the paper's parameters the background then eats small things.
    """

    method: Literal["walk", "one_step"] = "walk"
    alpha: float = 1.0
    power: float = 8.0
    steps: int = 16
    radius: int = RADIUS_CELLS
    crf: bool = False


def to_tensor(
    image: UInt8[np.ndarray, "h w 3"], device: torch.device | str = "cpu"
) -> Float[Tensor, "1 3 h w"]:
    """An RGB image as networks take it, in [0, 1]."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device)
    return pixels.permute(2, 0, 1)[None].float() / 255


@torch.inference_mode()
def activations(
    classifier: TagClassifier,
    image: UInt8[np.ndarray, "h w 3"],
    classes: Sequence[int],
    *,
    options: ActivationOptions = ActivationOptions(),
    device: torch.device | str = "cpu",
) -> Float[Tensor, "k h w"]:
    """Activation maps of the tagged classes, in [0, 1], the maximum of each 1.

    Args:
        classifier: in evaluation mode.
        image: RGB, height and width divisible by `CELL_PX`.
        classes: indices of those that the photo is tagged with; the maps come in their order.
        options: see there.
        device: where the classifier is; the maps come to the CPU.
    """
    size_hw = (image.shape[0] // CELL_PX, image.shape[1] // CELL_PX)
    if not classes:
        return torch.zeros(0, *size_hw)
    plain, mirrored = [], []
    for scale in options.scales:
        scaled = scaled_size((image.shape[0], image.shape[1]), scale, multiple=classifier.multiple)
        seen = cv2.resize(image, scaled[::-1], interpolation=cv2.INTER_AREA)
        plain.append(_read(classifier, seen, classes, device))
        if options.flip:
            mirrored.append(_read(classifier, np.ascontiguousarray(seen[:, ::-1]), classes, device))
    tagged = torch.ones(len(classes), dtype=torch.bool)
    return combine_activations(plain, tagged, size_hw=size_hw, mirrored=mirrored)


def _read(
    classifier: TagClassifier,
    image: UInt8[np.ndarray, "h w 3"],
    classes: Sequence[int],
    device: torch.device | str,
) -> Float[Tensor, "k h w"]:
    # Every stride-2 convolution with padding on one side, as TensorFlow pads, moves what it sees
    # by half a pixel of its grid: in all the cell's own place, less its middle.
    moved = np.pad(
        image, ((classifier.stride // 2, 0), (classifier.stride // 2, 0), (0, 0)), "edge"
    )
    maps = classifier.activation_maps(to_tensor(moved[: image.shape[0], : image.shape[1]], device))
    return maps[0, list(classes)].clamp_min(0).cpu()


def refined(
    scores: Float[Tensor, "c h w"], image: UInt8[np.ndarray, "h w 3"], options: CrfOptions
) -> Float[Tensor, "c H W"]:
    """Scores of cells, background first, brought to pixels and through a dense CRF.

    Returns:
        Of the size of the photo, or of the photo shrunk by `options.shrink`.
    """
    if options.iterations == 0 or len(scores) < 2:
        return _resized(scores, (image.shape[0], image.shape[1]))
    size_hw = (image.shape[0] // options.shrink, image.shape[1] // options.shrink)
    seen = cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA)
    shares = _resized(scores, size_hw)
    shares = shares / shares.sum(0).clamp_min(1e-6)
    return dense_crf(
        shares,
        seen,
        iterations=options.iterations,
        # In pixels of the photo.
        gaussian_sxy_px=3 / options.shrink,
        bilateral_sxy_px=80 / options.shrink,
    )


def _resized(scores: Tensor, size_hw: tuple[int, int]) -> Tensor:
    return F.interpolate(scores[None], size_hw, mode="bilinear", align_corners=False)[0]


def regions(
    maps: Float[Tensor, "k h w"],
    image: UInt8[np.ndarray, "h w 3"],
    *,
    options: RegionOptions = RegionOptions(),
    crf: CrfOptions = CrfOptions(),
) -> Int64[np.ndarray, "H W"]:
    """Where a photo is surely of a class or surely background, at the photo's size.

    Args:
        maps: from `activations`; none for a photo that shows no class.
        image: RGB.
        options, crf: see there.

    Returns:
        0 background, i + 1 for the i-th map, `IGNORE` neutral.
    """
    if not len(maps):
        return np.zeros(image.shape[:2], np.int64)
    generous = refined(with_background(maps, alpha=options.alpha_foreground), image, crf)
    strict = refined(with_background(maps, alpha=options.alpha_background), image, crf)
    found = confident_regions(generous, strict).numpy()
    return resized(found, (image.shape[0], image.shape[1])).astype(np.int64)


@torch.inference_mode()
def walked(
    affinity_net: AffinityNet,
    image: UInt8[np.ndarray, "h w 3"],
    maps: Float[Tensor, "k h w"],
    *,
    options: WalkOptions = WalkOptions(),
    confident: Int64[np.ndarray, "H W"] | None = None,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "c h w"]:
    """The maps, and the background's in front of them, after the walk over similar neighbours.

    Args:
        affinity_net: in evaluation mode.
        image: RGB, height and width divisible by `COPY_MULTIPLE`.
        maps: from `activations`.
        options: see there.
        confident: from `regions`; for the method "one_step" alone.
        device: where the network is; the walk runs there, the maps come to the CPU.
    """
    scores = (
        with_background(maps, alpha=options.alpha) if len(maps) else torch.ones(1, *maps.shape[1:])
    )
    if not len(maps):
        return scores
    features = affinity_net(to_tensor(image, device)).float()
    if options.method == "one_step":
        if confident is None:
            raise ValueError("the method one_step needs confident regions")
        middle = CELL_PX // 2
        cells = torch.from_numpy(confident[middle::CELL_PX, middle::CELL_PX].copy()).to(device)
        return one_step(features[0], cells, classes=len(scores), power=options.power).cpu()
    offsets = half_plane_offsets(options.radius)
    steps = transition(affinities(features, offsets)[0], offsets, power=options.power)
    return walk(steps, scores.to(device), steps=options.steps).cpu()


def numbered(local: Int64[np.ndarray, "H W"], classes: Sequence[int]) -> UInt8[np.ndarray, "H W"]:
    """Labels that number a photo's own classes, as labels of all: class c as c + 1."""
    number_of = np.full(256, IGNORE, np.uint8)
    number_of[: len(classes) + 1] = [0, *(one + 1 for one in classes)]
    return np.asarray(number_of[local])


def unnumbered(
    labels: UInt8[np.ndarray, "H W"], classes: Sequence[int]
) -> Int64[np.ndarray, "H W"]:
    """The inverse of `numbered`; classes that the photo has not become `IGNORE`."""
    place_of = np.full(256, IGNORE, np.int64)
    place_of[0] = 0
    for place, one in enumerate(classes, start=1):
        place_of[one + 1] = place
    return np.asarray(place_of[labels])


def resized(
    labels: Integer[np.ndarray, "h w"], size_hw: tuple[int, int]
) -> UInt8[np.ndarray, "H W"]:
    """A label map at another size, by nearest neighbour."""
    narrow = np.ascontiguousarray(labels, dtype=np.uint8)
    return np.asarray(
        cv2.resize(narrow, size_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.uint8
    )


def label_map(
    scores: Float[Tensor, "c h w"],
    classes: Sequence[int],
    image: UInt8[np.ndarray, "h w 3"],
    *,
    size_hw: tuple[int, int],
    crf: CrfOptions = CrfOptions(),
) -> UInt8[np.ndarray, "H W"]:
    """The class of every pixel: 0 background, class c as c + 1.

    Args:
        scores: from `walked`, background first.
        classes: of the other scores.
        image: the photo, or a working copy of it.
        size_hw: of the result: the photo's own.
        crf: see there.
    """
    best = refined(scores, image, crf).argmax(0).numpy()
    return resized(numbered(best, classes), size_hw)
