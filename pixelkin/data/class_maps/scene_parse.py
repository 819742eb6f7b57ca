"""SceneParse150: the 150 most frequent classes of ADE20K, as the scene parsing challenge has them.

Zhou, Zhao, Puig, Fidler, Barriuso, Torralba: Scene Parsing through ADE20K Dataset, CVPR 2017.
"""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from pixelkin.data.class_maps.files import (
    ClassMapFiles,
    class_table,
    classes_of,
    paired_files,
    read_byte_indices,
)
from pixelkin.data.reading import decoded, require_folder
from pixelkin.data.splits import unknown_split
from pixelkin.errors import PixelkinError

_LAYOUT = (
    "the ADEChallengeData2016 layout: images/training/<name>.jpg, annotations/training/<name>.png "
    "and objectInfo150.txt"
)
_CLASS_COUNT = 150
_TABLE = class_table(range(1, _CLASS_COUNT + 1), ignored=(0,))


class SceneParse150(ClassMapFiles):
    """The images of a split (20,210 of training, 2,000 of validation).

    A pixel of `annotations/<split>/<name>.png` is 1 … 150, which become 0 … 149, or 0 for all
    else, which becomes `IGNORE`.

    Args:
        root: folder that holds `images`, `annotations` and `objectInfo150.txt`, as
            `ADEChallengeData2016`.
        split: `"training"` or `"validation"`.

    Raises:
        PixelkinError: a folder, the list of classes or a map is missing, or the split is unknown;
            on reading, a file is corrupt or no 8-bit index PNG, sizes differ, or a class is
            beyond 150.
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "training") -> None:
        base = Path(root)
        images = require_folder(base / "images", _LAYOUT)
        known = [path.name for path in images.iterdir() if path.is_dir()]
        if split not in known:
            raise unknown_split(split, known, where=images)
        names = read_object_info(base / "objectInfo150.txt")
        files = paired_files(images / split, base / "annotations" / split, layout=_LAYOUT)
        super().__init__(files, names)

    def _read_labels(self, path: Path, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        values = read_byte_indices(path, size_hw=size_hw)
        return classes_of(values, _TABLE, path, expected=f"0 to {_CLASS_COUNT}")


def read_object_info(path: Path) -> tuple[str, ...]:
    """The 150 names in `objectInfo150.txt`, the first of the synonyms of each.

    The file has tabs between `Idx`, `Ratio`, `Train`, `Val` and `Name`, and a first line that says
    so.

    Raises:
        PixelkinError: the file is missing or not of that form.
    """
    lines = decoded(
        path, lambda: path.read_text(encoding="utf-8").splitlines(), kind="list of classes"
    )
    rows = [line.split("\t") for line in lines[1:] if line.strip()]
    names = tuple(row[-1].split(",")[0].strip() for row in rows)
    numbers = [row[0].strip() for row in rows]
    if numbers != [str(i + 1) for i in range(_CLASS_COUNT)] or not all(names):
        raise PixelkinError(
            f"{path} lists {len(rows)} classes: expected 1 to {_CLASS_COUNT} in order, with tabs "
            "between number, ratio, counts and name; use the file that the data set ships"
        )
    return names
