"""Small sound data sets that tests plant faults in."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pixelkin.checking.check import check_data
from pixelkin.checking.report import Problem
from pixelkin.masks import encode_rle, write_indexed_png

HEIGHT, WIDTH = 60, 80
SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]


def write_picture(path: Path, seed: int, *, size_hw: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (*size_hw, 3), np.uint8)
    Image.fromarray(noise).save(path)


def rectangle(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def rle(mask: np.ndarray) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": encode_rle(mask).decode()}


def coco_content() -> dict[str, Any]:
    """Three images; a polygon, an RLE, a crowd; the third image holds nothing."""
    blob, crowd = rectangle(20, 40, 10, 20), rectangle(0, 0, 5, 80)
    return {
        "images": [
            {"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in (1, 2, 3)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {"id": 11, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 400.0,
             "bbox": [10, 10, 20, 20], "segmentation": [list(SQUARE)]},
            {"id": 12, "image_id": 2, "category_id": 7, "iscrowd": 0, "area": 200,
             "bbox": [40, 20, 20, 10], "segmentation": rle(blob)},
            {"id": 13, "image_id": 2, "category_id": 7, "iscrowd": 1, "area": 400,
             "bbox": [0, 0, 80, 5],
             "segmentation": {"size": [HEIGHT, WIDTH], "counts": _counts(crowd)}},
        ],
    }  # fmt: skip


def _counts(mask: np.ndarray) -> list[int]:
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs


def write_coco(root: Path, content: dict[str, Any]) -> Path:
    """The JSON, with an image for each that is listed."""
    for n in (1, 2, 3):
        if not (root / "images" / f"{n}.png").exists():
            write_picture(root / "images" / f"{n}.png", n)
    path = root / "instances.json"
    path.write_text(json.dumps(content))
    return path


def write_yolo(root: Path) -> Path:
    for n in (1, 2):
        write_picture(root / "images" / f"{n}.png", n)
    labels = root / "labels"
    labels.mkdir()
    (labels / "1.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n1 0.6 0.6 0.9 0.6 0.7 0.9\n")
    (labels / "2.txt").write_text("")
    (root / "data.yaml").write_text("names:\n  0: cat\n  1: dog\n")
    return root


def write_pngs(root: Path) -> Path:
    labels = np.zeros((HEIGHT, WIDTH), np.int64)
    labels[5:15, 5:15], labels[30:40, 30:50] = 1, 2
    for n in (1, 2):
        write_picture(root / "images" / f"{n}.png", n)
        (root / "masks").mkdir(exist_ok=True)
        write_indexed_png(root / "masks" / f"{n}.png", labels)
    return root


def write_nuclei(root: Path) -> Path:
    for n in ("one", "two"):
        write_picture(root / n / "images" / f"{n}.png", len(n) + ord(n[0]))
        (root / n / "masks").mkdir()
        for k, mask in enumerate((rectangle(5, 5, 10, 10), rectangle(30, 30, 10, 20))):
            Image.fromarray(mask.astype(np.uint8) * 255).save(root / n / "masks" / f"{k}.png")
    return root


def problems_of(data: Path, **options: Any) -> list[Problem]:
    return check_data(data, **options)[1].problems


def only_problem(data: Path, **options: Any) -> Problem:
    found = problems_of(data, **options)
    assert len(found) == 1, found
    assert found[0].where
    assert found[0].fix
    return found[0]
