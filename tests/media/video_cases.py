"""Real clips in other containers, and clips made for a case."""

import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pixelkin.errors import PixelkinError
from pixelkin.media import open_clip


def decode_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "pixelkin-decode"]


def all_frames(path: Path) -> list[np.ndarray]:
    """The oracle: PyAV's plainest loop."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24", threads=1) for frame in container.decode(video=0)]


def remux(source: Path, target: Path, options: dict[str, str] | None = None) -> Path:
    """The same packets in another container."""
    with av.open(str(source)) as read, av.open(str(target), "w", options=options or {}) as write:
        stream = write.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.size:
                packet.stream = stream
                write.mux(packet)
    return target


def encode(
    path: Path, frames: list[np.ndarray], *, codec: str, pixels: str = "yuv420p", rotation: int = 0
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(10))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        if rotation:
            stream.set_display_rotation(rotation)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def gradients(count: int, size_hw: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    return [np.stack([x * 2 + i, y * 3, x + y + i], -1).astype(np.uint8) for i in range(count)]


def message_of(path: Path) -> str:
    with pytest.raises(PixelkinError) as caught:
        open_clip(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message
