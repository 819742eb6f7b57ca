"""Segment images and video by learned pixel similarity."""

__version__ = "0.1.0"
