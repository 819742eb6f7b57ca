"""A class for every pixel of an image of any size, by any semantic network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Integer, UInt8
from torch import Tensor, nn

from pixelkin.errors import PixelkinError
from pixelkin.models.semantic_network import SemanticNetwork
from pixelkin.semantic.tiling import (
    Region,
    receptive_radius_px,
    region_logits,
    tile_cost,
    window_weights,
    windows,
)
from pixelkin.structures import IGNORE

OVERLAP = 0.25
"""Share of a window that it has in common with the next, where tiles are not exact."""

DEAREST_TILE = 4.0
"""A tile that needs more than so many times its own pixels (`tiling.tile_cost`) does not pay: the
same memory holds a window twice as wide, and windows that overlap by a quarter cost 1.8 times."""


class SemanticSegmenter:
    """A network, run whole, in tiles or in windows, at one scale or several.

    Memory: an image whose longer side exceeds `tile_px` is taken in tiles, and `segment` keeps of
    each the classes alone. Tiled or not, the result is the same as long as `tile_px` is at least
    twice as far as the network sees (`exact_tiles`), and of networks without padding always. One
    that sees farther, or the whole image at once, takes overlapping windows instead, and the result
    is another, though as good a, one.

    Args:
        model: a `SemanticNetwork`; set to evaluation mode, moved to `device`.
        class_names: of the model's classes.
        device: where the network runs.
        tile_px: images with a longer side are taken in tiles of this; 0 never tiles.
        scales: sizes at which the image is seen, as factors; probabilities are averaged.
        flip: also see it mirrored left to right.
        window_hu: of models for slices of volumes, the Hounsfield units that are black and white
            in their images; None of others. Kept for who makes the images.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        class_names: tuple[str, ...],
        device: torch.device | str = "cpu",
        tile_px: int = 1024,
        scales: tuple[float, ...] = (1.0,),
        flip: bool = False,
        window_hu: tuple[float, float] | None = None,
    ) -> None:
        if not scales or min(scales) <= 0:
            raise PixelkinError(
                f"the scales are {list(scales)}: expected one or more above 0; give 1"
            )
        if tile_px < 0:
            raise PixelkinError(f"tile_px is {tile_px}: expected 0 or more; give 0 not to tile")
        self.model = model.eval().to(device)
        self._network: SemanticNetwork = model  # type: ignore[assignment]
        if self._network.classes != len(class_names):
            raise PixelkinError(
                f"the model scores {self._network.classes} classes, but {len(class_names)} names "
                "are given; give a name for each"
            )
        self.class_names = class_names
        self.device = torch.device(device)
        self.tile_px = tile_px
        self.scales = scales
        self.flip = flip
        self.window_hu = window_hu

    @cached_property
    def radius_px(self) -> int | None:
        """How far the network sees; None where it sees everything. Measured when first asked.

        What a network without padding sees is its margin, by definition, on its own grid
        (`grid_px`).
        """
        return self._network.margin_px or receptive_radius_px(self._network)

    @property
    def exact_tiles(self) -> bool:
        """Whether tiles give the very result of the whole image; else windows are taken.

        A network without padding is made for tiles, of any size: windows would have it see mirror
        images at each of their borders (Ronneberger et al. 2015, figure 2).
        """
        if self.radius_px is None or not self.tile_px or self._network.margin_px:
            return self.radius_px is not None
        return tile_cost(self.radius_px, self.tile_px) <= DEAREST_TILE

    @torch.inference_mode()
    def scores(self, image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "c h w"]:
        """Probability of every class at every pixel of an RGB image; they sum to 1.

        Takes four bytes per class and pixel; `segment` does not.
        """
        found = np.empty((len(self.class_names), *image.shape[:2]), np.float32)
        for part, probabilities in self._parts(image):
            place = np.s_[:, part.top : part.bottom, part.left : part.right]
            found[place] = probabilities.cpu().numpy()
        return found

    @torch.inference_mode()
    def segment(
        self, image: UInt8[np.ndarray, "h w 3"], *, among: Sequence[int] | None = None
    ) -> Integer[np.ndarray, "h w"]:
        """The most probable class of every pixel: an index into `class_names`, never `IGNORE`.

        Args:
            image: RGB.
            among: indices of the classes that the image is known to show; the others are left out.
                None where nothing is known.

        Returns:
            uint8, or int64 where there are more than 256 classes.
        """
        if among is not None and not (among and set(among) <= set(range(len(self.class_names)))):
            raise PixelkinError(
                f"the image is said to show the classes {list(among)}: expected one or more of 0 "
                f"to {len(self.class_names) - 1}; name at least the background"
            )
        kind = np.uint8 if len(self.class_names) <= IGNORE + 1 else np.int64
        found = np.empty(image.shape[:2], kind)
        for part, probabilities in self._parts(image):
            if among is None:
                best = probabilities.argmax(dim=0).cpu().numpy()
            else:
                best = np.array(among)[probabilities[list(among)].argmax(dim=0).cpu().numpy()]
            found[part.top : part.bottom, part.left : part.right] = best
        return found

    def _parts(
        self, image: UInt8[np.ndarray, "h w 3"]
    ) -> Iterator[tuple[Region, Float[Tensor, "c h w"]]]:
        """Parts that cover the image, and their probabilities."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise PixelkinError(
                f"the image is {image.dtype} of shape {image.shape}: expected uint8 (H, W, 3) "
                "with pixels; convert it to RGB"
            )
        h, w = image.shape[:2]
        if not self.tile_px or max(h, w) <= self.tile_px:
            yield Region(0, h, 0, w), self._probabilities(self._seen(image), Region(0, h, 0, w))
        elif self.exact_tiles:
            seen = self._seen(image)
            for top in range(0, h, self.tile_px):
                for left in range(0, w, self.tile_px):
                    part = Region(
                        top, min(top + self.tile_px, h), left, min(left + self.tile_px, w)
                    )
                    yield part, self._probabilities(seen, part)
        else:
            yield from self._strips(image)

    def _seen(self, image: UInt8[np.ndarray, "h w 3"]) -> list[UInt8[np.ndarray, "h w 3"]]:
        """The image at every scale; the first entry has the image's own size."""
        seen = [image]
        for scale in self.scales:
            size = tuple(max(round(side * scale), 1) for side in image.shape[1::-1])
            shrinks = size[0] < image.shape[1] or size[1] < image.shape[0]
            way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            same = size == image.shape[1::-1]
            seen.append(image if same else cv2.resize(image, size, interpolation=way))
        return seen

    def _probabilities(
        self, seen: list[UInt8[np.ndarray, "_h _w 3"]], part: Region
    ) -> Float[Tensor, "c h w"]:
        """Of a part of the image `seen[0]`, averaged over scales and mirrors."""
        size_hw = seen[0].shape[:2]
        total: Tensor | None = None
        for image in seen[1:]:
            # Of the whole, everything is within reach.
            radius = max(image.shape) if part.size_hw == size_hw else self.radius_px
            assert radius is not None
            rows = _Sampling(part.top, part.bottom, size_hw[0], image.shape[0])
            columns = _Sampling(part.left, part.right, size_hw[1], image.shape[1])
            region = Region(rows.first, rows.last, columns.first, columns.last)
            for mirrored in (False, True) if self.flip else (False,):
                found = self._softmax(image, region, radius_px=radius, mirrored=mirrored)
                found = columns(rows(found, dim=1), dim=2)
                total = found if total is None else total.add_(found)
        assert total is not None
        return total.div_((len(seen) - 1) * (2 if self.flip else 1))

    def _softmax(
        self, image: UInt8[np.ndarray, "h w 3"], region: Region, *, radius_px: int, mirrored: bool
    ) -> Float[Tensor, "c H W"]:
        if mirrored:
            width = image.shape[1]
            image = image[:, ::-1]
            region = region._replace(left=width - region.right, right=width - region.left)
        logits = region_logits(
            self._network, image, region, radius_px=radius_px, device=self.device
        ).float()
        if len(logits) > IGNORE:
            logits[IGNORE] = -torch.inf  # nobody's index
        probabilities = logits.softmax(dim=0)
        return probabilities.flip(2) if mirrored else probabilities

    def _strips(
        self, image: UInt8[np.ndarray, "h w 3"]
    ) -> Iterator[tuple[Region, Float[Tensor, "c h w"]]]:
        """Overlapping windows averaged; one strip of them is held at a time."""
        h, w = image.shape[:2]
        overlap = max(int(self.tile_px * OVERLAP), 1)
        rows = windows(h, size=self.tile_px, overlap=overlap)
        columns = windows(w, size=self.tile_px, overlap=overlap)
        row_weights = window_weights(rows, overlap=overlap)
        column_weights = window_weights(columns, overlap=overlap)
        strip = torch.zeros(len(self.class_names), 0, w, device=self.device)
        for number, ((top, bottom), down) in enumerate(zip(rows, row_weights, strict=True)):
            # What the strip before has left over lies in this one too.
            begun, strip = strip, strip.new_zeros(len(strip), bottom - top, w)
            strip[:, : begun.shape[1]] = begun
            for (left, right), across in zip(columns, column_weights, strict=True):
                seen = self._seen(image[top:bottom, left:right])
                whole = Region(0, bottom - top, 0, right - left)
                weight = torch.from_numpy(down[:, None] * across).to(self.device)
                strip[:, :, left:right] += self._probabilities(seen, whole) * weight
            done = rows[number + 1][0] if number + 1 < len(rows) else h
            yield Region(top, done, 0, w), strip[:, : done - top]
            strip = strip[:, done - top :]


