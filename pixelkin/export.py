"""Models as ONNX graphs, checked against torch before they are kept."""

import copy
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_path, atomic_write
from pixelkin.loading import load_model, weights_digest
from pixelkin.models.mask_decoder import EVIDENCE_CHANNELS
from pixelkin.models.retrieval_model import RetrievalModel
from pixelkin.models.runtime import DECODE_INPUTS, EagerRuntime, OnnxRuntime

OPSET = 18
TOLERANCE = 1e-3
"""Largest difference between the engines; embeddings have unit norm, logits are about 1 to 10."""


class FromBytes(nn.Module):
    """The embedding network behind its preprocessing, so that the graph takes an image as it is."""

    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, image: UInt8[Tensor, "h w 3"]) -> tuple[Tensor, ...]:
        """(embeddings, details at strides 16, 8, 4) of one padded frame."""
        fields = self.embedding(image.permute(2, 0, 1)[None].float() / 255)
        return (fields.embeddings, *fields.details)


def export(folder: Path) -> float:
    """Write `embed.onnx` and `decode.onnx` beside the weights of a checkpoint folder.

    Returns:
        The largest difference to torch on a random frame of another size than the traced one.

    Raises:
        PixelkinError: onnx is not installed, or the graphs differ from torch by more than
            `TOLERANCE`; nothing is kept then.
    """
    try:
        import onnx  # noqa: F401  # torch's exporter needs it, and says so less clearly
    except ImportError as error:
        raise PixelkinError(
            "exporting needs onnx, which is not installed; run pip install 'pixelkin[onnx]'"
        ) from error
    model = load_model(folder).eval()
    with atomic_path(folder / "embed.onnx") as embed, atomic_path(folder / "decode.onnx") as decode:
        # The exporter folds BatchNorm into the very weights it is given: give it a copy.
        _write_graphs(copy.deepcopy(model), embed, decode)
        worst = _parity(model, embed, decode)
        if not worst <= TOLERANCE:
            raise PixelkinError(
                f"the exported graphs differ from torch by {worst:.2g}, expected {TOLERANCE:g} at "
                "most; nothing was written; use the torch engine"
            )
    atomic_write(folder / "graphs.sha256", weights_digest(folder) + "\n")
    return worst


def _write_graphs(model: RetrievalModel, embed: Path, decode: Path) -> None:
    image = torch.randint(0, 256, (96, 128, 3), dtype=torch.uint8)
    sizes = {"image": {0: "h", 1: "w"}}
    outputs = ("embeddings", *DECODE_INPUTS[:3])
    sizes |= {name: {2: f"h_{name}", 3: f"w_{name}"} for name in outputs}
    with warnings.catch_warnings(), torch.inference_mode():
        # The tracing exporter is the one that keeps sizes free through timm's padding code.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            FromBytes(model.embedding), (image,), str(embed), dynamo=False, opset_version=OPSET,
            input_names=["image"], output_names=list(outputs), dynamic_axes=sizes,
        )  # fmt: skip
        inputs = _decoder_inputs(model, (6, 8))
        axes = {name: {0: "n", 2: f"h_{name}", 3: f"w_{name}"} for name in DECODE_INPUTS}
        axes["logits"] = {0: "n", 2: "h", 3: "w"}
        torch.onnx.export(
            model.decoder, inputs, str(decode), dynamo=False, opset_version=OPSET,
            input_names=list(DECODE_INPUTS), output_names=["logits"], dynamic_axes=axes,
        )  # fmt: skip


def _decoder_inputs(model: RetrievalModel, grid_hw: tuple[int, int]) -> tuple[Tensor, ...]:
    h, w = grid_hw
    fields = model.embedding(torch.rand(1, 3, h * 16, w * 16))
    return (*fields.details, torch.rand(1, EVIDENCE_CHANNELS, h, w))


def _parity(model: RetrievalModel, embed: Path, decode: Path) -> float:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (144, 176, 3), dtype=np.uint8)
    # Both graphs of one runtime lie in one folder; here each has a temporary one of its own.
    graphs = OnnxRuntime(embed, decode)
    eager = EagerRuntime(model)
    ours, theirs = graphs.embed(image), eager.embed(image)
    evidence = torch.from_numpy(rng.random((2, EVIDENCE_CHANNELS, 9, 11), dtype=np.float32))
    details = [d.repeat(2, 1, 1, 1) for d in theirs.details]
    pairs = [
        (ours.embeddings, theirs.embeddings),
        *zip(ours.details, theirs.details, strict=True),
        (
            graphs.decode(details[0], details[1], details[2], evidence),
            eager.decode(details[0], details[1], details[2], evidence),
        ),
    ]
    return max(float((a - b).abs().max()) for a, b in pairs)
