"""Measures of segmented volumes, as the Liver Tumor Segmentation benchmark has them.

Source: Bilic et al., "The Liver Tumor Segmentation Benchmark (LiTS)", Medical Image Analysis 84,
2023, section 3, and the evaluation that its authors published; Heimann et al., "Comparison and
evaluation of methods for liver segmentation from CT datasets", TMI 28(8), 2009 (the distances).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.spatial import cKDTree

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.semantic.confusion import Labels, as_indices, check_same_shape
from pixelkin.evaluation.semantic.scores import mean
from pixelkin.structures import IGNORE

Volume = Bool[np.ndarray, "x y z"]
Spacing = tuple[float, float, float]

LITS_STRUCTURES: Mapping[str, tuple[int, ...]] = MappingProxyType({"liver": (1, 2), "tumour": (2,)})
"""Labels that make up each structure: a tumour is a part of the liver."""

_PARTS = {"liver": ("tumour",)}

_NEIGHBOURS = ndimage.generate_binary_structure(3, 2)


class VolumeScores:
    """Dice_per_case, Dice_global, VOE, RVD, |RVD|, ASSD and MSSD of each structure.

    All but Dice_global are means over cases. VOE is 1 − IoU; RVD is (found − true) / true voxels,
    |RVD| the same without sign; ASSD and MSSD are in millimetres.

    - Where a case has a structure on neither side, its Dice is 1, VOE and RVD are 0 and there is
      no distance. Where it has it on one side, Dice is 0 and VOE 1; there is no distance either,
      and no RVD where the truth has none. `one_sided` counts these cases: means of distances leave
      them out, so read both together. (The published evaluation puts 9001 there, counts Dice 0
      where neither side has a structure, and divides RVD by the found voxels.)
    - A case whose spacing nobody knows has no distance; where there are such cases, `no_spacing`
      counts them.
    - Voxels whose truth is `IGNORE` belong to nothing on either side.

    Args:
        structures: name → labels that it is made of.

    Raises:
        PixelkinError: no structure, or one without labels.
    """

    def __init__(self, structures: Mapping[str, Collection[int]] = LITS_STRUCTURES) -> None:
        self.structures = {name: tuple(labels) for name, labels in structures.items()}
        if not self.structures or not all(self.structures.values()):
            raise PixelkinError(
                f"structures are {self.structures}; expected one or more, each with its labels, "
                "such as {'liver': (1, 2)}"
            )
        self._names: list[str] = []
        self._cases: dict[str, list[dict[str, float]]] = {name: [] for name in self.structures}
        self._common_and_total = {name: np.zeros(2, np.int64) for name in self.structures}

    def update(
        self, truth: Labels, predicted: Labels, *, spacing_mm: Spacing | None, name: str = ""
    ) -> None:
        """Count one case in.

        Args:
            truth: integers (X, Y, Z).
            predicted: of the same shape.
            spacing_mm: millimetres from voxel to voxel along each axis of the arrays; None where
                nobody knows, so that there are no distances.
            name: of the case, for `by_case`.

        Raises:
            PixelkinError: not volumes of integers, shapes differ, or a spacing is not above 0.
        """
        wanted, found = as_indices(truth, "truth"), as_indices(predicted, "prediction")
        check_same_shape(wanted, found)
        _check_volume(wanted, spacing_mm)
        known = wanted != IGNORE
        self._names.append(name)
        for structure, labels in self.structures.items():
            a = np.isin(found, labels) & known
            b = np.isin(wanted, labels) & known
            sizes = np.array([np.count_nonzero(a & b), np.count_nonzero(a) + np.count_nonzero(b)])
            self._common_and_total[structure] += sizes
            scores = volume_scores(a, b, spacing_mm=spacing_mm)
            one_sided = {"one_sided": float(a.any() != b.any())}
            unplaced = {"no_spacing": float(spacing_mm is None)}
            self._cases[structure].append(scores | one_sided | unplaced)

    def merge(self, other: VolumeScores) -> None:
        """Count in all cases of `other`.

        Raises:
            PixelkinError: structures differ.
        """
        if other.structures != self.structures:
            raise PixelkinError(
                f"structures {self.structures} and {other.structures} differ; merge scores of the "
                "same structures"
            )
        self._names += other._names
        for name in self.structures:
            self._cases[name] += other._cases[name]
            self._common_and_total[name] += other._common_and_total[name]

    def compute(self) -> dict[str, float]:
        """Values of all cases so far, under "value/structure"; NaN where nothing defines one."""
        values: dict[str, float] = {}
        for name, cases in self._cases.items():
            common, total = self._common_and_total[name]
            whole = {"Dice_per_case": mean(case["Dice"] for case in cases)}
            whole["Dice_global"] = 2 * common / total if total else (1.0 if cases else math.nan)
            for key in ("VOE", "RVD", "ASSD", "MSSD"):
                whole[key] = mean(case[key] for case in cases)
            whole["|RVD|"] = mean(abs(case["RVD"]) for case in cases)
            whole["one_sided"] = sum(case["one_sided"] for case in cases)
            unplaced = sum(case["no_spacing"] for case in cases)
            if unplaced:
                whole["no_spacing"] = unplaced
            values |= {f"{key}/{name}": float(value) for key, value in whole.items()}
        return {key: values[key] for key in sorted(values, key=_order)}

    def by_case(self) -> list[dict[str, str | float]]:
        """Per case and structure: case, structure, Dice, VOE, RVD, ASSD and MSSD."""
        return [
            {"case": name, "structure": structure}
            | {key: self._cases[structure][index][key] for key in _SCORES}
            for index, name in enumerate(self._names)
            for structure in self.structures
        ]


def structures_of(
    class_names: Sequence[str], *, background: Collection[str] = ("background",)
) -> dict[str, tuple[int, ...]]:
    """Name → labels of what volumes of these classes are judged by: each but the background.

    A liver includes its tumours, as in `LITS_STRUCTURES`.

    Raises:
        PixelkinError: there is nothing but background.
    """
    label_of = {name: index for index, name in enumerate(class_names) if name}
    found = {
        name: tuple(label_of[part] for part in (name, *_PARTS.get(name, ())) if part in label_of)
        for name in label_of
        if name not in background
    }
    if not found:
        raise PixelkinError(
            f"volumes are judged by structure, but all of {', '.join(class_names)} are "
            "background; give the names of structures too"
        )
    return found


def volume_scores(mask: Volume, truth: Volume, *, spacing_mm: Spacing | None) -> dict[str, float]:
    """Dice, VOE, RVD, ASSD and MSSD (millimetres) of one structure in one case.

    See `VolumeScores` for what stands where a side is empty or the spacing is None.

    Raises:
        PixelkinError: not volumes, shapes differ, or a spacing is not above 0.
    """
    check_same_shape(truth, mask)
    _check_volume(truth, spacing_mm)
    found, wanted = int(np.count_nonzero(mask)), int(np.count_nonzero(truth))
    common = int(np.count_nonzero(mask & truth))
    if not found and not wanted:
        return {"Dice": 1.0, "VOE": 0.0, "RVD": 0.0, "ASSD": math.nan, "MSSD": math.nan}
    scores = {
        "Dice": 2 * common / (found + wanted),
        "VOE": 1 - common / (found + wanted - common),
        "RVD": (found - wanted) / wanted if wanted else math.nan,
        "ASSD": math.nan,
        "MSSD": math.nan,
    }
    if found and wanted and spacing_mm is not None:
        distances = np.concatenate(surface_distances_mm(mask, truth, spacing_mm=spacing_mm))
        scores |= {"ASSD": float(distances.mean()), "MSSD": float(distances.max())}
    return scores


def surface_distances_mm(
    mask: Volume, truth: Volume, *, spacing_mm: Spacing
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]:
    """From each surface voxel of one to the nearest of the other, in millimetres, both ways.

    The surface are the voxels that have one outside the mask among their 18 neighbours; beyond
    the volume everything is outside. Distances are between centres of voxels.

    Raises:
        PixelkinError: a mask is empty, not volumes, shapes differ, or a spacing is not above 0.
    """
    check_same_shape(truth, mask)
    _check_volume(truth, spacing_mm)
    if not mask.any() or not truth.any():
        raise PixelkinError("a mask is empty and has no surface; leave this case out")
    surfaces = [_surface_mm(one, spacing_mm) for one in (mask, truth)]
    # A tree needs memory for surfaces only; a distance transform for the whole volume.
    trees = [cKDTree(points) for points in surfaces]
    return trees[1].query(surfaces[0])[0], trees[0].query(surfaces[1])[0]


def _surface_mm(mask: Volume, spacing_mm: Spacing) -> Float[np.ndarray, "n 3"]:
    box = tuple(
        slice(int(used[0]), int(used[-1]) + 1)
        for used in (np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    )
    inner = ndimage.binary_erosion(mask[box], _NEIGHBOURS)
    corner = [side.start for side in box]
    points: Float[np.ndarray, "n 3"] = (np.argwhere(mask[box] & ~inner) + corner) * spacing_mm
    return points


def _check_volume(volume: np.ndarray, spacing_mm: Spacing | None) -> None:
    if volume.ndim != 3:
        raise PixelkinError(
            f"the volume has shape {volume.shape}, expected three axes; stack the slices, or give "
            "one slice as (1, height, width)"
        )
    if spacing_mm is None:
        return
    if len(spacing_mm) != 3 or not all(math.isfinite(s) and s > 0 for s in spacing_mm):
        raise PixelkinError(
            f"spacing is {spacing_mm}, expected three numbers above 0 in millimetres, one per "
            "axis; read it from the volume's header"
        )


_SCORES = ("Dice", "VOE", "RVD", "ASSD", "MSSD")
_COLUMNS = (
    "Dice_per_case", "Dice_global", "VOE", "RVD", "|RVD|", "ASSD", "MSSD", "one_sided",
    "no_spacing",
)  # fmt: skip


def _order(key: str) -> int:
    return _COLUMNS.index(key.split("/")[0])
