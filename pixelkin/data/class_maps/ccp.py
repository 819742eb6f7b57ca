"""Clothing Co-Parsing as class maps: the garment, skin or hair that each pixel shows.

Yang, Luo, Lin: Clothing Co-Parsing by Joint Image Segmentation and Labeling, CVPR 2014.
"""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int64
from scipy.io import loadmat

from pixelkin.data.class_maps.files import faults_are_noted, one_still
from pixelkin.data.clips.ccp import CLASS_COUNT, read_classes
from pixelkin.data.reading import (
    decoded,
    images_by_stem,
    read_image,
    require_folder,
    require_size,
)
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE, Sample

Others = Literal["background", "ignore"]

_LAYOUT = "the CCP layout: photos/0001.jpg, annotations/pixel-level/0001.mat and label_list.mat"
_NULL = "null"


class CcpSemantic:
    """The photos that have pixel labels (`photos/<n>.jpg`, `annotations/pixel-level/<n>.mat`).

    Labels without a photo are left out; `pixelkin check` names them.

    Args:
        root: folder that holds `photos`, `annotations` and `label_list.mat`.
        classes: None gives all 59 in the order of the data set, `"null"` (what is not on the
            person) first; names of some give `("background", *classes)` in the order given.
        others: what a class that was not chosen becomes: `"background"`, or `"ignore"` for
            `IGNORE`, so that it neither trains nor counts; null is background in both cases.

    Raises:
        PixelkinError: a folder or the list of classes is missing, no photo has pixel labels,
            a class is unknown or chosen twice, or `others` is unknown; on reading, a file is
            corrupt or sizes differ.
    """

    names: list[str]
    class_names: tuple[str, ...]

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        classes: Sequence[str] | None = None,
        others: Others = "background",
    ) -> None:
        if others not in get_args(Others):
            raise PixelkinError(f"others is {others!r}: expected 'background' or 'ignore'")
        base = Path(root)
        self._annotations = require_folder(base / "annotations" / "pixel-level", _LAYOUT)
        photos = images_by_stem(require_folder(base / "photos", _LAYOUT))
        known = read_class_names(base / "label_list.mat")
        if classes is None:
            self.class_names = known
            self._label_of: Int64[np.ndarray, " n"] = np.arange(CLASS_COUNT)
        else:
            self.class_names = ("background", *classes)
            self._label_of = _chosen(known, classes, IGNORE if others == "ignore" else 0)
        labelled = {path.stem for path in self._annotations.glob("[!.]*.mat")}
        self._photos = {stem: photos[stem] for stem in sorted(labelled & photos.keys())}
        if not self._photos:
            raise PixelkinError(
                f"no photo of {base / 'photos'} has pixel labels in {self._annotations}: "
                f"expected {_LAYOUT}; give the folder that holds photos and annotations of one set"
            )
        self.names = list(self._photos)
        if faults_are_noted():
            for stem in sorted(labelled - photos.keys()):
                with one_still():
                    raise PixelkinError(
                        f"{self._annotations / stem}.mat has no photo: expected "
                        f"{base / 'photos' / stem}.jpg; add the photo, or remove the .mat"
                    )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        path = self._annotations / f"{name}.mat"
        image, classes = read_image(self._photos[name]), read_classes(path)
        require_size(path, classes.shape, image.shape[:2])
        return Sample(image, self._label_of[classes], name)

    def map_file(self, index: int) -> Path:
        """The file that holds the class map of a still."""
        return self._annotations / f"{self.names[index]}.mat"

    def image_file(self, index: int) -> Path | None:
        """The image file of a still; see `Source`."""
        return self._photos[self.names[index]]


def _chosen(known: tuple[str, ...], classes: Sequence[str], other: int) -> Int64[np.ndarray, " n"]:
    """Label of each of CCP's classes: 0 for null, 1 … k for those chosen, `other` for the rest."""
    if isinstance(classes, str) or not classes:
        raise PixelkinError(
            f"classes is {classes!r}: expected a list of names, such as ['hair', 'skin']"
        )
    label_of = np.full(CLASS_COUNT, other, np.int64)
    label_of[0] = 0
    for label, name in enumerate(classes, start=1):
        if name not in known[1:]:
            near = difflib.get_close_matches(name, known[1:], n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known[1:])}"
            raise PixelkinError(f"class {name!r} is unknown: expected one of CCP's 58; {hint}")
        if name in classes[: label - 1]:
            raise PixelkinError(f"class {name!r} is chosen twice: expected each once; drop one")
        label_of[known.index(name)] = label
    return label_of


def read_class_names(path: Path) -> tuple[str, ...]:
    """The 59 names in `label_list.mat`, null first, in the order of their numbers.

    Raises:
        PixelkinError: the file is missing, corrupt, or lists other classes.
    """

    def decode() -> tuple[str, ...]:
        return tuple(str(one[0]) for one in loadmat(path)["label_list"].ravel())

    names = decoded(path, decode, kind="list of classes")
    if len(names) != CLASS_COUNT or names[0] != _NULL:
        raise PixelkinError(
            f"{path} lists {len(names)} classes: expected {CLASS_COUNT}, the first null; use "
            "CCP's label_list.mat"
        )
    return names
