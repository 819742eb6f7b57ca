"""Retrieval with an ImageNet backbone that was never trained for it: the number to leave behind.

Labels spread from the first frame and the last few to the most similar cells nearby, as in Jabri,
Owens, Efros, "Space-Time Correspondence as a Contrastive Random Walk", NeurIPS 2020.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pixelkin.baselines.contract import (
    Frame,
    LabelMap,
    device_of,
    one_hot,
    split_first,
    to_label_map,
    to_tensor,
)
from pixelkin.errors import PixelkinError
from pixelkin.grouping.upsample import upsample_scores
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.pixel_embedding import pad_to_multiple

Features = Callable[[Frame], Float[Tensor, "h w d"]]
"""Frame → features of unit norm; cell (i, j) starts at pixel (i, j) · stride. Cells may reach
beyond the frame's right and bottom border."""


def backbone_features(
    backbone: nn.Module,
    *,
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
    std: tuple[float, float, float] = (0.5, 0.5, 0.5),
    multiple: int = 16,
) -> Features:
    """The coarsest map of a backbone as features.

    Args:
        backbone: normalised images → list of maps, with its weights: a `TimmBackbone`, or timm's
            `features_only` networks. Put into evaluation mode.
        mean, std: per RGB channel, for frames in [0, 1]; EfficientNet-Lite0's.
        multiple: frames are padded to multiples of this, in pixels.
    """
    backbone.eval()

    @torch.inference_mode()
    def features(frame: Frame) -> Float[Tensor, "h w d"]:
        image = to_tensor(frame, device_of(backbone))
        middle, spread = (image.new_tensor(v).view(1, 3, 1, 1) for v in (mean, std))
        maps = backbone(pad_to_multiple((image - middle) / spread, multiple))
        return F.normalize(maps[-1][0].float(), dim=0).permute(1, 2, 0).contiguous()

    return features


def dilate_lite0(backbone: TimmBackbone) -> nn.Module:
    """EfficientNet-Lite0's 112 channels at stride 8 instead of 16, with the weights of `backbone`.

    The stage that would step to stride 16 dilates instead, which keeps its weights valid.
    """
    net = timm.create_model(
        "tf_efficientnet_lite0", features_only=True, out_indices=(3,), output_stride=8
    )
    net.blocks = net.blocks[:5]  # timm keeps and runs those above the last map
    net.load_state_dict(backbone.net.state_dict())
    return net.to(device_of(backbone)).eval()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Untrained:
    """Retrieval from the first frame and the last few, within a window around each cell.

    A method as `pixelkin.baselines` describes it. Memory: features of `last_frames` + 1 frames.

    Attributes:
        features: see `Features`; `backbone_features` makes one.
        stride: pixels per cell of `features`.
        last_frames: frames remembered beside the first.
        window_cells: reach in x and in y; 12 at stride 8.
        top: cells that vote.
        temperature: a vote weighs exp(cosine / temperature).
    """

    features: Features
    stride: int = 16
    last_frames: int = 6
    window_cells: int = 12
    top: int = 8
    temperature: float = 0.07

    def __call__(self, frames: Iterable[Frame], first_labels: LabelMap) -> Iterator[LabelMap]:
        """Yield a label map per frame."""
        first, rest, ids = split_first(frames, first_labels)
        yield first_labels
        size_hw = first_labels.shape
        features = self.features(first)
        kept = features, self._cell_shares(first_labels, ids, features)
        recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=self.last_frames)
        for frame in rest:
            features = self.features(frame)
            memory = [kept, *recent]
            shares = spread_labels(
                features,
                torch.stack([m[0] for m in memory]),
                torch.stack([m[1] for m in memory]),
                window_cells=self.window_cells,
                top=self.top,
                temperature=self.temperature,
            )
            recent.append((features, shares))
            padded = (shares.shape[0] * self.stride, shares.shape[1] * self.stride)
            scores = upsample_scores(shares.permute(2, 0, 1)[None].cpu(), padded)[0]
            yield to_label_map(scores[:, : size_hw[0], : size_hw[1]].numpy(), ids)

    def _cell_shares(
        self, first_labels: LabelMap, ids: list[int], features: Float[Tensor, "h w d"]
    ) -> Float[Tensor, "h w objects_1"]:
        """Share of each label in each cell; `IGNORE` pixels count for none."""
        masks = torch.from_numpy(one_hot(first_labels, ids))[None]
        shares = F.avg_pool2d(pad_to_multiple(masks, self.stride), self.stride)[0]
        h, w = features.shape[:2]
        if shares.shape[1] > h or shares.shape[2] > w:
            raise PixelkinError(
                f"features have {h}×{w} cells, a frame of {first_labels.shape} pixels at stride "
                f"{self.stride} has {tuple(shares.shape[1:])}; give the stride of the features"
            )
        # The features' frame may be padded further than the next multiple of the stride.
        shares = F.pad(shares, (0, w - shares.shape[2], 0, h - shares.shape[1]), mode="replicate")
        return shares.permute(1, 2, 0).to(features.device)


@torch.inference_mode()
def spread_labels(
    queries: Float[Tensor, "h w d"],
    references: Float[Tensor, "f h w d"],
    shares: Float[Tensor, "f h w o"],
    *,
    window_cells: int,
    top: int,
    temperature: float,
) -> Float[Tensor, "h w o"]:
    """Each cell's mean of the `shares` of the `top` most similar references within its window.

    Args:
        queries: unit norm.
        references: of F frames, unit norm.
        shares: of each label in each reference cell.
        window_cells: references at most so far away in x and in y take part.
        top: number of references that vote.
        temperature: votes weigh exp(cosine / temperature).
    """
    height, width, _ = queries.shape
    column = torch.arange(width, device=queries.device)
    near = (column[:, None] - column).abs() <= window_cells
    rows = []
    # Row by row: only the rows within the window are multiplied at all.
    for y in range(height):
        band = slice(max(0, y - window_cells), y + window_cells + 1)
        keys, values = references[:, band], shares[:, band].flatten(0, 2)
        cosine = queries[y] @ keys.flatten(0, 2).T
        far = ~near.repeat(1, keys.shape[0] * keys.shape[1])
        best, index = cosine.masked_fill_(far, -torch.inf).topk(min(top, cosine.shape[1]), dim=1)
        weight = (best / temperature).softmax(dim=1)
        rows.append(torch.einsum("qk,qko->qo", weight, values[index]))
    return torch.stack(rows)
