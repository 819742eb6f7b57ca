"""Every method keeps the contract of `pixelkin.baselines`, on a real clip."""

import cv2
import numpy as np
import pytest
import torch

from pixelkin.baselines.copy_first import copy_first
from pixelkin.baselines.masktrack import MaskTrack
from pixelkin.baselines.optical_flow import carry_by_flow
from pixelkin.baselines.osvos import Osvos
from pixelkin.baselines.retrieval import Retrieval
from pixelkin.baselines.untrained import Untrained, backbone_features, dilate_lite0
from pixelkin.errors import PixelkinError
from pixelkin.media import open_clip
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.side_output_net import SideOutputNet
from pixelkin.structures import IGNORE


def lite0():
    torch.manual_seed(0)
    return TimmBackbone("tf_efficientnet_lite0", strides=(4, 8, 16))


def retrieval():
    features = backbone_features(lite0())
    return Retrieval(lambda frame: features(frame).permute(2, 0, 1))


METHODS = {
    "copy": lambda: copy_first,
    "flow": lambda: carry_by_flow,
    "untrained": lambda: Untrained(backbone_features(lite0())),
    "untrained at 8": lambda: Untrained(backbone_features(dilate_lite0(lite0())), stride=8),
    "retrieval": retrieval,
    "osvos": lambda: Osvos(SideOutputNet(lite0()), steps=2),
    "masktrack": lambda: MaskTrack(SideOutputNet(lite0(), mask_input=True)),
    "masktrack tuned": lambda: MaskTrack(SideOutputNet(lite0(), mask_input=True), finetune_steps=2),
}


@pytest.fixture(scope="module")
def frames(bikes_clip):
    with open_clip(bikes_clip) as clip:
        found = [clip[i] for i in range(4)]
    # 160 is divisible by 16, 270 is not.
    return [cv2.resize(f, (270, 160), interpolation=cv2.INTER_AREA) for f in found]


@pytest.fixture(scope="module")
def first_labels(frames):
    labels = np.zeros(frames[0].shape[:2], np.uint8)
    labels[40:120, 60:130] = 3
    labels[60:150, 180:240] = 200
    labels[:4] = IGNORE
    return labels


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]()


def test_one_label_map_per_frame(method, frames, first_labels):
    maps = list(method(frames, first_labels))
    assert len(maps) == len(frames)
    assert maps[0] is first_labels
    for labels in maps[1:]:
        assert labels.dtype == np.uint8
        assert labels.shape == first_labels.shape
        assert set(np.unique(labels)) <= {0, 3, 200}


def test_streams_and_leaves_the_input_alone(method, frames, first_labels):
    before = first_labels.copy()
    taken = []

    def source():
        for index, frame in enumerate(frames):
            taken.append(index)
            yield frame

    for index, _ in enumerate(method(source(), first_labels)):
        assert len(taken) == index + 1
    np.testing.assert_array_equal(first_labels, before)


def test_same_answer_twice(method, frames, first_labels):
    once, again = (list(method(frames[:3], first_labels)) for _ in range(2))
    np.testing.assert_array_equal(once, again)


@pytest.mark.parametrize(
    ("count", "mask", "message"),
    [
        (0, np.ones((160, 270), np.uint8), "no frames"),
        (2, np.ones((160, 271), np.uint8), "expected uint8 .160, 270."),
        (2, np.ones((160, 270), np.int64), "int64"),
        (2, np.zeros((160, 270), np.uint8), "no object"),
    ],
)
def test_wrong_input_is_told(method, frames, count, mask, message):
    with pytest.raises(PixelkinError, match=message):
        next(method(frames[:count], mask))


def test_frame_of_another_size_is_told(method, frames, first_labels):
    with pytest.raises(PixelkinError, match="frame 1 has shape"):
        list(method([frames[0], frames[1][:100]], first_labels))


def test_copy_keeps_all_but_ignore(frames, first_labels):
    last = list(copy_first(frames, first_labels))[-1]
    np.testing.assert_array_equal(last, first_labels * (first_labels != IGNORE))


def test_still_clip_stays(frames, first_labels):
    """With nothing moving, retrieval and flow give the first mask back, up to its cells."""
    truth = first_labels * (first_labels != IGNORE)
    for make, least in ((METHODS["flow"], 0.98), (METHODS["untrained"], 0.8)):
        last = list(make()([frames[0]] * 4, first_labels))[-1]
        for object_id in (3, 200):
            a, b = last == object_id, truth == object_id
            assert (a & b).sum() / (a | b).sum() > least
