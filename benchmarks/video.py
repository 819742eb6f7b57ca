"""Frame rate of the whole chain at 480p, stage by stage, against the backbone's bare pass.

    python benchmarks/video.py --out benchmarks/results/video.json

The floor is the forward pass of the backbone alone in the same run, three ways: our own graph, cut
before the heads, with all cores on one frame, and with a frame per core; and the same backbone as
torch exports it, without our folding of its padding. Rounds take turns, so that a busy machine
slows all of them alike; medians over rounds are reported.
"""

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

import pixelkin
from pixelkin.assess.files import provenance
from pixelkin.demo.scenes import clips_folder
from pixelkin.files import atomic_write
from pixelkin.grouping.references import Click, Mask
from pixelkin.loading import DEFAULT
from pixelkin.media import MemoryClip, VideoWriter, open_clip
from pixelkin.models.backbone import TimmBackbone
from pixelkin.runtime import pad_image, usable_cores
from pixelkin.video import ClipSession

STAGES = ("decode", "embed", "retrieve + decode masks", "upsample")
"""What the whole chain is made of."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, help="a clip; default: bikes.mp4; resized to 854×480")
    parser.add_argument("--frames", type=int, default=70)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/video.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = options.clip or clips_folder() / "bikes.mp4"
        path = clip_480p(source, Path(folder) / "clip.mp4", options.frames)
        rounds = [measure(path) for _ in range(options.rounds + 1)][1:]  # the first warms up
    result = {
        "engine": pixelkin.load(engine="onnx").name,
        "frame": "854×480",
        "frames": options.frames,
        "rounds": options.rounds,
        "median": {name: statistics.median(r[name] for r in rounds) for name in rounds[0]},
        "all_rounds": rounds,
        **provenance(),
    }
    atomic_write(options.out, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    show(result["median"])


def measure(path: Path) -> dict[str, float]:
    """One round; milliseconds per frame unless the name says otherwise."""
    runtime = pixelkin.load(engine="onnx")
    found: dict[str, float] = {}
    with open_clip(path) as clip:
        count = len(clip)
        mask = Mask.from_labels(0, first_mask(clip.size_hw))
        frames = list(clip.frames())
        measure_floors(found, frames)
        with ClipSession(runtime, clip) as session:  # the first calls allocate
            session.add(mask)
            session.labels(2)
        with ClipSession(runtime, clip) as session:
            session.add(mask)
            found["whole chain"] = each(lambda: [session.labels(t) for t in range(count)], count)
        found["decode"] = each(lambda: sum(1 for _ in clip.frames()), count)
        with ClipSession(runtime, MemoryClip(frames)) as session:
            found["embed"] = each(lambda: [session.embed(t) for t in range(count)], count)
            session.add(mask)
            answers = each(lambda: [session.labels(t) for t in range(count)], count)
            # All is cached now but the last step.
            found["upsample"] = each(lambda: [session.labels(t) for t in range(count)], count)
            found["retrieve + decode masks"] = answers - found["upsample"]
            measure_clicks(found, session, count)
    found["frames per second"] = 1e3 / found["whole chain"]
    for floor in [name for name in found if name.startswith("backbone")]:
        found[f"whole chain / {floor}"] = found["whole chain"] / found[floor]
    return found


def measure_floors(found: dict[str, float], frames: list[np.ndarray]) -> None:
    """The bare backbone three ways: all cores on one frame, one core a frame, and unfolded."""
    cores = usable_cores()
    pixels = np.ascontiguousarray(pad_image(frames[0]))
    ours = backbone_session(threads=cores)
    found["backbone, our graph, all cores on a frame"] = median_of(
        lambda: ours.run(None, {"image": pixels})
    )
    single = backbone_session(threads=1)
    with ThreadPoolExecutor(cores) as pool:

        def side_by_side() -> None:
            for _ in pool.map(lambda _: len(single.run(None, {"image": pixels})), range(16)):
                pass

        side_by_side()
        found["backbone, our graph, a frame per core"] = each(side_by_side, 16)
    plain = plain_session(threads=cores)
    batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32) / 255
    found["backbone, as torch exports it, all cores on a frame"] = median_of(
        lambda: plain.run(None, {"x": batch})
    )


def measure_clicks(found: dict[str, float], session: ClipSession, count: int) -> None:
    """From the click, as data, to the mask of its frame; and to the masks of all frames."""
    here, everywhere = [], []
    for t in range(5, count, 13):
        click = Click(t, (427 + t, 240), 1)
        began = time.perf_counter()
        session.add(click)
        session.labels(t)
        here.append(1e3 * (time.perf_counter() - began))
        for frame in range(count):
            session.labels(frame)
        everywhere.append(time.perf_counter() - began)
        session.undo()
    found["click to its frame's mask"] = statistics.median(here)
    found["click to all frames' masks, s"] = statistics.median(everywhere)


def show(median: dict[str, float]) -> None:
    whole = median["whole chain"]
    for name, value in median.items():
        share = f"{100 * value / whole:5.0f} %" if name in STAGES else ""
        print(f"{name:66} {value:8.2f} {share}")


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


def clip_480p(source: Path, target: Path, frames: int) -> Path:
    """The clip at 854×480 as a real video file (VP9), so that decoding is a real cost."""
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
