"""Pratheepan: faces and families from the web, with the pixels that show skin.

Tan, Chan, Yogarajah, Condell: A Fusion Approach for Efficient Human Skin Detection, IEEE
Transactions on Industrial Informatics 8(1), 2012.
"""

import os
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int64, UInt8

from pixelkin.data.class_maps.files import REMEDY, ClassMapFiles, paired_files
from pixelkin.data.reading import decoded, open_image, require_size
from pixelkin.errors import PixelkinError

Part = Literal["face", "family", "all"]

_FOLDERS = {"face": "FacePhoto", "family": "FamilyPhoto"}
_LAYOUT = (
    "the Pratheepan layout: Pratheepan_Dataset/FacePhoto/<name>.jpg and "
    "Ground_Truth/GroundT_FacePhoto/<name>.png, and the same of FamilyPhoto"
)
_HALF = 128
_TINT = 32
"""Levels that the channels of black and white may differ by, as some were saved as JPEG before."""
_TINTED = 0.01
"""Share of pixels that may differ by more; of photos it is most, at the least where skin is."""


class Pratheepan(ClassMapFiles):
    """Photos of one person (32, `FacePhoto`) or of several (46, `FamilyPhoto`).

    Masks are black and white, mostly in three channels; what is brighter than half is skin. Masks
    with colours, such as a photo among them, are refused.

    Args:
        root: folder that holds `Pratheepan_Dataset` and `Ground_Truth`.
        part: `"face"`, `"family"` or `"all"`.

    Raises:
        PixelkinError: a folder or a mask is missing, or `part` is unknown; on reading, a file is
            corrupt or has colours, or sizes differ.
    """

    def __init__(self, root: str | os.PathLike[str], *, part: Part = "all") -> None:
        if part not in get_args(Part):
            raise PixelkinError(f"part {part!r} is unknown: expected 'face', 'family' or 'all'")
        files: dict[str, tuple[Path, Path]] = {}
        for folder in _FOLDERS.values() if part == "all" else (_FOLDERS[part],):
            photos = Path(root) / "Pratheepan_Dataset" / folder
            masks = Path(root) / "Ground_Truth" / f"GroundT_{folder}"
            pairs = paired_files(photos, masks, layout=_LAYOUT)
            # Both folders may hold a photo of the same name.
            files |= {f"{folder}_{stem}": pair for stem, pair in pairs.items()}
        super().__init__(files, ("background", "skin"))

    def _read_labels(self, path: Path, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        return read_skin(path, size_hw=size_hw)


def read_skin(path: Path, *, size_hw: tuple[int, ...]) -> Int64[np.ndarray, "h w"]:
    """A black and white mask as 0 and 1, int64 (H, W), in whatever channels it was saved.

    Raises:
        PixelkinError: the file is missing or corrupt, of another size than `size_hw`, deeper than
            8 bits or not black and white.
    """

    def decode() -> Int64[np.ndarray, "h w"]:
        with open_image(path) as image:
            require_size(path, (image.height, image.width), size_hw)
            if image.mode.startswith(("I", "F")):
                # Pillow would clip deeper pixels to white.
                raise PixelkinError(
                    f"{path} has pixels of mode {image.mode}: expected 8 bits per channel; {REMEDY}"
                )
            # Straight to grey, palettes and alpha would do otherwise than what one sees.
            rgb = image.convert("RGB")
            _refuse_colours(np.asarray(rgb), path)
            return (np.asarray(rgb.convert("L")) >= _HALF).astype(np.int64)

    return decoded(path, decode, kind="mask")


def _refuse_colours(rgb: UInt8[np.ndarray, "h w 3"], path: Path) -> None:
    tint = rgb.max(axis=2) - rgb.min(axis=2)
    share = float((tint > _TINT).mean())
    if share > _TINTED:
        y, x = np.unravel_index(tint.argmax(), tint.shape)
        raise PixelkinError(
            f"{path} has colours in {share:.0%} of its pixels, such as {tuple(rgb[y, x].tolist())} "
            f"at x {x}, y {y}: expected a mask, white where skin is and black elsewhere; {REMEDY}"
        )
