"""Any data set of class maps as a folder of images, a folder of index PNGs and a class list."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from PIL import Image

from pixelkin.data.class_maps.index_png import CLASSES_FILE, SemanticPng
from pixelkin.data.source import SemanticSource
from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_path
from pixelkin.masks import palette
from pixelkin.structures import IGNORE

_MAX_LABEL = (1 << 16) - 1
_COMPRESS_LEVEL = 3


def write_semantic_pngs(source: SemanticSource, folder: str | os.PathLike[str]) -> None:
    """Write `images/<name>.png`, `labels/<name>.png` and `classes.txt`; all of it or nothing.

    Labels are written as they are: `IGNORE` as 255, in 8 bits with the palette of PASCAL VOC, or
    in 16 bits of grey where there are more than 255 classes. Nothing is lost, except the order of
    the stills, which becomes that of their names, and slashes in names, which become underscores.

    Args:
        source: read one still at a time.
        folder: must not be there yet, or be empty.

    Raises:
        PixelkinError: `folder` holds something, a label is no index into `class_names`, a class
            name is empty, double or cannot stand in a line, or two stills share a name.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise PixelkinError(f"{target} is there already: expected a new folder; choose another")
    stems = _stems(source.names)
    text = _class_list(source.class_names)
    if not stems:
        raise PixelkinError("the data set has no still: expected at least one; check its folders")
    with atomic_path(target) as temporary:
        images, labels = temporary / "images", temporary / "labels"
        images.mkdir(parents=True)
        labels.mkdir()
        (temporary / CLASSES_FILE).write_text(text, encoding="utf-8")
        for index, stem in enumerate(stems):
            sample = source[index]
            picture = _index_image(sample.labels, source.class_names, stem)
            picture.save(labels / f"{stem}.png", compress_level=_COMPRESS_LEVEL)
            Image.fromarray(np.ascontiguousarray(sample.image)).save(
                images / f"{stem}.png", compress_level=_COMPRESS_LEVEL
            )


def read_semantic_pngs(folder: str | os.PathLike[str]) -> SemanticPng:
    """What `write_semantic_pngs` wrote."""
    base = Path(folder)
    return SemanticPng(base / "images", base / "labels", classes=base / CLASSES_FILE)


def _stems(names: Sequence[str]) -> list[str]:
    stems = [name.replace("/", "_").replace("\\", "_") for name in names]
    seen: dict[str, str] = {}
    for name, stem in zip(names, stems, strict=True):
        if not stem or stem.startswith(".") or "\0" in stem:
            raise PixelkinError(f"the still {name!r} cannot name a file; rename it")
        if stem in seen:
            raise PixelkinError(f"the stills {seen[stem]!r} and {name!r} share {stem}; rename one")
        seen[stem] = name
    return stems


def _class_list(names: Sequence[str]) -> str:
    """Lines of `value: name`, since an index may be nobody's and a name may begin with digits.

    The last line says that 255 is unknown.
    """
    if len(names) - 1 > _MAX_LABEL:
        raise PixelkinError(f"{len(names)} classes: expected at most {_MAX_LABEL + 1}; merge some")
    listed = {n: name for n, name in enumerate(names) if n != IGNORE or name}
    if IGNORE in listed:
        raise PixelkinError(
            f"class {listed[IGNORE]!r} has label {IGNORE}, which means unknown: expected none; "
            "give it another label"
        )
    for name in listed.values():
        if name != name.strip() or name.splitlines() != [name]:
            raise PixelkinError(f"class name {name!r} cannot stand in a line of text; rename it")
    if len(set(listed.values())) < len(listed):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise PixelkinError(f"class name {twice!r} is there twice: expected it once; rename one")
    # Unsaid, maps of nothing but 0 and 255 look like binary masks.
    return "".join(f"{n}: {name}\n" for n, name in listed.items()) + f"ignore: {IGNORE}\n"


def _index_image(labels: Int64[np.ndarray, "h w"], names: Sequence[str], stem: str) -> Image.Image:
    wrong = (labels < 0) | ((labels >= len(names)) & (labels != IGNORE))
    if wrong.any():
        raise PixelkinError(
            f"{stem} has label {labels[wrong][0]}: expected 0 to {len(names) - 1} or {IGNORE}; "
            "check the data set's classes"
        )
    if len(names) > IGNORE:
        return Image.fromarray(labels.astype(np.uint16))
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(palette().tobytes())
    return image
