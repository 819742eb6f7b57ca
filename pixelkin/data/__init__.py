"""Annotated data: one module per annotation encoding, and synthetic clips made from stills."""
