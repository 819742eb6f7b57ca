"""A class for every pixel: one module per data set, and `sources` that opens them by name."""
