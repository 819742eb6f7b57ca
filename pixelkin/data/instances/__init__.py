"""Annotated objects: one module per encoding, and `sources` that opens them by name."""
