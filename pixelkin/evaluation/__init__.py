"""Metrics as their authors define them."""
