"""Measures as aligned lines of text."""

from __future__ import annotations

import math
from collections.abc import Mapping


def text_table(values: Mapping[str, float], *, lone_class: bool = True) -> str:
    """What `compute` gives as aligned lines: a block per measure, then a line per class.

    Values by something else than class, such as Cityscapes' categories, have lines of their own.

    Args:
        values: "measure/value" and "measure/value/class" → number; NaN shows as a dash.
        lone_class: whether a single class has a line, which may say the same again.
    """
    blocks: dict[str, list[tuple[str, float]]] = {}
    columns: dict[str, dict[str, float]] = {}
    for key, value in values.items():
        measure, name, *row = key.split("/", 2)
        if row:
            columns.setdefault(f"{measure}/{name}", {})[row[0]] = value
        else:
            blocks.setdefault(measure, []).append((name, value))
    width = max(map(len, [*blocks, ""]))
    lines = []
    for measure, entries in blocks.items():
        cells = [(max(len(name), 6), name, value) for name, value in entries]
        lines.append(" ".join([f"{measure:{width}}", *(f"{n:>{w}}" for w, n, _ in cells)]))
        lines.append(" ".join([f"{'':{width}}", *(f"{_cell(v):>{w}}" for w, _, v in cells)]))
    for group in _groups(columns):
        if lone_class or max(map(len, group.values())) > 1:
            lines += ["", *_class_lines(group)]
    return "\n".join(lines)


def _groups(columns: Mapping[str, Mapping[str, float]]) -> list[dict[str, Mapping[str, float]]]:
    # Columns whose rows belong to a longer column's rows stand beside it, gaps and all.
    groups: list[dict[str, Mapping[str, float]]] = []
    for title in sorted(columns, key=lambda title: -len(columns[title])):
        for group in groups:
            if set(columns[title]) <= set(next(iter(group.values()))):
                group[title] = columns[title]
                break
        else:
            groups.append({title: columns[title]})
    order = list(columns)
    return [dict(sorted(group.items(), key=lambda item: order.index(item[0]))) for group in groups]


def _class_lines(columns: Mapping[str, Mapping[str, float]]) -> list[str]:
    names = max((list(column) for column in columns.values()), key=len)
    width = max(map(len, ["class", *names]))
    lines = [" ".join([f"{'class':{width}}", *columns])]
    for name in names:
        cells = [
            f"{_cell(column.get(name, math.nan)):>{len(title)}}"
            for title, column in columns.items()
        ]
        lines.append(" ".join([f"{name:{width}}", *cells]))
    return lines


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
