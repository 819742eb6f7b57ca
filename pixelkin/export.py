"""Models as ONNX graphs, checked against torch before they are kept."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from timm.layers import Conv2dSame
from torch import Tensor, nn

from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_path, atomic_write
from pixelkin.grouping.evidence import PARTS
from pixelkin.loading import load_model, weights_digest
from pixelkin.models.mask_decoder import MaskDecoder
from pixelkin.models.retrieval_model import RetrievalModel
from pixelkin.runtime import ANSWER_INPUTS, MULTIPLE, EagerRuntime, OnnxRuntime
from pixelkin.tracking import FrameCells, Question, frame_cells, predict

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


class Answer(nn.Module):
    """One step of following as a graph: retrieval and mask decoder in one."""

    def __init__(self, decoder: MaskDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self,
        embeddings: Tensor,
        features: Tensor,
        details16: Tensor,
        details8: Tensor,
        details4: Tensor,
        *question: Tensor,
    ) -> Tensor:
        """Inputs in the order of `ANSWER_INPUTS`."""
        grid_hw = (details16.shape[2], details16.shape[3])
        frame = FrameCells(embeddings, features, (details16, details8, details4), grid_hw)
        return predict(self.decoder, frame, Question(*question))


class EvenSame(nn.Module):
    """TensorFlow's "same" convolution of stride 2 on even sizes: more padding right and below.

    Sizes are even at every stride-2 convolution of a frame padded to a multiple of 16, so the
    padding is a constant, which ONNX Runtime folds into the convolution. timm computes it from the
    size, and the graph would leave the blocked layout for each padding.
    """

    def __init__(self, conv: Conv2dSame) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """Same as the convolution it stands for."""
        conv = self.conv
        before, after = same_padding(conv.kernel_size[0], conv.stride[0])
        x = F.pad(x, (before, after, before, after))
        return F.conv2d(x, conv.weight, conv.bias, conv.stride, groups=conv.groups)


def same_padding(kernel: int, stride: int) -> tuple[int, int]:
    """Rows of zeros above and below for a size divisible by `stride`, as TensorFlow pads."""
    total = kernel - stride
    return total // 2, total - total // 2


class InFours(nn.Module):
    """A convolution whose input channels are filled up with zeros to a multiple of four.

    ONNX Runtime has no blocked convolution for other counts, and takes four times as long.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.lacking = -conv.in_channels % 4
        self.weight = nn.Parameter(F.pad(conv.weight.data, (0, 0, 0, 0, 0, self.lacking)))
        self.bias = conv.bias
        self.padding = conv.padding

    def forward(self, x: Tensor) -> Tensor:
        """Same as the convolution it stands for."""
        x = F.pad(x, (0, 0, 0, 0, 0, self.lacking))
        return F.conv2d(x, self.weight, self.bias, padding=self.padding)


