"""Running a model: eager torch on any device, or ONNX Runtime on the CPU.

Both give the same numbers to rounding (`tests/test_export.py`); ONNX Runtime folds BatchNorm and
blocks channels, and is about three times as fast on a laptop.
"""

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

MULTIPLE = 16
"""Frames are padded to a multiple of this many pixels."""


class Runtime(Protocol):
    """What clip and image sessions need of a model."""

    name: str

    def embed(self, image: UInt8[np.ndarray, "h w 3"]) -> Fields:
        """Embed one RGB frame, padded right and bottom to a multiple of 16 pixels."""

    def decode(
        self,
        details16: Float[Tensor, "n a h w"],
        details8: Float[Tensor, "n b h2 w2"],
        details4: Float[Tensor, "n c h4 w4"],
        evidence: Float[Tensor, "n e h w"],
    ) -> Float[Tensor, "n 1 h4 w4"]:
        """Mask logits, as `MaskDecoder.forward`."""


def pad_image(
    image: UInt8[np.ndarray, "h w 3"], *, multiple: int = MULTIPLE
) -> UInt8[np.ndarray, "H W 3"]:
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
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise PixelkinError(
            f"device {name!r} is not available here: {' '.join(str(error).split())[:120]}; "
            "use --device cpu"
        ) from error
    return device


class EagerRuntime:
    """A model in torch, on `device`."""

    def __init__(self, model: RetrievalModel, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.name = f"torch on {self.device.type}"

    @torch.inference_mode()
    def embed(self, image: UInt8[np.ndarray, "h w 3"]) -> Fields:
        """See `Runtime.embed`."""
        pixels = torch.from_numpy(pad_image(image)).to(self.device)
        batch = (pixels.permute(2, 0, 1)[None].float() / 255).contiguous(
            memory_format=torch.channels_last
        )
        fields: Fields = self.model.embedding(batch)
        return fields

    @torch.inference_mode()
    def decode(
        self, details16: Tensor, details8: Tensor, details4: Tensor, evidence: Tensor
    ) -> Tensor:
        """See `Runtime.decode`."""
        logits: Tensor = self.model.decoder(details16, details8, details4, evidence)
        return logits


class OnnxRuntime:
    """Exported graphs on the CPU.

    Args:
        embed, decode: the graphs, as `pixelkin.export` writes them.
        threads: 0 takes all cores.
    """

    def __init__(self, embed: Path, decode: Path, *, threads: int = 0) -> None:
        self.device = torch.device("cpu")
        self.name = "ONNX Runtime on cpu"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Spinning threads would take the cores from the retrieval in torch between two calls.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._embed = _open(embed, options)
        self._decode = _open(decode, options)

    def embed(self, image: UInt8[np.ndarray, "h w 3"]) -> Fields:
        """See `Runtime.embed`."""
        outputs = [torch.from_numpy(o) for o in self._embed.run(None, {"image": pad_image(image)})]
        return Fields(outputs[0], tuple(outputs[1:]), MULTIPLE)

    def decode(
        self, details16: Tensor, details8: Tensor, details4: Tensor, evidence: Tensor
    ) -> Tensor:
        """See `Runtime.decode`."""
        inputs = (details16, details8, details4, evidence)
        feed = {
            name: tensor.contiguous().numpy()
            for name, tensor in zip(DECODE_INPUTS, inputs, strict=True)
        }
        return torch.from_numpy(self._decode.run(None, feed)[0])


DECODE_INPUTS = ("details16", "details8", "details4", "evidence")


def _open(
    path: Path, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors share no base class
        raise PixelkinError(
            f"{path} is not a graph that ONNX Runtime can run: "
            f"{' '.join(str(error).split())[:160]}; export the model again"
        ) from error
