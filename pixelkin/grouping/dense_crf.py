"""Fully connected conditional random field: class maps drawn to the edges of the picture.

Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials",
NIPS 2011: every pair of pixels costs where their labels differ, the more the nearer they are
(smoothness kernel) and the more alike in place and colour (appearance kernel). Mean field asks
only for Gaussian filters, the second in five dimensions.
Adams, Baek, Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice",
Eurographics 2010: the filter in five dimensions.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from scipy import sparse
from torch import Tensor

from pixelkin.errors import PixelkinError

_TAIL_SIGMAS = 5.0
"""Where the smoothness kernel is cut off: a tap there weighs 4e-6."""

_LARGEST_CODE = 2**62


def dense_crf(
    probabilities: Float[Tensor, "c h w"],
    image: UInt8[np.ndarray, "h w 3"],
    *,
    iterations: int = 10,
    gaussian_sxy_px: float = 3.0,
    gaussian_compat: float = 3.0,
    bilateral_sxy_px: float = 80.0,
    bilateral_srgb: float = 13.0,
    bilateral_compat: float = 10.0,
    floor: float = 1e-5,
) -> Float[Tensor, "c h w"]:
    """Class probabilities after mean field in a fully connected CRF.

    Per iteration Q_i(l) ∝ p_i(l) · exp(Σ_m compat_m · Σ_j k̂_m(i, j) Q_j(l)), Potts labels, and
    k̂ = k(i, j) / √(n_i n_j) with n = Σ_j k(i, j): "symmetric" normalisation. As in the authors'
    program, and unlike in the paper, the sums hold the pixel itself.

    The smoothness kernel is computed exactly up to its tail beyond 5 sigmas, border pixels having
    fewer neighbours; the appearance kernel is approximated on a permutohedral lattice. Against
    the sums over all pairs, on cuts of 24×24 from photos: 98.6 to 100 % of the labels agree, mean
    error of a probability .0022 at most; with the original lattice 97.9 %, .0046.

    Runs on the CPU; the result goes back to the device of `probabilities`.

    Args:
        probabilities: float (C, H, W), 0 or more; they need not sum to 1.
        image: uint8 (H, W, 3), RGB.
        iterations: of mean field; 0 gives `probabilities`, floored and normalised.
        gaussian_sxy_px: standard deviation of the smoothness kernel in pixels.
        gaussian_compat: its weight; 0 leaves it out.
        bilateral_sxy_px: standard deviation in place of the appearance kernel in pixels.
        bilateral_srgb: its standard deviation in colour, in steps of 255.
        bilateral_compat: its weight; 0 leaves it out.
        floor: smallest probability; a class of 0 could never win a pixel otherwise.

    Returns:
        float32 (C, H, W), summing to 1 over C.

    Raises:
        PixelkinError: sizes differ, a probability is negative or no number, or a parameter is
            out of its range.
    """
    _check(probabilities, image)
    for name, value in (
        ("gaussian_sxy_px", gaussian_sxy_px),
        ("bilateral_sxy_px", bilateral_sxy_px),
        ("bilateral_srgb", bilateral_srgb),
        ("floor", floor),
    ):
        if not value > 0:
            raise PixelkinError(f"{name} is {value}: expected above 0")
    if iterations < 0 or gaussian_compat < 0 or bilateral_compat < 0:
        raise PixelkinError(
            f"{iterations} iterations, compat {gaussian_compat} and {bilateral_compat}: "
            "expected 0 or more of each"
        )
    classes, height, width = probabilities.shape
    # Pixel by pixel: the lattice gathers and scatters all classes of a pixel at once.
    pixels = probabilities.detach().cpu().float().permute(1, 2, 0).reshape(-1, classes)
    evidence = pixels.clamp(min=floor).log().numpy()
    smooth = _SmoothnessKernel((height, width), gaussian_sxy_px, gaussian_compat)
    features = _place_and_colour(image, bilateral_sxy_px, bilateral_srgb)
    alike = PermutohedralLattice(features).normalised(bilateral_compat)
    belief = torch.from_numpy(evidence).softmax(1)
    for _ in range(iterations):
        energy = evidence + alike(belief.numpy())
        energy += smooth(belief.numpy())
        belief = torch.from_numpy(energy).softmax(1)
    result = belief.reshape(height, width, classes).permute(2, 0, 1).contiguous()
    return result.to(probabilities.device)


def _check(probabilities: Tensor, image: np.ndarray) -> None:
    if probabilities.ndim != 3 or not probabilities.is_floating_point():
        raise PixelkinError(
            f"probabilities are {probabilities.dtype} {tuple(probabilities.shape)}: expected "
            "float (C, H, W)"
        )
    if image.dtype != np.uint8 or image.shape != (*probabilities.shape[1:], 3):
        height, width = probabilities.shape[1:]
        raise PixelkinError(
            f"image is {image.dtype} {image.shape}: expected uint8 ({height}, {width}, 3) as the "
            "probabilities; bring both to one size"
        )
    if not probabilities.numel():
        raise PixelkinError(
            f"probabilities of shape {tuple(probabilities.shape)} are empty: expected at least "
            "one class and one pixel"
        )
    if not (torch.isfinite(probabilities) & (probabilities >= 0)).all():
        raise PixelkinError(
            "probabilities hold a negative value or one that is no number: expected 0 or more; "
            "take softmax of scores first"
        )


class _SmoothnessKernel:
    """Gaussian of the distance in the image plane, normalised symmetrically, times `compat`."""

    def __init__(self, size_hw: tuple[int, int], sigma_px: float, compat: float) -> None:
        self._size_hw = size_hw
        # Beyond the image there is nothing: a longer kernel only costs.
        radius = min(int(np.ceil(_TAIL_SIGMAS * sigma_px)), max(size_hw) - 1)
        offsets = np.arange(-radius, radius + 1)
        self._taps = np.exp(-0.5 * (offsets / sigma_px) ** 2).astype(np.float32)
        self._scale = np.ones((*size_hw, 1), np.float32)
        sums = self._filter(self._scale)
        self._scale = np.sqrt(compat / sums)

    def __call__(self, values: Float32[np.ndarray, "n c"]) -> Float32[np.ndarray, "n c"]:
        scaled = values.reshape(*self._size_hw, -1) * self._scale
        result = self._filter(scaled)
        result *= self._scale
        return result.reshape(values.shape)

    def _filter(self, values: Float32[np.ndarray, "h w c"]) -> Float32[np.ndarray, "h w c"]:
        # OpenCV takes 128 channels at most.
        parts = [values[:, :, first : first + 64] for first in range(0, values.shape[2], 64)]
        taps = self._taps
        filtered = [
            cv2.sepFilter2D(part, -1, taps, taps, borderType=cv2.BORDER_CONSTANT) for part in parts
        ]
        return np.concatenate(
            [one.reshape(part.shape) for one, part in zip(filtered, parts, strict=True)], axis=2
        )


def _place_and_colour(
    image: UInt8[np.ndarray, "h w 3"], sxy_px: float, srgb: float
) -> Float[np.ndarray, "n 5"]:
    """x, y, red, green, blue of every pixel in standard deviations, row by row."""
    height, width = image.shape[:2]
    features = np.empty((height, width, 5))
    features[:, :, 0] = np.arange(width) / sxy_px
    features[:, :, 1] = np.arange(height)[:, None] / sxy_px
    features[:, :, 2:] = image / srgb
    return features.reshape(-1, 5)


class PermutohedralLattice:
    """Gaussian filter of unit standard deviation among points of few dimensions.

    Every point lies in a simplex of d + 1 lattice vertices and shares its values out to them by
    barycentric weights (splat); the vertices are blurred along the d + 1 axes of the lattice, and
    the points gather by the same weights (slice). The cost is linear in the points.

    The original blurs every axis once. Here all are blurred forth and then back, on a lattice
    finer by √(7/4): nearer to a Gaussian, and symmetric, as blurs do not commute at the rim.

    The result is the Gaussian sum up to a constant factor and an error that depends on where
    points lie between vertices; normalise by filtering ones. Vertices that no point touches pass
    values on where `margin` steps from a touched one; the original drops what reaches them.

    Args:
        features: (N, d) points, in standard deviations.
        margin: rings of untouched vertices that are kept.

    Raises:
        PixelkinError: the points spread over more standard deviations than 63 bits can number.
    """

    def __init__(self, features: Float[np.ndarray, "n d"], *, margin: int = 1) -> None:
        codes, weights, steps = _enclosing_simplices(features, margin)
        count, corners = codes.shape
        vertices, place = np.unique(codes, return_inverse=True)
        touched = vertices
        for _ in range(margin):
            near = [vertices + sign * step for step in steps for sign in (1, -1)]
            vertices = np.unique(np.concatenate([vertices, *near]))
        place = np.searchsorted(vertices, touched)[place]
        self._slice = sparse.csr_matrix(
            (
                weights.ravel(),
                place.ravel().astype(np.int32),
                np.arange(count + 1, dtype=np.int32) * corners,
            ),
            shape=(count, len(vertices)),
        )
        self._splat = self._slice.T.tocsr()
        forth = [
            (_find(vertices, vertices + step), _find(vertices, vertices - step)) for step in steps
        ]
        self._neighbours = forth + forth[::-1]

    def __call__(self, values: Float32[np.ndarray, "n c"]) -> Float32[np.ndarray, "n c"]:
        """The filtered values of each point, up to a constant factor."""
        at_vertices: Float32[np.ndarray, "m_1 c"] = self._splat @ values
        for up, down in self._neighbours:
            # The last row stands for all vertices that are not kept.
            padded = np.pad(at_vertices, ((0, 1), (0, 0)))
            at_vertices = 0.5 * at_vertices + 0.25 * (padded[up] + padded[down])
        filtered: Float32[np.ndarray, "n c"] = self._slice @ at_vertices
        return filtered

    def normalised(self, factor: float = 1.0) -> PermutohedralLattice:
        """The lattice of `factor` · k / √(n_i n_j), n being the sums of k over all points."""
        sums = self(np.ones((self._slice.shape[0], 1), np.float32))[:, 0]
        scale = sparse.diags_array(np.sqrt(factor / sums).astype(np.float32))
        result = object.__new__(PermutohedralLattice)
        result._slice = (scale @ self._slice).tocsr()
        result._splat = (self._splat @ scale).tocsr()
        result._neighbours = self._neighbours
        return result


def _find(
    vertices: Int64[np.ndarray, " m"], wanted: Int64[np.ndarray, " k"]
) -> Int64[np.ndarray, " k"]:
    """Index of each wanted code among the sorted `vertices`, their number where it is not there."""
    index = np.searchsorted(vertices, wanted)
    found = vertices[np.minimum(index, len(vertices) - 1)] == wanted
    return np.where(found, index, len(vertices))


def _enclosing_simplices(
    features: Float[np.ndarray, "n d"], margin: int
) -> tuple[Int64[np.ndarray, "n d_1"], Float32[np.ndarray, "n d_1"], list[int]]:
    """Codes of the d + 1 vertices about each point, its barycentric weights in them, and steps.

    A vertex is d + 1 integers of sum 0, all equal modulo d + 1; its code numbers the first d of
    them. Adding a step to a code moves one vertex along one of the d + 1 axes.
    """
    dims = features.shape[1]
    corners = dims + 1
    on_plane = (features @ _plane_basis(dims)).T
    # The nearest vertex of remainder 0, mended where rounding left the plane (Adams, section 3).
    rounded = np.rint(on_plane / corners).astype(np.int64)
    excess = rounded.sum(0)
    rest = on_plane - rounded * corners
    rank = np.empty_like(rounded)
    np.put_along_axis(rank, np.argsort(-rest, axis=0, kind="stable"), _column(corners), axis=0)
    rank += excess
    turn = (rank < 0).astype(np.int64) - (rank > dims)
    rank += turn * corners
    rounded += turn
    rest = (on_plane - rounded * corners) / corners
    falling = np.empty_like(rest)
    np.put_along_axis(falling, rank, rest, axis=0)
    weights = np.empty_like(falling)
    weights[0] = 1 - falling[0] + falling[-1]
    weights[1:] = (falling[:-1] - falling[1:])[::-1]

    base = rounded[:dims] * corners
    reach = (margin + 1) * corners + corners
    lowest = base.min(1, keepdims=True) - reach
    spans = [int(span) for span in (base.max(1, keepdims=True) + reach - lowest + 1)[:, 0]]
    digits = [1] * dims
    for axis in range(dims - 1, 0, -1):
        digits[axis - 1] = digits[axis] * spans[axis]
    if digits[0] * spans[0] > _LARGEST_CODE:
        raise PixelkinError(
            f"features spread over {[round(float(one)) for one in np.ptp(features, axis=0)]} "
            "standard deviations, too many to number; choose larger standard deviations"
        )
    digit = np.array(digits)
    start = digit @ (base - lowest)
    codes = np.empty((len(features), corners), np.int64)
    for corner in range(corners):
        beyond = rank[:dims] > dims - corner
        codes[:, corner] = start + corner * digit.sum() - corners * (digit @ beyond)
    steps = [int(digit.sum()) - corners * one for one in (*digits, 0)]
    return codes, np.ascontiguousarray(weights.T, np.float32), steps


def _column(length: int) -> Int64[np.ndarray, "n 1"]:
    return np.arange(length)[:, None]


def _plane_basis(dims: int) -> Float[np.ndarray, "d d_1"]:
    """Maps points to the lattice's plane so that splat, two blurs and slice make a unit Gaussian.

    In units of (d + 1)², splat and slice have a variance of 1/12 each in every direction of the
    plane, a blur along all axes 1/2 (Adams et al., section 3.1).
    """
    basis = np.zeros((dims, dims + 1))
    for axis in range(dims):
        basis[axis, : axis + 1] = 1
        basis[axis, axis + 1] = -(axis + 1)
        basis[axis] /= np.sqrt((axis + 1) * (axis + 2))
    scaled: Float[np.ndarray, "d d_1"] = basis * np.sqrt(2 / 2 + 2 / 12) * (dims + 1)
    return scaled
