"""Affinity of neighbouring pixels from learned features.

J. Ahn, S. Kwak: "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly
Supervised Semantic Segmentation", CVPR 2018, section 3.2.
"""

from pixelkin.errors import PixelkinError

RADIUS_CELLS = 5
"""γ: pairs farther apart than this, or just as far, are not looked at (the paper's)."""


def half_plane_offsets(radius: int = RADIUS_CELLS) -> tuple[tuple[int, int], ...]:
    """(dy, dx) from a cell to every neighbour strictly nearer than `radius`, each pair once.

    Half of the disc stands for all of it, since affinity is symmetric: the cells to the right in
    the same row, then those of the rows below. 34 for the paper's radius of 5.

    Args:
        radius: in cells, 2 or more.
    """
    if radius < 2:
        raise PixelkinError(
            f"the radius is {radius} cells, which leaves no neighbour: expected 2 or more; "
            f"the paper's is {RADIUS_CELLS}"
        )
    return tuple(
        (dy, dx)
        for dy in range(radius)
        for dx in range(-radius + 1, radius)
        if (dy > 0 or dx > 0) and dy * dy + dx * dx < radius * radius
    )
