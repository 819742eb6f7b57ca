"""Methods by name, each in one form: a clip and its first mask in, label maps out."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from pixelkin.baselines.contract import Method
from pixelkin.baselines.copy_first import copy_first
from pixelkin.baselines.masktrack import MaskTrack
from pixelkin.baselines.optical_flow import carry_by_flow
from pixelkin.baselines.osvos import Osvos
from pixelkin.baselines.retrieval import Retrieval
from pixelkin.baselines.untrained import Features, Untrained, backbone_features, dilate_lite0
from pixelkin.checkpoint import load_into, load_state
from pixelkin.data.clips.davis import VideoFolder
from pixelkin.errors import PixelkinError
from pixelkin.grouping.references import Mask
from pixelkin.loading import Engine, load
from pixelkin.masks import read_indexed_png
from pixelkin.media import Clip, Frame, MemoryClip
from pixelkin.media.folder import FrameFolder
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.imagenet import load_efficientnet_lite0
from pixelkin.models.side_output_net import SideOutputNet
from pixelkin.runtime import MULTIPLE, Runtime, pick_device
from pixelkin.video import ClipSession

LabelMap = UInt8[np.ndarray, "h w"]
ClipMethod = Callable[[Clip, LabelMap], Iterator[LabelMap]]
"""A clip and the label map of its first frame → a label map per frame."""


class SequenceClip(FrameFolder):
    """A sequence of a `VideoFolder` as a clip.

    Attributes:
        names: names of the frames, without suffix.
    """

    def __init__(self, data: VideoFolder, sequence: str) -> None:
        paths = data.frame_paths(sequence)
        super().__init__(paths[0].parent, paths, fps=24.0)
        self.names = [path.stem for path in paths]


def follow_first_mask(
    runtime: Runtime, frames: Clip | Iterable[Frame], first_labels: LabelMap
) -> Iterator[LabelMap]:
    """Follow the objects of the first mask with a `ClipSession` of default settings.

    Args:
        runtime: from `pixelkin.load`.
        frames: an open clip, or uint8 (H, W, 3) frames, which are then held in memory.
        first_labels: uint8 (H, W) of the first frame: 0 background, object ids, `IGNORE` unknown.

    Yields:
        uint8 (H, W) for each frame, the first included.
    """
    clip = frames if isinstance(frames, Clip) else MemoryClip(list(frames))
    with ClipSession(runtime, clip) as session:
        session.add(Mask.from_labels(0, first_labels))
        yield from session.all_labels()


def _pixelkin(model: str | None, device: str, engine: Engine) -> ClipMethod:
    runtime = load(model, device=device, engine=engine)
    return lambda clip, first: follow_first_mask(runtime, clip, first)


def _copy(model: str | None, device: str, engine: Engine) -> ClipMethod:
    return _over_frames(copy_first)


def _flow(model: str | None, device: str, engine: Engine) -> ClipMethod:
    return _over_frames(carry_by_flow)


def _untrained(model: str | None, device: str, engine: Engine) -> ClipMethod:
    return _over_frames(Untrained(_imagenet_features(device), stride=8))


def _retrieval(model: str | None, device: str, engine: Engine) -> ClipMethod:
    runtime = load(model, device=device, engine=engine)
    method = Retrieval(lambda frame: runtime.embed(frame).embeddings[0].float(), stride=MULTIPLE)
    return _over_frames(method)


def _retrieval_untrained(model: str | None, device: str, engine: Engine) -> ClipMethod:
    features = _imagenet_features(device)
    return _over_frames(Retrieval(lambda frame: features(frame).permute(2, 0, 1), stride=8))


def _imagenet_features(device: str) -> Features:
    backbone = TimmBackbone("tf_efficientnet_lite0", strides=(16,))
    load_efficientnet_lite0(backbone)
    return backbone_features(dilate_lite0(backbone).to(pick_device(device)))


def _osvos(model: str | None, device: str, engine: Engine) -> ClipMethod:
    backbone = TimmBackbone("tf_efficientnet_lite0", strides=(4, 8, 16))
    if model is None:
        load_efficientnet_lite0(backbone)
    network = SideOutputNet(backbone)
    if model is not None:
        load_into(network, load_state(model), source=model)
    return _over_frames(Osvos(network.to(pick_device(device)).eval()))


def _masktrack(model: str | None, device: str, engine: Engine) -> ClipMethod:
    if model is None:
        raise PixelkinError(
            "masktrack needs a trained checkpoint: train recipes/masktrack_small.py, then give "
            "--method masktrack:FOLDER"
        )
    backbone = TimmBackbone("tf_efficientnet_lite0", strides=(4, 8, 16))
    network = SideOutputNet(backbone, mask_input=True)
    load_into(network, load_state(model), source=model)
    return _over_frames(MaskTrack(network.to(pick_device(device)).eval()))


METHODS: dict[str, Callable[[str | None, str, Engine], ClipMethod]] = {
    "pixelkin": _pixelkin,
    "copy": _copy,
    "flow": _flow,
    "untrained": _untrained,
    "retrieval": _retrieval,
    "retrieval-untrained": _retrieval_untrained,
    "osvos": _osvos,
    "masktrack": _masktrack,
}
"""Name → builder from checkpoint, device and engine."""


def build_method(
    spec: str, *, model: str | None = None, device: str = "auto", engine: Engine = "auto"
) -> ClipMethod:
    """The method that `NAME` or `NAME:CHECKPOINT` names.

    Args:
        spec: a key of `METHODS`. osvos fine-tunes ImageNet's weights, or its own parent's.
        model: checkpoint of pixelkin and retrieval where `spec` names none.
        device: where it runs.
        engine: of pixelkin and retrieval.

    Raises:
        PixelkinError: unknown method; checkpoint missing or of another architecture.
    """
    name, _, checkpoint = spec.partition(":")
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise PixelkinError(f"method {name!r} is unknown; {hint}choose {', '.join(METHODS)}")
    own = model if name in ("pixelkin", "retrieval") else None
    return METHODS[name](checkpoint or own, device, engine)


def _over_frames(method: Method) -> ClipMethod:
    return lambda clip, first: method(clip.frames(), first)


@dataclass(frozen=True)
class MasksIn:
    """Masks that another program wrote: `folder/<sequence>/<frame>.png`.

    The first and the last frame, which are not judged, may be missing.
    """

    folder: Path

    def __call__(self, clip: Clip, first_labels: LabelMap) -> Iterator[LabelMap]:
        """Yield a label map per frame."""
        assert isinstance(clip, SequenceClip)
        paths = [self.folder / clip.path.name / f"{name}.png" for name in clip.names]
        for index, path in enumerate(paths):
            if index in (0, len(paths) - 1) and not path.exists():
                yield first_labels
            else:
                yield read_indexed_png(path, size_hw=clip.size_hw)


def masks_in(folder: Path) -> ClipMethod:
    """Masks in `folder` as a method."""
    if not folder.is_dir():
        raise PixelkinError(
            f"there is no folder {folder}, expected one with a folder of PNGs per sequence"
        )
    return MasksIn(folder)
