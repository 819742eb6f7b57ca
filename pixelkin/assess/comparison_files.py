"""A comparison as a table, as JSON and CSV, and as a picture."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from pixelkin.assess.comparison import Judged
from pixelkin.assess.comparison_picture import Point, comparison_picture
from pixelkin.assess.files import provenance, write_json
from pixelkin.files import atomic_path, atomic_write

COLUMNS = (
    ("network", "network", ""),
    ("mIoU", "mIoU", ".3f"),
    ("mIoU_spread", "±", ".3f"),
    ("pixel_accuracy", "pixel acc.", ".3f"),
    ("parameters", "10⁶ par.", ".2f"),
    ("multiply_adds", "GMACs", ".2f"),
    ("memory_bytes", "MB", ".0f"),
    ("ms_per_image", "ms/image", ".1f"),
    ("images_per_second", "images/s", ".2f"),
    ("training_seconds", "training s", ".0f"),
)
"""Key of the JSON, heading of the table, format of its cells."""

_UNITS = {"parameters": 1e6, "multiply_adds": 1e9, "memory_bytes": 1e6}


def as_row(judged: Judged) -> dict[str, Any]:
    """A contestant's numbers by name; None for what it has not."""
    return {
        "network": judged.name,
        "mIoU": judged.mean("mIoU"),
        "mIoU_spread": judged.spread("mIoU"),
        "pixel_accuracy": judged.mean("pixel_accuracy"),
        "pixel_accuracy_spread": judged.spread("pixel_accuracy"),
        "seeds": len(judged.measures),
        "parameters": judged.cost.parameters,
        "multiply_adds": judged.cost.multiply_adds,
        "memory_bytes": judged.cost.memory_bytes,
        "ms_per_image": judged.timing.wall_ms,
        "processor_ms_per_image": judged.timing.processor_ms,
        "images_per_second": 1e3 / max(judged.timing.wall_ms, 1e-9),
        "steps": judged.steps,
        "training_seconds": judged.training_seconds,
    }


def comparison_table(judged: Sequence[Judged]) -> str:
    """The table as text, the best mIoU first."""
    rows = [[heading for _, heading, _ in COLUMNS]]
    for one in best_first(judged):
        values = as_row(one)
        rows.append([_cell(values[key], key, form) for key, _, form in COLUMNS])
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def best_first(judged: Sequence[Judged]) -> list[Judged]:
    """In falling order of mIoU."""
    return sorted(judged, key=lambda one: -one.mean("mIoU"))


def _cell(value: Any, key: str, form: str) -> str:
    if value is None:
        return "-"
    return format(value / _UNITS[key] if key in _UNITS else value, form)


def comparison_document(judged: Sequence[Judged], **about: Any) -> dict[str, Any]:
    """Everything as plain data: one row per contestant, all measures, versions and machine."""
    return {
        **about,
        "networks": [as_row(one) for one in best_first(judged)],
        "measures": {one.name: list(one.measures) for one in judged},
        "load_average": round(os.getloadavg()[0], 2),
        **provenance(),
    }


def as_point(judged: Judged, *, ms: float) -> Point:
    """A contestant in the figure, at so many milliseconds an image."""
    return Point(
        judged.name,
        ms=ms,
        quality=judged.mean("mIoU"),
        spread=judged.spread("mIoU") or 0.0,
        parameters=judged.cost.parameters,
    )


def write_comparison(out: Path, judged: Sequence[Judged], document: dict[str, Any]) -> None:
    """Write `compare.json`, `compare.csv`, `compare.txt` and `compare.png` to `out`."""
    write_json(out / "compare.json", document)
    rows = document["networks"]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(out / "compare.csv", text.getvalue())
    atomic_write(out / "compare.txt", comparison_table(judged) + "\n")
    points = [as_point(one, ms=one.timing.wall_ms) for one in judged]
    with atomic_path(out / "compare.png") as temporary:
        Image.fromarray(comparison_picture(points)).save(temporary, format="PNG")
