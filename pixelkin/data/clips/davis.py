"""Folders of video frames with masks: DAVIS 2016, DAVIS 2017 and YouTube-VOS.

Perazzi et al., CVPR 2016; Pont-Tuset et al., arXiv:1704.00675; Xu et al., arXiv:1809.03327.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from pixelkin.data.reading import (
    image_size_hw,
    images_by_stem,
    read_image,
    refuse_binary,
    require_folder,
)
from pixelkin.data.splits import unknown_split
from pixelkin.errors import PixelkinError
from pixelkin.masks import read_indexed_png
from pixelkin.structures import IGNORE

_LAYOUT = (
    "JPEGImages/<resolution>/<sequence>/00000.jpg and Annotations/… (DAVIS), "
    "or JPEGImages/<sequence>/00000.jpg (YouTube-VOS)"
)


class VideoFolder:
    """Sequences of frames and their label maps, read when asked for.

    DAVIS lays frames under `JPEGImages/<resolution>/<sequence>` and annotates every frame.
    YouTube-VOS has no resolution folder and annotates some frames, mostly every fifth; which of
    the two lies at `root` is seen from the folders.

    Args:
        root: folder that holds `JPEGImages` and `Annotations`.
        year: 2016: one object, any non-zero pixel becomes 1. 2017 (and YouTube-VOS): palette
            indices are the object ids, 255 is unknown; a grey mask of 0 and 255 is one object.
        resolution: folder of DAVIS, `"480p"` or `"Full-Resolution"`.
        split: a list in `ImageSets/<year>` (or `ImageSets/<resolution>`, as the 2016 release has
            it), such as `"train"` or `"val"`; None takes every sequence.

    Attributes:
        sequences: names, sorted, or in the order of the split's list.

    Raises:
        PixelkinError: a folder is missing (the message names the layout), the split is unknown,
            or a sequence of the split is missing.
    """

    sequences: list[str]

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        year: int = 2017,
        resolution: str = "480p",
        split: str | None = None,
    ) -> None:
        if year not in (2016, 2017):
            raise PixelkinError(f"year {year} is unknown: expected 2016 or 2017")
        base = Path(root)
        images = require_folder(base / "JPEGImages", _LAYOUT)
        annotations = require_folder(base / "Annotations", _LAYOUT)
        self._one_object = year == 2016
        self._sparse = _is_flat(images, resolution)
        self._images = images if self._sparse else images / resolution
        self._annotations = annotations if self._sparse else annotations / resolution
        require_folder(self._annotations, _LAYOUT)
        present = sorted(
            path.name
            for path in self._images.iterdir()
            if path.is_dir() and not path.name.startswith(".")
        )
        self.sequences = present
        if split is not None:
            lists = [base / "ImageSets" / str(year), base / "ImageSets" / resolution]
            self.sequences = _read_split(split, lists)
            for sequence in self.sequences:
                require_folder(self._images / sequence, f"the frames of split {split!r}")
        if not self.sequences:
            raise PixelkinError(
                f"{self._images} holds no sequence: expected {_LAYOUT}; give the folder that holds "
                "JPEGImages"
            )

    def __len__(self) -> int:
        return len(self.sequences)

    def frame_paths(self, sequence: str) -> list[Path]:
        """Files of the frames, in order."""
        if sequence not in self.sequences:
            raise PixelkinError(
                f"no sequence {sequence!r} in {self._images}: expected one of "
                f"{', '.join(self.sequences[:8])}{' …' if len(self.sequences) > 8 else ''}"
            )
        return list(images_by_stem(self._images / sequence).values())

    def frames(self, sequence: str) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """Frames one by one, each uint8 RGB (H, W, 3)."""
        return map(read_image, self.frame_paths(sequence))

    def frame_at(self, sequence: str, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The frame at `index`, uint8 RGB (H, W, 3)."""
        return read_image(self._frame_path(sequence, index))

    def annotated(self, sequence: str) -> list[int]:
        """Indices of the frames that have a mask, ascending."""
        frames = self.frame_paths(sequence)
        return [i for i, path in enumerate(frames) if self._mask_path(path).is_file()]

    def labels_at(self, sequence: str, index: int) -> UInt8[np.ndarray, "h w"]:
        """Label map of the frame at `index`, uint8 (H, W).

        Raises:
            PixelkinError: the frame has no mask, or its size differs from the frame's.
        """
        return self._read_labels(self._frame_path(sequence, index))

    def labels(self, sequence: str) -> UInt8[np.ndarray, "t h w"]:
        """Label maps of all frames, uint8 (T, H, W).

        Frames that YouTube-VOS leaves without a mask are `IGNORE` throughout; in the layout of
        DAVIS a missing mask is an error.
        """
        frames = self.frame_paths(sequence)
        maps = np.full((len(frames), *image_size_hw(frames[0])), IGNORE, np.uint8)
        for index, path in enumerate(frames):
            if self._sparse and not self._mask_path(path).is_file():
                continue
            labels = self._read_labels(path)
            if labels.shape != maps.shape[1:]:
                raise PixelkinError(
                    f"{path} is {labels.shape[1]}×{labels.shape[0]}: expected "
                    f"{maps.shape[2]}×{maps.shape[1]} as {frames[0].name}; make all frames one size"
                )
            maps[index] = labels
        return maps

    def first_labels(self, sequence: str) -> UInt8[np.ndarray, "h w"]:
        """Label map of the first frame that has one, uint8 (H, W); frame 0 in DAVIS.

        Its index is `annotated(sequence)[0]`. YouTube-VOS lets further objects enter later.
        """
        annotated = self.annotated(sequence) if self._sparse else [0]
        if not annotated:
            raise PixelkinError(
                f"no frame of {sequence!r} has a mask: expected PNGs in "
                f"{self._annotations / sequence}"
            )
        return self.labels_at(sequence, annotated[0])

    def _frame_path(self, sequence: str, index: int) -> Path:
        frames = self.frame_paths(sequence)
        if not 0 <= index < len(frames):
            raise PixelkinError(
                f"no frame {index} in {sequence!r}: expected 0 to {len(frames) - 1}"
            )
        return frames[index]

    def _mask_path(self, frame: Path) -> Path:
        return self._annotations / frame.parent.name / f"{frame.stem}.png"

    def _read_labels(self, frame: Path) -> UInt8[np.ndarray, "h w"]:
        path = self._mask_path(frame)
        if not path.is_file():
            raise PixelkinError(f"frame {frame} has no mask: expected {path}; add it")
        labels = read_indexed_png(path, size_hw=image_size_hw(frame))
        if self._one_object:
            return np.asarray(labels != 0, dtype=np.uint8)
        refuse_binary(labels, path, remedy="pass year=2016")
        return labels


def _is_flat(images: Path, resolution: str) -> bool:
    """Whether sequences lie directly in `images`; an error where neither layout is there."""
    if (images / resolution).is_dir() and not any((images / resolution).glob("[!.]*.jpg")):
        return False
    if any(images.glob("*/[!.]*.jpg")):
        return True
    there = ", ".join(sorted(path.name for path in images.iterdir())[:8]) or "nothing"
    raise PixelkinError(f"no {resolution!r} in {images} (there: {there}): expected {_LAYOUT}")


def _read_split(split: str, folders: list[Path]) -> list[str]:
    """Sequences of a list: one name per line, or one `…/<sequence>/<frame>.jpg …` per line."""
    lists = {path.stem: path for folder in reversed(folders) for path in folder.glob("*.txt")}
    if split not in lists:
        raise unknown_split(split, lists, where=folders[0])
    first_words = [
        line.split()[0]
        for line in lists[split].read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    names = [Path(word).parent.name if "/" in word else word for word in first_words]
    return list(dict.fromkeys(names))
