"""Plain retrieval: every cell takes the label that its nearest labelled cells vote for.

Y. Chen, J. Pont-Tuset, A. Montes, L. Van Gool: "Blazingly Fast Video Object Segmentation with
Pixel-Wise Metric Learning", CVPR 2018, section 3. The paper's: references from the first mask, the
vote of the 5 nearest, references added as the clip goes on. Ours: which cells are added
(`append_confident`), smoothing in time, upsampling along edges (the paper uses a CRF for some of
its numbers), and place and time as a term of the distance, off by default (the paper feeds them
to its network's head). None of these was tuned on DAVIS.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from pixelkin.baselines.contract import Frame, LabelMap, one_hot, split_first
from pixelkin.errors import PixelkinError
from pixelkin.grouping.retrieval import (
    ReferenceStore,
    append_confident,
    decide,
    make_store,
    retrieve,
    smooth_in_time,
    temporal_agreement,
)
from pixelkin.grouping.upsample import guided_upsample, upsample_scores
from pixelkin.structures import IGNORE

Embed = Callable[[Frame], Float[Tensor, "d h w"]]
"""Frame → embeddings of unit norm; cell (i, j) starts at pixel (i, j) · stride. Cells may reach
beyond the frame's right and bottom border."""


@dataclass(frozen=True)
class Retrieval:
    """Retrieval of labels from the first frame's cells and from confident cells since then.

    A method as `pixelkin.baselines` describes it. Memory: the first frame's cells and
    `most_adapted` more.

    Attributes:
        embed: see `Embed`.
        stride: pixels per cell of `embed`.
        k: neighbours that vote; 5 in the paper.
        sigmas: (pixels, frames) whose distance counts as much as a squared embedding distance of
            1; None for none.
        unknown_threshold: cells whose nearest reference is farther (squared distance, 0 to 4
            between unit vectors) become background; None for none.
        confidence: share of the vote from which a cell is added, in (0, 1].
        added_per_frame: most cells added of one frame.
        most_adapted: most added cells that are kept, the newest; 0 adds none.
        smoothing: weight of the previous frame where the picture stands still, in [0, 1).
        along_edges: upsample along the image's edges; else bilinearly.
    """

    embed: Embed
    stride: int = 16
    k: int = 5
    sigmas: tuple[float, float] | None = None
    unknown_threshold: float | None = None
    confidence: float = 0.95
    added_per_frame: int = 400
    most_adapted: int = 4000
    smoothing: float = 0.3
    along_edges: bool = True

    def __call__(self, frames: Iterable[Frame], first_labels: LabelMap) -> Iterator[LabelMap]:
        """Yield a label map per frame."""
        first, rest, ids = split_first(frames, first_labels)
        yield first_labels
        ids_of = np.zeros(256, np.uint8)  # unknown stays 0
        ids_of[1 : len(ids) + 1] = ids
        embeddings = self.embed(first)
        cells = self._first_cells(first_labels, ids, embeddings)
        store = make_store(embeddings, cells, t=0, stride=self.stride)
        keep = len(store)
        known = cells != IGNORE
        scores = F.one_hot(cells * known, len(ids) + 1).permute(2, 0, 1).float() * known
        for t, frame in enumerate(rest, start=1):
            before, embeddings = embeddings, self.embed(frame)
            scores, store = self._step(embeddings, before, scores, store, t=t, keep=keep)
            yield ids_of[decide(self._full_size(scores, frame)).numpy()]

    @torch.inference_mode()
    def _step(
        self,
        embeddings: Float[Tensor, "d h w"],
        before: Float[Tensor, "d h w"],
        previous: Float[Tensor, "objects_1 h w"],
        store: ReferenceStore,
        *,
        t: int,
        keep: int,
    ) -> tuple[Float[Tensor, "objects_1 h w"], ReferenceStore]:
        """Scores of one frame, 0 in unknown cells, and the references for the next."""
        voted = retrieve(
            embeddings,
            store,
            t=t,
            stride=self.stride,
            objects=len(previous) - 1,
            k=self.k,
            sigmas=self.sigmas,
            unknown_threshold=self.unknown_threshold,
        )
        if self.most_adapted:
            store = append_confident(
                store,
                embeddings,
                voted,
                t=t,
                stride=self.stride,
                threshold=self.confidence,
                limit=self.added_per_frame,
                capacity=keep + self.most_adapted,
                keep=keep,
            )
        # An unknown cell would else hold its last label for ever.
        known = (voted.sum(0) > 0) & (previous.sum(0) > 0)
        agreement = temporal_agreement(embeddings, before) * known
        return smooth_in_time(voted, previous, weight=self.smoothing, agreement=agreement), store

    @torch.inference_mode()
    def _full_size(
        self, scores: Float[Tensor, "objects_1 h w"], frame: Frame
    ) -> Float[Tensor, "objects_1 height width"]:
        height, width = frame.shape[:2]
        scores = scores.cpu().clone()
        # Filters spread labels into cells that have none; background stands in their way.
        scores[0] += scores.sum(0) == 0
        padded = scores.shape[1] * self.stride, scores.shape[2] * self.stride
        if not self.along_edges:
            return upsample_scores(scores[None], padded)[0, :, :height, :width]
        margin = (0, padded[0] - height), (0, padded[1] - width), (0, 0)
        return guided_upsample(scores, np.pad(frame, margin, mode="edge"))[:, :height, :width]

    def _first_cells(
        self, first_labels: LabelMap, ids: list[int], embeddings: Float[Tensor, "d h w"]
    ) -> Int64[Tensor, "h w"]:
        """The dense label of most pixels of each cell; `IGNORE` where none is labelled.

        An object that nowhere has the majority takes the cell that holds most of it.
        """
        (height, width), (h, w) = first_labels.shape, embeddings.shape[1:]
        if h * self.stride < height or w * self.stride < width:
            raise PixelkinError(
                f"embeddings have {h}×{w} cells, too few for a frame of {first_labels.shape} "
                f"pixels at stride {self.stride}; give the stride of the embeddings"
            )
        masks = torch.from_numpy(one_hot(first_labels, ids))
        masks = F.pad(masks, (0, w * self.stride - width, 0, h * self.stride - height))
        shares = F.avg_pool2d(masks[None], self.stride)[0]
        cells = torch.where(shares.sum(0) > 0, shares.argmax(0), IGNORE)
        for label in range(1, len(shares)):
            if not (cells == label).any():
                cells.view(-1)[shares[label].argmax()] = label
        return cells.to(embeddings.device)