class _Sampling:
    """Linear interpolation along one axis, from a scaled image back to pixels of the image.

    Args:
        start, stop: pixels of the image that are wanted.
        length: of the image.
        scaled: of the scaled image.

    Attributes:
        first, last: pixels start … stop − 1 need those of the scaled image, last excluded.
    """

    def __init__(self, start: int, stop: int, length: int, scaled: int) -> None:
        self._same = length == scaled
        self.first, self.last = start, stop
        if self._same:
            return
        # Centres of pixels lie at halves.
        place = (np.arange(start, stop) + 0.5) * (scaled / length) - 0.5
        place = place.clip(0, scaled - 1)
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, scaled - 1)
        self.first, self.last = int(low[0]), int(high[-1]) + 1
        self._low = torch.from_numpy(low - self.first)
        self._high = torch.from_numpy(high - self.first)
        self._share = torch.from_numpy((place - low).astype(np.float32))

    def __call__(self, values: Tensor, *, dim: int) -> Tensor:
        """The values of the wanted pixels, from those of the scaled ones, along `dim`."""
        if self._same:
            return values
        shape = [1] * values.ndim
        shape[dim] = -1
        share = self._share.to(values.device).view(shape)
        low = values.index_select(dim, self._low.to(values.device))
        high = values.index_select(dim, self._high.to(values.device))
        return low.lerp(high, share)
