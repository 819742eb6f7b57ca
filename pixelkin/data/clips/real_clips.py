"""Short training clips from annotated videos, where the user has some (DAVIS, YouTube-VOS)."""

from collections.abc import Sequence

import cv2
import numpy as np
from torch.utils.data import Dataset

from pixelkin.data.clips.davis import VideoFolder
from pixelkin.data.clips.prompts import simulate_prompt
from pixelkin.data.clips.synthetic_clips import ClipItem
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

Array = np.ndarray


class RealClips(Dataset[ClipItem]):
    """T frames of a video, in order, about one of its objects; items as in `SyntheticClips`.

    Args:
        videos: annotated videos; frames without a label map are passed over.
        frames: T.
        size_hw: of the clips, pixels: a window about the object, the same in every frame.
        longest_gap: most annotated frames between two frames of a clip.
        length: number of items.
        seed: another seed, other clips.

    Raises:
        PixelkinError: a video has fewer than T annotated frames.
    """

    def __init__(
        self,
        videos: VideoFolder,
        *,
        frames: int = 4,
        size_hw: tuple[int, int] = (288, 384),
        longest_gap: int = 5,
        length: int = 1_000_000,
        seed: int = 0,
    ) -> None:
        self.videos = videos
        self.frames = frames
        self.size_hw = size_hw
        self.longest_gap = longest_gap
        self.length = length
        self.seed = seed
        self.annotated = {name: videos.annotated(name) for name in videos.sequences}
        for name, indices in self.annotated.items():
            if len(indices) < frames:
                raise PixelkinError(
                    f"video {name} has {len(indices)} annotated frames, expected {frames} or more; "
                    "leave it out, or train on shorter clips"
                )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> ClipItem:
        rng = np.random.default_rng((self.seed, index))
        name = self.videos.sequences[rng.integers(len(self.videos.sequences))]
        places = self._places(len(self.annotated[name]), rng)
        at = [self.annotated[name][place] for place in places]
        labels = [self.videos.labels_at(name, i) for i in at]
        objects = [i for i in np.unique(labels[0]) if i not in (0, IGNORE)]
        target = int(objects[rng.integers(len(objects))]) if objects else 1
        window = self._window(labels[0] == target, rng)
        images = [self._cut(self.videos.frame_at(name, i), window, cv2.INTER_AREA) for i in at]
        maps = [
            self._cut(swap_to_front(part, target), window, cv2.INTER_NEAREST) for part in labels
        ]
        return np.stack(images), np.stack(maps), simulate_prompt(maps[0], rng)

    def _places(self, count: int, rng: np.random.Generator) -> list[int]:
        most = max(1, min(self.longest_gap, (count - 1) // max(1, self.frames - 1)))
        gaps = rng.integers(1, most + 1, self.frames - 1)
        start = int(rng.integers(0, count - int(gaps.sum())))
        places = [start, *(start + np.cumsum(gaps))]
        # Backward in time is as true as forward.
        return [int(p) for p in (places if rng.random() < 0.5 else reversed(places))]

    def _window(self, mask: Array, rng: np.random.Generator) -> tuple[float, int, int]:
        """(scale, left, top) of a window that holds the object's centre."""
        h, w = mask.shape
        cover = max(self.size_hw[0] / h, self.size_hw[1] / w)
        scale = max(cover, float(np.exp(rng.uniform(np.log(0.6), np.log(1.2)))))
        ys, xs = np.nonzero(mask)
        centre = np.array([ys.mean(), xs.mean()]) if len(ys) else np.array([h / 2, w / 2])
        shift = rng.normal(0, 0.12, 2) * self.size_hw
        corner = centre * scale - np.array(self.size_hw) / 2 + shift
        room = np.array([round(h * scale), round(w * scale)]) - self.size_hw
        top, left = np.clip(corner, 0, np.maximum(room, 0)).astype(int)
        return scale, int(left), int(top)

    def _cut(self, image: Array, window: tuple[float, int, int], how: int) -> Array:
        scale, left, top = window
        h, w = image.shape[:2]
        size = (max(round(w * scale), self.size_hw[1]), max(round(h * scale), self.size_hw[0]))
        scaled = cv2.resize(image, size, interpolation=how)
        cut: Array = scaled[top : top + self.size_hw[0], left : left + self.size_hw[1]]
        return cut


class MixedClips(Dataset[ClipItem]):
    """Items of several sources in turn: item i comes from source i mod n.

    Args:
        sources: data sets of clips of one size; name one twice to see it twice as often.
    """

    def __init__(self, sources: Sequence[Dataset[ClipItem]]) -> None:
        self.sources = list(sources)

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)  # type: ignore[arg-type, misc]

    def __getitem__(self, index: int) -> ClipItem:
        turn, source = divmod(index, len(self.sources))
        return self.sources[source][turn]


def swap_to_front(labels: Array, target: int) -> Array:
    """Labels with `target` as 1 and what was 1 in its place; others as they are."""
    table = np.arange(256, dtype=np.uint8)
    table[[1, target]] = table[[target, 1]]
    swapped: Array = table[labels]
    return swapped
