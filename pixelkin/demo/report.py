"""The demo's report: one HTML page that holds everything it shows."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template

from pixelkin.demo.play import Played, encode
from pixelkin.grouping.references import Box, Click, Mask, Reference
from pixelkin.masks import palette

_KIND = {Click: "a click", Box: "a box", Mask: "a mask"}


def render(played: Sequence[Played], machine: Mapping[str, str]) -> str:
    """The page for the scenes played; it asks nothing of any server.

    Args:
        played: at least one scene.
        machine: name → value, shown as it is.
    """
    template = files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        key=_key_figures(played),
        scenes="\n".join(_scene(one) for one in played),
        times=_times(played),
        machine="\n".join(
            f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in machine.items()
        ),
    )


def _key_figures(played: Sequence[Played]) -> str:
    frames = sum(one.frames for one in played)
    marks = [one.mark_ms for one in played]
    speeds = [one.fps for one in played]
    figures = [
        (_span(speeds, ".1f"), "frames per second, file to full-size masks"),
        (f"{_span(marks, '.0f')} ms", "from a new mark to the frame’s mask"),
        (f"{frames}", f"frames in {len(played)} clips, {2 * len(played)} objects"),
    ]
    return "".join(f"<div><b>{value}</b><span>{what}</span></div>" for value, what in figures)


def _span(values: Sequence[float], style: str) -> str:
    low, high = format(min(values), style), format(max(values), style)
    return low if low == high else f"{low} – {high}"


def _duration(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _scene(one: Played) -> str:
    scene, name = one.scene, escape(one.scene.name)
    height, width = one.size_hw
    given, added = reference_kind(scene.first), reference_kind(scene.second)
    first, second = (escape(what) for what in scene.objects)
    at = scene.second.frame
    neither = " Black: what is neither." if scene.ground else ""
    legend = "".join(
        f'<span><i style="background:rgb{tuple(int(v) for v in palette()[i])}"></i>{what}</span>'
        for i, what in ((1, first), (2, second))
    )
    pictures = [
        _image(
            one, "first", f"<b>Given: {given}</b> on the {first}, in frame {scene.first.frame}.",
            alt=f"Frame {scene.first.frame} with {given} on the {first}",
        ),
        _video(one),
        _image(
            one, "second", f"<b>Added: {added}</b> on the {second}, in frame {at}.{neither}",
            alt=f"Frame {at} with {added} on the {second}",
        ),
        _image(
            one, "answer",
            f"<b>{_duration(one.mark_ms / 1000)} later:</b> the masks of frame {at}. "
            f"Masks of the whole clip, anew: {_duration(one.clip_s)}.",
            alt=f"Frame {at} with the masks of {first} and {second}",
        ),
        _image(
            one, "sheet", f"<b>Contact sheet</b>, frames 0 to {one.frames - 1}.",
            alt=f"Frames of the clip with the masks of {first} and {second}",
        ),
        _image(
            one, "cutout", f"<b>Cut out</b> of frame {at}, with alpha.",
            alt=f"{first} and {second} of frame {at} on a transparent ground",
            ground="checker", suffix=".webp",
        ),
    ]  # fmt: skip
    links = ", ".join(
        f'<a href="{name}/{file}">{file}</a>'
        for file in ("overlay.mp4", "cutout.webm", "contact_sheet.jpg", "masks/")
    )
    return (
        f'<section id="{name}">\n<h2>{escape(scene.title)}: {name}</h2>\n'
        f"<p>{escape(scene.story)}</p>\n"
        f'<p class="legend">{legend}</p>\n'
        f'<div class="pictures">\n{"".join(pictures)}</div>\n'
        f'<p class="legend soft files">{one.frames} frames of {width}×{height}, '
        f"{one.fps:.1f} frames per second. Files: {links}</p>\n</section>"
    )


def reference_kind(reference: Reference) -> str:
    """What a person would call it: "a click"."""
    return _KIND.get(type(reference), "a scribble")


def _image(
    one: Played, name: str, caption: str, *, alt: str, ground: str = "", suffix: str = ".jpg",
) -> str:  # fmt: skip
    image = one.pictures[name]
    source = _data_uri(encode(image, suffix), f"image/{suffix[1:].replace('jpg', 'jpeg')}")
    height, width = image.shape[:2]
    return (
        f'<figure><div class="{ground}">'
        f'<img src="{source}" alt="{alt}" width="{width}" height="{height}" loading="lazy"></div>'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


def _video(one: Played) -> str:
    poster = one.pictures["answer"]
    height, width = poster.shape[:2]
    what = " and ".join(escape(name) for name in one.scene.objects)
    return (
        f'<figure><video controls loop muted playsinline width="{width}" height="{height}" '
        f'aria-label="The clip with the masks of {what}" '
        f'poster="{_data_uri(encode(poster, ".jpg"), "image/jpeg")}" '
        f'src="{_data_uri(one.preview, "video/mp4")}"></video>'
        f"<figcaption><b>Followed</b> through {one.frames} frames.</figcaption></figure>\n"
    )


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{b64encode(data).decode('ascii')}"


def _times(played: Sequence[Played]) -> str:
    def stage(*names: str) -> Callable[[Played], str]:
        return lambda one: f"{1000 * sum(one.seconds[n] for n in names) / one.frames:.1f}"

    rows: list[tuple[str, str, Callable[[Played], str]]] = [
        ("", "Embed, frames decoded alongside", stage("embed")),
        ("aside", "of it a thread’s time for decoding", stage("decode")),
        ("", "Retrieve, decode masks", stage("answer")),
        ("", "Upsample to full size", stage("upsample")),
        ("sum", "File to full-size masks", stage("embed", "answer", "upsample")),
        ("sum", "Frames per second", lambda one: f"{one.fps:.1f}"),
        ("", "Write overlay, cut-out, PNGs", stage("write")),
        ("", "New mark to this frame’s mask", lambda one: _duration(one.mark_ms / 1000)),
        ("", "New mark to the whole clip", lambda one: _duration(one.clip_s)),
    ]
    head = "".join(
        f'<th scope="col">{escape(one.scene.name)}<br>'
        f"<small>{one.size_hw[1]}×{one.size_hw[0]}</small></th>"
        for one in played
    )
    body = "\n".join(
        f'<tr class="{css}"><th scope="row">{title}</th>'
        + "".join(f"<td>{cell(one)}</td>" for one in played)
        + "</tr>"
        for css, title, cell in rows
    )
    return (
        f'<table>\n<thead><tr><th scope="col">Stage</th>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table>"
    )
