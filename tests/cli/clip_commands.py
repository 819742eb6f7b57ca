"""Command lines on clips: what they print, and what they leave."""

from pathlib import Path

import numpy as np

from pixelkin.cli import main
from pixelkin.masks import read_indexed_png

FRAMES, HEIGHT, WIDTH = 5, 80, 96


CLICK = ["--click", "0:40,30"]


def one_line(capsys, *arguments: object, status: int = 1) -> str:
    """The error of a command line that must fail."""
    found = main([str(a) for a in arguments])
    printed = capsys.readouterr()
    assert found == status
    assert printed.out == ""
    assert printed.err.startswith("pixelkin: error: ")
    assert printed.err.count("\n") == 1
    assert "Traceback" not in printed.err
    return printed.err


def masks_of(folder: Path) -> list[np.ndarray]:
    return [read_indexed_png(path) for path in sorted(folder.glob("*.png"))]
