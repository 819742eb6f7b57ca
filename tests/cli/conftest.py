"""A real clip, cut small, and a model with random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from clip_commands import FRAMES, HEIGHT, WIDTH
from PIL import Image

from pixelkin.checkpoint import save_checkpoint
from pixelkin.media import VideoWriter, open_clip
from pixelkin.models.retrieval_model import small_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A checkpoint with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "small"
    save_checkpoint(folder, small_model().state_dict(), {"architecture": "small"}, "")
    return folder


@pytest.fixture(scope="module")
def frames(carphone_clip) -> list[np.ndarray]:
    with open_clip(carphone_clip) as clip:
        return [f[30 : 30 + HEIGHT, 40 : 40 + WIDTH].copy() for f in clip.frames(0, FRAMES)]


@pytest.fixture(scope="module")
def clip(frames, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "car.mp4"
    with VideoWriter(path, fps=12, size_hw=(HEIGHT, WIDTH)) as video:
        for frame in frames:
            video.write(frame)
    return path


@pytest.fixture
def folder(frames, tmp_path) -> Path:
    room = tmp_path / "frames"
    room.mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(room / f"shot_{index + 7}.png")
    return room
