"""Files that tell the single objects of class maps apart, of data sets that ship them beside."""

from collections.abc import Mapping
from pathlib import Path

from pixelkin.errors import PixelkinError


def all_or_none(files: Mapping[str, Path]) -> dict[str, Path]:
    """`files` where all are there, nothing where none is.

    Raises:
        PixelkinError: some are there and some are not.
    """
    missing = [path for path in files.values() if not path.is_file()]
    if len(missing) == len(files):
        return {}
    if missing:
        raise PixelkinError(
            f"no file {missing[0]}: expected the ids of objects for all {len(files)} stills, as "
            f"{len(files) - len(missing)} have them, or for none; add it, or judge without the "
            "measure cityscapes"
        )
    return dict(files)
