"""Scores of a segmenter against counts by hand."""

import numpy as np
import pytest
import torch
from semantic_stand_ins import Padded

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.semantic import SemanticEvaluation
from pixelkin.semantic.scoring import evaluate_semantic
from pixelkin.semantic.segmenter import SemanticSegmenter
from pixelkin.structures import IGNORE, Sample


class Stills:
    """Noise with random classes and unknown pixels."""

    class_names = ("sky", "road", "tree")
    names = ("a", "b")

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        labels = rng.integers(0, 3, (20, 30))
        labels[rng.random((20, 30)) < 0.2] = IGNORE
        image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        return Sample(image, labels, name=self.names[index])

    def image_file(self, index: int) -> None:
        return None


def test_iou_by_hand_whatever_the_order_of_classes():
    torch.manual_seed(0)
    segmenter = SemanticSegmenter(Padded(3), class_names=("tree", "sky", "road"))
    evaluation = SemanticEvaluation(Stills.class_names, measures=["overlap"])
    done, seen = [], []
    values = evaluate_semantic(
        segmenter,
        Stills(),
        evaluation=evaluation,
        progress=lambda i, n: done.append((i, n)),
        seen=lambda still, found: seen.append((still, found)),
    )
    assert done == [(1, 2), (2, 2)]
    ious = []
    for index, name in enumerate(Stills.class_names):
        both = either = 0
        for still in (Stills()[0], Stills()[1]):
            found = segmenter.segment(still.image) == segmenter.class_names.index(name)
            truth, known = still.labels == index, still.labels != IGNORE
            both += int((found & truth & known).sum())
            either += int(((found | truth) & known).sum())
        ious.append(both / either)
        assert values[f"overlap/IoU/{name}"] == pytest.approx(ious[-1])
    assert values["overlap/mIoU"] == pytest.approx(np.mean(ious))
    assert values["seconds_per_image"] > 0
    still, found = seen[1]
    assert np.array_equal(
        [segmenter.class_names[i] for i in segmenter.segment(still.image).ravel()],
        [Stills.class_names[i] for i in found.ravel()],
    )


@pytest.mark.parametrize(
    ("names", "who"),
    [(("sky", "road"), "the data has 3 classes and the model 2: of the data's, 'tree'"),
     (("sky", "road", "tree", "car"), "the model has 4 classes and the data 3: of .* 'car'")],
)  # fmt: skip
def test_other_classes_are_refused(names, who):
    segmenter = SemanticSegmenter(Padded(len(names)), class_names=names)
    with pytest.raises(PixelkinError, match=who):
        evaluate_semantic(segmenter, Stills())
