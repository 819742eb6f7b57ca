"""Photos of red squares and blue discs with a tags file, and options for a run of seconds."""

import csv
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from pixelkin.engine import loop
from pixelkin.pipelines.weak_labels import Extent, Machine, Options, label_photos, stages
from pixelkin.pipelines.weak_labels.maps import ActivationOptions, CrfOptions, WalkOptions
from pixelkin.pipelines.weak_labels.stages import Run
from pixelkin.trainings.optimisation import Optimisation

HERE = Path(__file__).resolve()

SIZE_HW = (64, 96)

TAGS = {
    "a0": ("square",),
    "a1": ("disc",),
    "a2": ("square", "disc"),
    "a3": ("square",),
    "a4": ("disc",),
    "a5": (),
    "b/a6": ("square",),
    "b/a&7": ("disc",),
}
"""What the tags file says; a8 is a photo that it does not name, "black" one without any light."""


def render(tags: tuple[str, ...], number: int) -> np.ndarray:
    """Noise, with a red square and a blue disc where tagged."""
    rng = np.random.default_rng(number)
    image = rng.integers(90, 130, (*SIZE_HW, 3), dtype=np.uint8)
    x, y = (int(v) for v in rng.integers((12, 16), (32, 48)))
    if "square" in tags:
        cv2.rectangle(image, (x - 11, y - 11), (x + 11, y + 11), (220, 30, 30), -1)
    if "disc" in tags:
        cv2.circle(image, (x + 45, y), 13, (30, 40, 220), -1)
    return image


def write_photos(root: Path) -> tuple[Path, Path]:
    """The folder of photos and the tags file."""
    photos = root / "photos"
    (photos / "b").mkdir(parents=True)
    for number, (name, tags) in enumerate(TAGS.items()):
        Image.fromarray(render(tags, number)).save(photos / f"{name}.png")
    Image.fromarray(render(("square", "disc"), 8)).save(photos / "a8.jpg", quality=95)
    Image.fromarray(np.zeros((96, 64, 3), np.uint8)).save(photos / "black.png")
    with open(root / "tags.csv", "w", newline="") as handle:
        csv.writer(handle).writerows(
            [*((name, *tags) for name, tags in TAGS.items()), ("black", "square")]
        )
    return photos, root / "tags.csv"


def small_options(**changes: object) -> Options:
    """Two or three steps of everything."""
    options = Options(
        long_side_px=64,
        classifier=Optimisation(steps=3, batch_size=2, weights="none", ema_decay=0.0),
        activations=ActivationOptions(scales=(1.0,)),
        crf=CrfOptions(iterations=1),
        affinity=Optimisation(steps=3, batch_size=2, weights="none", ema_decay=0.0),
        walk=WalkOptions(steps=8),
        network=Optimisation(steps=2, batch_size=1, weights="none"),
    )
    return replace(options, **changes)


def label(root: Path, out: Path, **changes: object) -> Run:
    """`label_photos` of what `write_photos` wrote in `root`."""
    torch.set_num_threads(1)
    given = {"options": small_options(), "machine": Machine("cpu")}
    return label_photos(root / "photos", root / "tags.csv", out, **(given | changes))


def made(out: Path) -> dict[str, bytes]:
    """Every label map, prediction and model that a run has made."""
    patterns = ("labels/**/*.*", "predictions/**/*.*", "*/model/*.safetensors")
    found = [path for pattern in patterns for path in out.glob(pattern) if path.is_file()]
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(found)}


def die_in_a_write_of(room: str, *, after: int) -> None:
    """Make this process kill itself when `after` files below `room` are whole."""
    fsync, written = os.fsync, []

    def sync(handle: int) -> None:
        written.extend([handle] if room in os.readlink(f"/proc/self/fd/{handle}") else [])
        if len(written) > after:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(handle)

    os.fsync = sync


def die_in_the_training(room: str, *, after: int) -> None:
    """Make this process kill itself when `after` steps are done there, all saved."""
    stages.SAVE_EVERY = 1
    train_step = loop.train_step

    def step(run, *arguments, **options):
        if run.out.name == room and run.progress.step == after:
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(run, *arguments, **options)

    loop.train_step = step


def start_and_die(root: Path, out: Path, *, way: str, room: str, after: int) -> None:
    """Run `label` in a process of its own, which is killed on the way."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(HERE), str(root), str(out), way, room, str(after)],
        env=environment, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


if __name__ == "__main__":
    {"write": die_in_a_write_of, "train": die_in_the_training}[sys.argv[3]](
        sys.argv[4], after=int(sys.argv[5])
    )
    label(Path(sys.argv[1]), Path(sys.argv[2]), extent=Extent())