def export(folder: Path) -> float:
    """Write `embed.onnx` and `answer.onnx` beside the weights of a checkpoint folder.

    Returns:
        The largest difference to torch, at another size than the traced one and with two objects.

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
    with atomic_path(folder / "embed.onnx") as embed, atomic_path(folder / "answer.onnx") as answer:
        # The exporter folds BatchNorm into the very weights it is given: give it a copy.
        _write_graphs(copy.deepcopy(model), embed, answer)
        worst = _parity(model, embed, answer)
        if not worst <= TOLERANCE:
            raise PixelkinError(
                f"the exported graphs differ from torch by {worst:.2g}, expected {TOLERANCE:g} at "
                "most; nothing was written; use the torch engine"
            )
    atomic_write(folder / "graphs.sha256", weights_digest(folder) + "\n")
    return worst


def _write_graphs(model: RetrievalModel, embed: Path, answer: Path) -> None:
    _rewrite(model.embedding, Conv2dSame, EvenSame, lambda conv: conv.stride[0] == 2)
    # Few channels at the coarsest stride cost nothing; there 1×1 is a plain matrix product.
    _rewrite(
        model.decoder, nn.Conv2d, InFours, lambda c: c.in_channels % 4 and c.kernel_size[0] > 1
    )
    image = torch.randint(0, 256, (96, 128, 3), dtype=torch.uint8)
    outputs = ("embeddings", *ANSWER_INPUTS[2:5])
    sizes = {name: {2: f"h_{name}", 3: f"w_{name}"} for name in outputs}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        # The tracing exporter keeps all sizes free without being told how they depend on another.
        torch.onnx.export(
            FromBytes(model.embedding), (image,), str(embed), dynamo=False, opset_version=OPSET,
            input_names=["image"], output_names=list(outputs),
            dynamic_axes={"image": {0: "h", 1: "w"}, **sizes},
        )  # fmt: skip
        _fold_padding(embed)
        frame, question = _example(model, (6, 8), objects=2)
        tensors = (frame.embeddings, frame.features, *frame.details, *vars(question).values())
        axes = {
            name: {i: f"{name}{i}" for i in range(tensor.ndim)}
            for name, tensor in zip(ANSWER_INPUTS, tensors, strict=True)
        }
        torch.onnx.export(
            Answer(model.decoder), tensors, str(answer), dynamo=False, opset_version=OPSET,
            input_names=list(ANSWER_INPUTS), output_names=["logits"],
            dynamic_axes={**axes, "logits": {1: "o", 2: "h", 3: "w"}},
        )  # fmt: skip


def _rewrite(
    module: nn.Module,
    kind: type[nn.Module],
    stand_in: Callable[[Any], nn.Module],
    where: Callable[[Any], object],
) -> None:
    """Replace modules of a kind by an equal form that ONNX Runtime runs faster."""
    for name, child in list(module.named_children()):
        if isinstance(child, kind) and where(child):
            setattr(module, name, stand_in(child))
        else:
            _rewrite(child, kind, stand_in, where)


def _fold_padding(path: Path) -> None:
    """Move the padding of `EvenSame` into the convolutions: ONNX pads each side by itself."""
    import onnx
    from onnx import helper

    model = onnx.load(path)
    graph = model.graph
    pads = {node.output[0]: node for node in graph.node if node.op_type == "Pad"}
    for conv in graph.node:
        pad = pads.get(conv.input[0]) if conv.op_type == "Conv" else None
        if pad is None:
            continue
        kernel, stride = (
            next(helper.get_attribute_value(a)[0] for a in conv.attribute if a.name == name)
            for name in ("kernel_shape", "strides")
        )
        before, after = same_padding(kernel, stride)
        kept = [a for a in conv.attribute if a.name not in ("pads", "auto_pad")]
        del conv.attribute[:]
        sides = helper.make_attribute("pads", [before, before, after, after])
        conv.attribute.extend([*kept, sides])
        conv.input[0] = pad.input[0]
        graph.node.remove(pad)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _example(
    model: RetrievalModel, grid_hw: tuple[int, int], *, objects: int
) -> tuple[FrameCells, Question]:
    """A random frame, and a question about it that has every part."""
    draw = torch.Generator().manual_seed(0)
    h, w = grid_hw
    frame = frame_cells(
        model.embedding(torch.rand(1, 3, h * MULTIPLE, w * MULTIPLE, generator=draw))
    )
    q, d = frame.embeddings.shape[1:]
    columns = objects * (PARTS + 2)
    keys = F.normalize(torch.randn(1, 2 * q, d, generator=draw), dim=2)
    question = Question(
        keys=keys,
        columns=torch.rand(1, 2 * q, columns, generator=draw),
        near_keys=keys[:, :q],
        near_columns=torch.rand(1, q, columns, generator=draw),
        bias=-torch.rand(q, q, generator=draw),
        previous=torch.rand(1, objects, q, PARTS, generator=draw),
        direction=torch.randn(1, objects, frame.features.shape[2], generator=draw),
    )
    return frame, question


def _parity(model: RetrievalModel, embed: Path, answer: Path) -> float:
    graphs, eager = OnnxRuntime(embed, answer), EagerRuntime(model)
    image = np.random.default_rng(0).integers(0, 256, (144, 176, 3), dtype=np.uint8)
    ours, theirs = graphs.embed(image), eager.embed(image)
    pairs = [
        (ours.embeddings, theirs.embeddings),
        *zip(ours.details, theirs.details, strict=True),
    ]
    with torch.inference_mode():
        for objects in (1, 3):
            frame, question = _example(model, (9, 11), objects=objects)
            pairs.append((graphs.answer(frame, question), eager.answer(frame, question)))
    return max(float((a - b).abs().max()) for a, b in pairs)
