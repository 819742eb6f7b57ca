"""A class for every pixel of a still: one segmenter for all semantic networks."""
