"""Segment images and video by learned pixel similarity."""

from pixelkin.errors import PixelkinError
from pixelkin.loading import load

__all__ = ["PixelkinError", "__version__", "load"]
__version__ = "0.1.0"
