"""DeepLab v3+ and U-Net against the nearest networks of public libraries, per multiplication.

    python benchmarks/semantic_speed.py [--rounds 5] [--threads 1 2]
        [--group xception65] [--shrink 1]

Peers are of segmentation_models.pytorch, the best known collection, and of torchvision. They are
the nearest networks, not the same ones: ASPP and decoders differ, and their U-Nets are padded. So
what counts is milliseconds per 10⁹ multiply-adds (convolutions and linear layers), at which a
network that copies or interpolates too much shows. Only networks of the same kind of convolutions
meet: depthwise ones move far more memory per multiplication. torchvision's DeepLab v3 has full ones
at output stride 8, so it meets ours without separable convolutions.

One image, inference mode. Peers are as their packages build them. Ours stand twice: as built, and
as `load_semantic_segmenter` makes them ready for every user (`models/inference.py`); that row is
the one compared. Contestants take turns; each runs with its tensors in the usual order and with
channels last, and counts by the better. `ms` are medians: on one thread of the processor's time,
which what else runs on the machine does not add to, on two of the wall clock. `ratio` is ours per
multiply-add over the peer's, the median over rounds. Writes
benchmarks/results/semantic_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import torch
import torchvision
from torch import nn

from pixelkin.assess.files import provenance
from pixelkin.assess.network_cost import multiply_adds
from pixelkin.files import atomic_write
from pixelkin.models.deeplab_v3_plus import deeplab_v3_plus
from pixelkin.models.inference import for_inference
from pixelkin.models.unet import UNet

RESULT = Path(__file__).parent / "results" / "semantic_speed.json"
CLASSES, BAR = 21, 1.05
OURS, AS_BUILT = "pixelkin", "pixelkin, as built"
FORMATS = {"usual": torch.contiguous_format, "channels last": torch.channels_last}


class Contestant(NamedTuple):
    """A network and the side of the square image that it takes."""

    build: Callable[[], nn.Module]
    side_px: int


def smp_deeplab(encoder: str) -> nn.Module:
    return smp.DeepLabV3Plus(
        encoder, encoder_weights=None, encoder_output_stride=16, classes=CLASSES
    )


def smp_unet(encoder: str) -> nn.Module:
    return smp.Unet(encoder, encoder_weights=None, classes=CLASSES)


def torchvision_deeplab() -> nn.Module:
    return torchvision.models.segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=CLASSES
    )


def dense_deeplab() -> nn.Module:
    return deeplab_v3_plus(CLASSES, "resnet50", output_stride=8, separable=False)


def groups(shrink: int) -> dict[str, dict[str, Contestant]]:
    fit, padded, valid = 512 // shrink, 544 // shrink // 32 * 32, 560 // shrink // 16 * 16 + 12
    return {
        "DeepLab v3+, xception65": {
            OURS: Contestant(lambda: deeplab_v3_plus(CLASSES), fit + 1),
            "smp": Contestant(lambda: smp_deeplab("tu-xception65"), fit),
        },
        "DeepLab v3+, resnet50": {
            OURS: Contestant(lambda: deeplab_v3_plus(CLASSES, "resnet50"), fit + 1),
            "smp": Contestant(lambda: smp_deeplab("resnet50"), fit),
        },
        "DeepLab, full convolutions, output stride 8, resnet50": {
            OURS: Contestant(dense_deeplab, fit + 1),
            "torchvision, DeepLab v3": Contestant(torchvision_deeplab, fit),
        },
        "U-Net": {
            OURS: Contestant(lambda: UNet(CLASSES), valid),
            "smp, vgg13": Contestant(lambda: smp_unet("vgg13"), padded),
            "smp, resnet34": Contestant(lambda: smp_unet("resnet34"), padded),
        },
        "U-Net with batch norm": {
            OURS: Contestant(lambda: UNet(CLASSES, batch_norm=True), valid),
            "smp, vgg13_bn": Contestant(lambda: smp_unet("vgg13_bn"), padded),
            "smp, resnet34": Contestant(lambda: smp_unet("resnet34"), padded),
        },
    }


@torch.inference_mode()
def measure(group: dict[str, Contestant], rounds: int, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    group = {AS_BUILT: group[OURS], **group}
    ready, images, gmacs = {}, {}, {}
    for name, contestant in group.items():
        with torch.device("meta"):
            empty = contestant.build().eval()
        gmacs[name] = multiply_adds(empty, (contestant.side_px, contestant.side_px)) / 1e9
        images[name] = torch.rand(1, 3, contestant.side_px, contestant.side_px)
        ready[name] = contestant.build().eval()
        if name == OURS:
            ready[name] = for_inference(ready[name], images[name])
    spent: dict[tuple[str, str], list[float]] = {}
    for turn in range(rounds + 1):
        for layout, order in FORMATS.items():
            for name, model in ready.items():
                model.to(memory_format=order)
                image = images[name].contiguous(memory_format=order)
                start = clock()
                model(image)
                if turn:  # the first warms up
                    took = (clock() - start) * 1e3
                    spent.setdefault((name, layout), []).append(took)
    return table(group, gmacs, spent)


def table(
    group: dict[str, Contestant],
    gmacs: dict[str, float],
    spent: dict[tuple[str, str], list[float]],
) -> dict[str, Any]:
    medians = {key: statistics.median(ms) for key, ms in spent.items()}
    best = {name: min(FORMATS, key=lambda o, n=name: medians[n, o]) for name in group}
    per_mac = {n: [ms / gmacs[n] for ms in spent[n, best[n]]] for n in group}
    rows = {
        name: {
            "side_px": group[name].side_px,
            "GMACs": round(gmacs[name], 3),
            "ms": {layout: round(medians[name, layout], 1) for layout in FORMATS},
            "layout": best[name],
            "ms_per_GMAC": round(statistics.median(per_mac[name]), 3),
        }
        for name in group
    }
    ratios = {
        name: statistics.median(o / p for o, p in zip(per_mac[OURS], per_mac[name], strict=True))
        for name in group
        if name != OURS
    }
    built = ratios.pop(AS_BUILT)
    fastest = max(ratios, key=lambda name: ratios[name])
    return {
        "networks": rows,
        "ratio": {name: round(ratio, 3) for name, ratio in ratios.items()},
        "ratio_to_as_built": round(built, 3),
        "against_the_fastest": round(ratios[fastest], 3),
        "within_5_percent": ratios[fastest] <= BAR,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--group", default="", help="part of a group's name; all by default")
    parser.add_argument("--shrink", type=int, default=1, help="divides the sides of the images")
    options = parser.parse_args()
    torch.manual_seed(0)
    done = json.loads(RESULT.read_text()).get("groups", {}) if RESULT.exists() else {}
    for name, group in groups(options.shrink).items():
        if options.group not in name:
            continue
        for threads in options.threads:
            about = {"rounds": options.rounds, "load_average": round(os.getloadavg()[0], 2)}
            row = {**about, **measure(group, options.rounds, threads)}
            done.setdefault(name, {})[f"threads {threads}"] = row
            print(json.dumps({name: {threads: row}}, indent=1), flush=True)
        result = {
            "classes": CLASSES,
            "groups": done,
            "made": datetime.now(UTC).date().isoformat(),
            "segmentation_models_pytorch": smp.__version__,
            "torchvision": version("torchvision"),
            **provenance(),
        }
        atomic_write(RESULT, json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
