"""References as text: the command line's short forms, scribble files, and JSON.

    click   FRAME:X,Y[@OBJECT]        12:320,240@2     @0 background, @-2 not object 2
    box     FRAME:X0,Y0,X1,Y1[@OBJECT]  0:10,20,200,220@1
    mask    FRAME:FILE                0:first.png

The object is 1 where none is named.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pixelkin.errors import PixelkinError
from pixelkin.grouping.references import Box, Click, Mask, Reference, Scribble

_NUMBER = r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
_SPACE = r"\s*"
# re.ASCII: \d alone also takes digits of other scripts.
_CLICK = re.compile(rf"(\d+):{_NUMBER},{_SPACE}{_NUMBER}(?:@(-?)(\d+))?".replace(" ", ""), re.ASCII)
_BOX = re.compile(
    rf"(\d+):{_NUMBER},{_SPACE}{_NUMBER},{_SPACE}{_NUMBER},{_SPACE}{_NUMBER}(?:@(\d+))?", re.ASCII
)
_MASK = re.compile(r"(\d+):(.+)", re.ASCII | re.DOTALL)


def parse_click(text: str) -> Click:
    """Read `FRAME:X,Y[@OBJECT]`; a minus before the object makes the click negative."""
    match = _CLICK.fullmatch(text.strip())
    if match is None:
        raise PixelkinError(
            f"click {text!r}: expected FRAME:X,Y or FRAME:X,Y@OBJECT, such as 12:320,240@2"
        )
    frame, x, y, minus, object_id = match.groups()
    return Click(int(frame), (float(x), float(y)), int(object_id or 1), positive=not minus)


def format_click(click: Click) -> str:
    """The text that `parse_click` reads back to an equal click."""
    sign = "" if click.positive else "-"
    return f"{click.frame}:{_join(click.point_xy)}@{sign}{click.object_id}"


def parse_box(text: str) -> Box:
    """Read `FRAME:X0,Y0,X1,Y1[@OBJECT]`."""
    match = _BOX.fullmatch(text.strip())
    if match is None:
        raise PixelkinError(
            f"box {text!r}: expected FRAME:LEFT,TOP,RIGHT,BOTTOM or the same with @OBJECT, "
            "such as 0:10,20,200,220@1"
        )
    frame, x0, y0, x1, y1, object_id = match.groups()
    return Box(int(frame), (float(x0), float(y0), float(x1), float(y1)), int(object_id or 1))


def format_box(box: Box) -> str:
    """The text that `parse_box` reads back to an equal box."""
    return f"{box.frame}:{_join(box.box_xyxy)}@{box.object_id}"


def parse_mask(text: str) -> tuple[int, Path]:
    """Read `FRAME:FILE` into the frame and the path; the file is not opened."""
    match = _MASK.fullmatch(text)
    if match is None:
        raise PixelkinError(f"mask {text!r}: expected FRAME:FILE, such as 0:first.png")
    return int(match[1]), Path(match[2])


def format_mask(frame: int, path: str | os.PathLike[str]) -> str:
    """The text that `parse_mask` reads back."""
    return f"{frame}:{os.fspath(path)}"


def reference_to_json(reference: Reference) -> dict[str, Any]:
    """A reference as a JSON object with its `kind` and fields."""
    if isinstance(reference, Click):
        return {
            "kind": "click",
            "frame": reference.frame,
            "point_xy": list(reference.point_xy),
            "object_id": reference.object_id,
            "positive": reference.positive,
        }
    if isinstance(reference, Scribble):
        return {
            "kind": "scribble",
            "frame": reference.frame,
            "points_xy": [list(point) for point in reference.points_xy],
            "object_id": reference.object_id,
            "width_px": reference.width_px,
        }
    if isinstance(reference, Box):
        return {
            "kind": "box",
            "frame": reference.frame,
            "box_xyxy": list(reference.box_xyxy),
            "object_id": reference.object_id,
        }
    return {
        "kind": "mask",
        "frame": reference.frame,
        "size_hw": list(reference.size_hw),
        "runs": base64.b64encode(reference.runs).decode(),
    }


def reference_from_json(data: Any) -> Reference:
    """The reference that `reference_to_json` wrote.

    Raises:
        PixelkinError: unknown kind, missing or unknown fields, values out of range.
    """
    if not isinstance(data, dict) or data.get("kind") not in _READERS:
        raise PixelkinError(
            f"reference {_short(data)}: expected an object with kind {', '.join(_READERS)}"
        )
    fields = {key: value for key, value in data.items() if key != "kind"}
    try:
        return _READERS[data["kind"]](fields)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise PixelkinError(
            f"{data['kind']} {_short(data)}: missing, unknown or wrong field ({error}); "
            "compare with the reference's documented fields"
        ) from error


def _read_click(fields: dict[str, Any]) -> Click:
    return Click(**{**fields, "point_xy": tuple(fields["point_xy"])})


def _read_scribble(fields: dict[str, Any]) -> Scribble:
    return Scribble(**{**fields, "points_xy": tuple(tuple(p) for p in fields["points_xy"])})


def _read_box(fields: dict[str, Any]) -> Box:
    return Box(**{**fields, "box_xyxy": tuple(fields["box_xyxy"])})


def _read_mask(fields: dict[str, Any]) -> Mask:
    height, width = fields["size_hw"]
    runs = base64.b64decode(fields["runs"], validate=True)
    return Mask(**{**fields, "size_hw": (height, width), "runs": runs})


_READERS: dict[str, Callable[[dict[str, Any]], Reference]] = {
    "click": _read_click,
    "scribble": _read_scribble,
    "box": _read_box,
    "mask": _read_mask,
}


def read_scribbles(
    path: str | os.PathLike[str], size_hw: tuple[int, int], *, width_px: int = 5
) -> list[Scribble]:
    """Read a scribble file in either of two JSON forms.

    The simple form, in pixels: `{"scribbles": [{"frame": 0, "points_xy": [[x, y], …],
    "object_id": 1, "width_px": 5}, …]}`; `object_id` is 1 and `width_px` the argument's value
    where left out. The DAVIS Interactive form, a list per frame with points as shares of the
    frame's width − 1 and height − 1: `{"scribbles": [[{"path": [[x, y], …], "object_id": 1}], …]}`.

    Args:
        path: the file.
        size_hw: height and width of the clip's frames in pixels.
        width_px: width of strokes that state none.

    Raises:
        PixelkinError: unreadable file, or neither form.
    """
    try:
        data = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise PixelkinError(f"cannot read scribbles {path}: {error.strerror}") from error
    except ValueError as error:
        raise PixelkinError(f"scribbles {path} is not JSON ({error}); write it anew") from error
    strokes = data.get("scribbles") if isinstance(data, dict) else None
    if not isinstance(strokes, list):
        raise PixelkinError(f"scribbles {path}: expected a JSON object with a list 'scribbles'")
    try:
        found = [
            scribble
            for frame, item in enumerate(strokes)
            for scribble in _strokes(frame, item, size_hw, width_px)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise PixelkinError(
            f"scribbles {path}: missing, unknown or wrong field ({error}); expected strokes with "
            "frame and points_xy, or a list per frame of strokes with path and object_id"
        ) from error
    if not found:
        raise PixelkinError(f"scribbles {path} holds no stroke; draw one at least")
    return found


def _strokes(frame: int, item: Any, size_hw: tuple[int, int], width_px: int) -> list[Scribble]:
    if isinstance(item, dict):
        return [_read_scribble({"object_id": 1, "width_px": width_px, **item})]
    height, width = size_hw
    return [
        Scribble(
            frame,
            # Shares 0 and 1 are the centres of the first and the last pixel.
            tuple((x * (width - 1) + 0.5, y * (height - 1) + 0.5) for x, y in stroke["path"]),
            stroke["object_id"],
            width_px,
        )
        for stroke in item
    ]


def _join(values: tuple[float, ...]) -> str:
    # repr() of a float reads back to the same float; the rest is for people.
    return ",".join(str(int(v)) if v.is_integer() and abs(v) < 1e9 else repr(v) for v in values)


def _short(data: Any) -> str:
    text = repr(data)
    return text if len(text) <= 80 else text[:77] + "..."
