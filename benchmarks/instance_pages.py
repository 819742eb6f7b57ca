"""What the benchmarks of instances share: tables, sections and pictures for docs/, middle parts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageDraw, ImageFont

from pixelkin.assess.files import provenance
from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_path, atomic_write
from pixelkin.masks import decode_rle, encode_rle
from pixelkin.results import contact_sheet, instance_overlay
from pixelkin.structures import Instances, InstanceSample
from pixelkin.trainings.instances import SMALLEST_PX

MOST_BYTES = 400_000
DARK = 128
_CAPTION_PX, _GAP_PX = 18, 4


def cell(mean: float | None, spread: float | None = None) -> str:
    """A value, and how far it spreads where that is known; nothing of what is undefined."""
    if mean is None or math.isnan(mean):
        return ""
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {spread:.3f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [list(header), ["---"] * len(header), *(list(row) for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def write_report(path: Path, report: Mapping[str, Any], *, command: str) -> None:
    """As JSON, with the machine and its load; `command` is without the machine's own folders."""
    said = {"load_average": list(os.getloadavg()), **provenance(), "command": command}
    text = json.dumps(plain({**report, **said}), indent=1, ensure_ascii=False)
    atomic_write(path, f"{text}\n")


def write_section(path: Path, name: str, text: str, *, heading: str) -> None:
    """Put `text` between the markers `<!-- name:start -->` and `<!-- name:end -->` of a document.

    A document without them gets a section at its end; nothing else in it changes.

    Raises:
        PixelkinError: one of the two markers is missing, or one is there twice.
    """
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    old = path.read_text("utf-8") if path.is_file() else ""
    counts = old.count(start), old.count(end)
    block = f"{start}\n\n{text.strip()}\n\n{end}"
    if counts == (0, 0):
        before = f"{old.rstrip()}\n\n" if old.strip() else ""
        atomic_write(path, f"{before}{heading}\n\n{block}\n")
        return
    if counts != (1, 1) or old.index(end) < old.index(start):
        raise PixelkinError(
            f"{path} holds {start} {counts[0]} times and {end} {counts[1]} times: expected each "
            "once, in this order; mend the markers"
        )
    before, rest = old.split(start)
    atomic_write(path, f"{before}{block}{rest.split(end)[1]}")


def plain(value: Any) -> Any:
    """For JSON, which has no NaN; numbers to six digits."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    return value


# Pictures


@dataclass
class Gallery:
    """Results of the first seed of each method on a few stills.

    Attributes:
        names: of the stills.
        found: method → name of a still → objects.
    """

    names: tuple[str, ...]
    found: dict[str, dict[str, Instances]] = field(default_factory=dict)

    def seen(self, method: str) -> Callable[[InstanceSample, Instances], None]:
        """What `evaluate_segmenter` calls with every still."""
        own = self.found.setdefault(method, {})

        def keep(still: InstanceSample, found: Instances) -> None:
            if still.name in self.names:
                own[still.name] = found

        return keep


def choose_stills(stills: Sequence[InstanceSample], count: int) -> tuple[str, ...]:
    """Names of stills from dark to bright, evenly: every kind of image is there."""
    order = sorted(stills, key=lambda still: float(still.image.mean()))
    return tuple(order[(2 * i + 1) * len(order) // (2 * count)].name for i in range(count))


def write_sheet(
    path: Path,
    stills: Sequence[InstanceSample],
    found: Mapping[str, Mapping[str, Instances]],
    *,
    window_px: int = 0,
    most_bytes: int = MOST_BYTES,
) -> None:
    """A row per still: the photo, the truth, and as many of each method's best masks.

    Args:
        path: the .png file, of 256 colours, smaller where it would be too large.
        stills: with their truth.
        found: title of a method → name of a still → its objects.
        window_px: side of the middle part that is shown of larger stills; 0 shows all.
        most_bytes: of the file.
    """
    titles = ["photo", "truth", *found]
    tiles = []
    for still in stills:
        shown = brightened(still.image)
        truth = truth_of(still)
        results = [truth, *(best(own[still.name], len(truth)) for own in found.values())]
        pictures = [shown, *(instance_overlay(shown, result) for result in results)]
        tiles += [middle(picture, window_px) for picture in pictures]
    for tile_px in (240, 208, 176, 144, 120, 96):
        width = len(titles) * (tile_px + _GAP_PX) - _GAP_PX
        sheet = contact_sheet(tiles, columns=len(titles), width_px=width, gap_px=_GAP_PX)
        whole = Image.fromarray(np.vstack([captions(titles, tile_px, width), sheet]))
        with atomic_path(path) as temporary:
            whole.quantize(256, dither=Image.Dither.NONE).save(temporary, "PNG", optimize=True)
        if path.stat().st_size <= most_bytes:
            return


def truth_of(still: InstanceSample) -> Instances:
    """The annotated objects as if they had been found."""
    single = [one for one in still.instances if not one.crowd]
    count = len(single)
    return Instances(
        still.size_hw,
        tuple(one.rle for one in single),
        tuple(one.category for one in single),
        (1.0,) * count,
    )


def best(found: Instances, count: int) -> Instances:
    """The first `count` of what comes best first."""
    return Instances(
        found.size_hw, found.rles[:count], found.categories[:count], found.scores[:count]
    )


def brightened(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Dark micrographs with their brightest pixels made white; other images as they are."""
    top = float(np.quantile(image, 0.998))
    if top >= DARK:
        return image
    bright: UInt8[np.ndarray, "h w 3"] = cv2.convertScaleAbs(image, alpha=255 / max(top, 1.0))
    return bright


def middle(picture: Shaped[np.ndarray, "h w *c"], window_px: int) -> Shaped[np.ndarray, "H W *c"]:
    """The middle square of `window_px`, or all of what is smaller; 0 is all."""
    if not window_px:
        return picture
    top, left = (max(0, (size - window_px) // 2) for size in picture.shape[:2])
    return picture[top : top + window_px, left : left + window_px]


def middle_still(still: InstanceSample, window_px: int) -> InstanceSample:
    """The middle of a still; scraps of objects at its edge neither count nor cost, as crowds."""
    instances = []
    for one in still.instances:
        mask = middle(decode_rle(one.rle, still.size_hw), window_px)
        if mask.any():
            scrap = mask.sum() < SMALLEST_PX
            instances.append(replace(one, rle=encode_rle(mask), crowd=one.crowd or bool(scrap)))
    return InstanceSample(middle(still.image, window_px), tuple(instances), still.name)


def captions(titles: Sequence[str], tile_px: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """A strip with a title over each column."""
    strip = Image.new("RGB", (width, _CAPTION_PX), "white")
    for index, title in enumerate(titles):
        place = (index * (tile_px + _GAP_PX) + 4, 2)
        ImageDraw.Draw(strip).text(place, title, fill="black", font=ImageFont.load_default())
    return np.asarray(strip)
