"""Labels spread to similar cells nearby, against plain loops."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from pixelkin.baselines.untrained import (
    Untrained,
    backbone_features,
    dilate_lite0,
    spread_labels,
)
from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone


def loops(queries, references, shares, *, window_cells, top, temperature):
    frames, height, width, _ = references.shape
    result = np.zeros((*queries.shape[:2], shares.shape[-1]))
    for y in range(height):
        for x in range(width):
            found = []
            for f in range(frames):
                for j in range(height):
                    for i in range(width):
                        if abs(j - y) <= window_cells and abs(i - x) <= window_cells:
                            cosine = float(queries[y, x] @ references[f, j, i])
                            found.append((cosine, shares[f, j, i].numpy()))
            found.sort(key=lambda pair: -pair[0])
            weights = [math.exp(cosine / temperature) for cosine, _ in found[:top]]
            for weight, (_, share) in zip(weights, found, strict=False):
                result[y, x] += weight / sum(weights) * share
    return result


@pytest.mark.parametrize(("window_cells", "top"), [(1, 3), (2, 8), (9, 200)])
def test_spread_equals_plain_loops(window_cells, top):
    generator = torch.Generator().manual_seed(window_cells)
    queries = functional.normalize(torch.randn(5, 4, 6, generator=generator).double(), dim=2)
    references = functional.normalize(torch.randn(2, 5, 4, 6, generator=generator).double(), dim=3)
    shares = torch.rand(2, 5, 4, 3, generator=generator).double()
    options = {"window_cells": window_cells, "top": top, "temperature": 0.07}
    found = spread_labels(queries, references, shares, **options)
    expected = loops(queries, references, shares, **options)
    # Beyond the window nothing votes, even where fewer than `top` cells lie within it.
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_dilated_network_has_twice_the_cells_and_the_same_weights():
    torch.manual_seed(0)
    backbone = TimmBackbone("tf_efficientnet_lite0", strides=(4, 8, 16)).eval()
    dilated = dilate_lite0(backbone)
    for name, tensor in backbone.net.state_dict().items():
        assert torch.equal(tensor, dilated.state_dict()[name])
    frame = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    coarse, fine = backbone_features(backbone)(frame), backbone_features(dilated)(frame)
    assert coarse.shape == (4, 6, 112)
    assert fine.shape == (8, 12, 112)
    assert torch.allclose(fine.norm(dim=2), torch.ones(8, 12), atol=1e-5)


def test_wrong_stride_is_told():
    def features(frame):
        return torch.ones(frame.shape[0] // 16, frame.shape[1] // 16, 4)

    frames = [np.zeros((32, 48, 3), np.uint8)] * 2
    with pytest.raises(PixelkinError, match="give the stride of the features"):
        list(Untrained(features, stride=8)(frames, np.ones((32, 48), np.uint8)))
