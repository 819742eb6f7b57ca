"""Running a model: eager torch on any device, or ONNX Runtime on the CPU.

Both give the same numbers to rounding (tests/test_export.py). ONNX Runtime folds BatchNorm, blocks
channels and reuses its memory, and is about three times as fast on a laptop.
"""

import os
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pixelkin.errors import PixelkinError
from pixelkin.models.retrieval_model import RetrievalModel
from pixelkin.structures import Fields
from pixelkin.tracking import FrameCells, Question, predict

MULTIPLE = 16
"""Frames are padded to a multiple of this many pixels."""

DEVICE_TYPES = ("cpu", "cuda", "mps")

MOST_WORKERS = 4
"""Frames embedded at a time; each holds about 150 MB of activations at 480p."""

ANSWER_INPUTS = (
    "embeddings", "features", "details16", "details8", "details4",
    "keys", "columns", "near_keys", "near_columns", "bias", "previous", "direction",
)  # fmt: skip


class Runtime(Protocol):
    """What clip and image sessions need of a model."""

    name: str
    device: torch.device
    workers: int

    def embed(self, image: UInt8[np.ndarray, "h w 3"]) -> Fields:
        """Embed one RGB frame, padded right and bottom to a multiple of 16 pixels.

        May be called from several threads at once.
        """

    def answer(self, frame: FrameCells, question: Question) -> Float[Tensor, "1 o h4 w4"]:
        """Mask logits of one frame, as `pixelkin.tracking.predict`."""


def pad_image(
    image: UInt8[np.ndarray, "h w c"], *, multiple: int = MULTIPLE
) -> UInt8[np.ndarray, "H W c"]:
    """Repeat the last row and column up to the next multiple."""
    h, w = image.shape[:2]
    pad_h, pad_w = -h % multiple, -w % multiple
    if not (pad_h or pad_w):
        return np.ascontiguousarray(image)
    return np.pad(image, ((0, pad_h), (0, pad_w), (0, 0)), mode="edge")


def pick_device(name: str = "auto") -> torch.device:
    """The device to run on: "auto" takes a GPU where there is one."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name.partition(":")[0] not in DEVICE_TYPES:
        raise PixelkinError(
            f"device {name!r} is not available here, expected auto, {', '.join(DEVICE_TYPES)}; "
            "use --device cpu"
        )
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise PixelkinError(f"device {name!r} is not available here; use --device cpu") from error
    return device


class EagerRuntime:
    """A model in torch, on `device`."""

    def __init__(self, model: RetrievalModel, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).to(memory_format=torch.channels_last).eval()
        self.name = f"torch on {self.device.type}"
        self.workers = 1

    @torch.inference_mode()
    def embed(self, image: UInt8[np.ndarray, "h w 3"]) -> Fields:
        """See `Runtime.embed`."""
        pixels = torch.from_numpy(pad_image(image)).to(self.device)
        batch = pixels.permute(2, 0, 1)[None].float() / 255
        fields: Fields = self.model.embedding(batch)
        return fields

    @torch.inference_mode()
    def answer(self, frame: FrameCells, question: Question) -> Tensor:
        """See `Runtime.answer`."""
        return predict(self.model.decoder, frame, question)


class OnnxRuntime:
    """Exported graphs on the CPU.

    Args:
        embed, answer: the graphs, as `pixelkin.export` writes them.
        threads: None takes the cores that this process may use. Frames are embedded one core
            each, side by side; an answer, which somebody waits for, takes all.
    """

    def __init__(self, embed: Path, answer: Path, *, threads: int | None = None) -> None:
        self.device = torch.device("cpu")
        self.name = "ONNX Runtime on cpu"
        cores = threads or usable_cores()
        self.workers = min(cores, MOST_WORKERS)
        self._embed = _open(embed, threads=1)
        self._answer = _open(answer, threads=cores)

    def embed(self, image: UInt8[np.ndarray, "h w 3"]) -> Fields:
        """See `Runtime.embed`."""
        outputs = [torch.from_numpy(o) for o in self._embed.run(None, {"image": pad_image(image)})]
        return Fields(outputs[0], tuple(outputs[1:]), MULTIPLE)

    def answer(self, frame: FrameCells, question: Question) -> Tensor:
        """See `Runtime.answer`."""
        tensors = (frame.embeddings, frame.features, *frame.details, *vars(question).values())
        feed = {
            name: tensor.contiguous().numpy()
            for name, tensor in zip(ANSWER_INPUTS, tensors, strict=True)
        }
        return torch.from_numpy(self._answer.run(None, feed)[0])


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _open(path: Path, *, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning threads would take the cores from decoding and from each other between calls.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        raise PixelkinError(
            f"{path} is not a graph that ONNX Runtime can run: "
            f"{' '.join(str(error).split())[:160]}; export the model again"
        ) from error
