"""What data sets call the class of pixels that show nothing."""

from collections.abc import Sequence

BACKGROUND = ("background", "__background__", "_background_", "void")
"""In small letters."""


def background_index(class_names: Sequence[str]) -> int | None:
    """The index of the class that is called background, if any."""
    found = [index for index, name in enumerate(class_names) if name.lower() in BACKGROUND]
    return found[0] if found else None
