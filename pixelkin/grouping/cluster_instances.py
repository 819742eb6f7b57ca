"""Instances as clusters of embeddings.

B. De Brabandere, D. Neven, L. Van Gool: "Semantic Instance Segmentation with a Discriminative Loss
Function", CVPR workshops 2017, section 3.2: the foreground comes from a semantic head, its
embeddings are grouped by mean-shift, or in one pass.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pixelkin.errors import PixelkinError
from pixelkin.grouping.cells import CellMask, instances_of
from pixelkin.grouping.mean_shift import mean_shift, one_pass
from pixelkin.structures import InstanceFields, Instances


@dataclass(frozen=True)
class ClusterGrouping:
    """From embeddings and a semantic head to instances, by clusters.

    Attributes:
        bandwidth: of the mean-shift, or radius of the one pass. 1.5 is δ_d: the loss asks for means
            2 δ_d apart, so what is nearer than half of that is the same object. The paper takes
            δ_v = .5, within which all pixels of an object lie once the loss is 0; until then it
            takes objects to pieces (docs/model_zoo.md).
        method: "mean_shift", or "one_pass": thresholding around one pixel after the other, most
            certain first.
        min_foreground: probability from which a cell is foreground. Cells between a half and none
            cost nothing in AP where masks are ranked; .5 is the semantic head's own decision.
        min_cells: smaller clusters are dropped.
    """

    bandwidth: float = 1.5
    method: Literal["mean_shift", "one_pass"] = "mean_shift"
    min_foreground: float = 0.5
    min_cells: int = 4

    def __post_init__(self) -> None:
        if self.method not in ("mean_shift", "one_pass"):
            raise PixelkinError(
                f"the method is {self.method!r}: expected mean_shift or one_pass; choose one"
            )

    def __call__(self, fields: InstanceFields, size_hw: tuple[int, int]) -> Instances:
        """Instances of one image, best first.

        The paper gives no score to an instance. Ours is the mean probability of its class over its
        cells.

        Args:
            fields: N = 1; logits of classes + 1 channels, the background first.
            size_hw: of the image in pixels, at most what the fields cover.
        """
        if len(fields.embeddings) != 1 or fields.logits.shape[1] < 2:
            raise PixelkinError(
                f"fields of {len(fields.embeddings)} images with {fields.logits.shape[1]} logits: "
                "expected one image, and logits of the background and of every class"
            )
        field_hw = (fields.logits.shape[2], fields.logits.shape[3])
        embeddings = fields.embeddings[0].flatten(1).T
        probabilities = fields.logits[0].flatten(1).softmax(0)
        foreground = 1 - probabilities[0]
        category = probabilities[1:].argmax(0)
        candidates = []
        for index in range(len(probabilities) - 1):
            own = probabilities[index + 1]
            cells = ((foreground >= self.min_foreground) & (category == index)).nonzero()[:, 0]
            if not len(cells):
                continue
            labels = self._clusters(embeddings[cells].contiguous(), own[cells])
            candidates += _candidates(cells, labels, own[cells], index)
        return instances_of(
            sorted(candidates, key=lambda one: -one.score),
            field_hw=field_hw,
            stride=fields.stride,
            size_hw=size_hw,
        )

    def _clusters(self, points: Tensor, certainty: Tensor) -> Tensor:
        if self.method == "one_pass":
            return one_pass(
                points, radius=self.bandwidth, priority=certainty, min_size=self.min_cells
            )[0]
        return mean_shift(points, bandwidth=self.bandwidth, min_size=self.min_cells)[0]


def _candidates(cells: Tensor, labels: Tensor, certainty: Tensor, category: int) -> list[CellMask]:
    order = torch.sort(labels, stable=True).indices
    order = order[labels[order] >= 0]
    counts = torch.bincount(labels[order]).tolist() if len(order) else []
    parts = zip(
        torch.split(cells[order], counts), torch.split(certainty[order], counts), strict=True
    )
    return [
        CellMask(own.cpu().numpy(), category, float(sure.mean())) for own, sure in parts if len(own)
    ]
