"""Which mask belongs to which image: what `pixelkin check` tells of names, and of files beside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pixelkin.checking.report import Report
from pixelkin.data.class_maps.png_folders import MASK_SUFFIXES
from pixelkin.data.reading import IMAGE_SUFFIXES

_ALIKE = "name all of them alike, as the image or with one ending such as _mask"
_TWICE = "rename or remove one: an image has one mask"
_UPPER_CASE = "rename the file, so that it ends with .png"


@dataclass(frozen=True)
class MaskWords:
    """How messages call the mask of an image, and what to do where something is wrong.

    Attributes:
        name: mask, or label file.
        kind: what must be a PNG, for messages: mask, or map.
        lossless: fix of a mask that is a JPEG or such.
        no_image: fix of a mask without an image.
        no_mask: fix of an image without a mask.
    """

    name: str
    kind: str
    lossless: str
    no_image: str
    no_mask: str


def paired_masks(
    images: Mapping[str, Path],
    files: Iterable[Path],
    suffix: str,
    report: Report,
    words: MaskWords,
    *,
    all_masked: bool = True,
    upper_case: bool = True,
) -> dict[str, Path]:
    """PNG files of masks by the stem of their image; whatever else lies there is reported.

    Args:
        images: by stem.
        files: those in the folder of the masks, of any kind.
        suffix: what follows an image's stem in the names of masks.
        report: collects the problems.
        words: for messages.
        all_masked: whether an image without a mask is a fault.
        upper_case: whether the loader takes `.PNG` too.
    """
    found: dict[str, Path] = {}
    faulty: set[str] = set()
    for path in sorted(files):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        where, stem = report.place(path), path.stem.removesuffix(suffix)
        if not path.stem.endswith(suffix) or stem not in images:
            other = _named_otherwise(path.stem, images)
            if other is None or other in found:
                report.error(where, f"the {words.name} has no image", fix=words.no_image)
            else:
                what = f"is named otherwise than others are: expected {other}{suffix}.png"
                report.error(where, what, fix=_ALIKE)
                faulty.add(other)
        elif path.suffix.lower() != ".png":
            what = f"the {words.kind} is a {path.suffix[1:].lower()} file"
            report.error(where, what, fix=words.lossless)
            faulty.add(stem)
        elif stem in found:
            report.error(where, f"has the name of {found[stem].name}", fix=_TWICE)
        elif path.suffix != ".png" and not upper_case:
            report.error(where, f"ends with {path.suffix}, which is not read", fix=_UPPER_CASE)
            faulty.add(stem)
        else:
            found[stem] = path
    if all_masked:
        for stem, image in images.items():
            if stem not in found and stem not in faulty:
                what = f"the image has no {words.name}"
                report.error(report.place(image), what, fix=words.no_mask)
    return found


def _named_otherwise(stem: str, images: Mapping[str, Path]) -> str | None:
    """The image whose mask this would be, if masks were named in another of the known ways."""
    return next((bare for one in MASK_SUFFIXES if (bare := stem.removesuffix(one)) in images), None)
