"""`pixelkin demo`: the main job on real clips, without network, with a report to look at."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pixelkin.demo.play import Played, play
from pixelkin.demo.report import reference_kind, render
from pixelkin.demo.scenes import Scene, clips_folder, demo_scenes
from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_path, write_error
from pixelkin.loading import Engine, load
from pixelkin.media import open_clip
from pixelkin.runtime import Runtime, usable_cores

__all__ = ["run_demo"]

_STAGE_NAMES = {"embed": "embedding", "follow": "following", "write": "writing"}


def run_demo(
    out: Path,
    *,
    model: str | None = None,
    device: str = "auto",
    engine: Engine = "auto",
    progress: bool = True,
    max_frames: int | None = None,
) -> dict[str, Any]:
    """Cut objects out of three real clips and write a report.

    The folder `out` gets `report.html`, and one folder per clip with overlay.mp4, cutout.webm
    (alpha), contact_sheet.jpg and masks/*.png (indexed). All of it is there in the end, or nothing.

    Args:
        out: new, empty, or the folder of an earlier demo, which is replaced.
        model: checkpoint folder or hub id; None takes the model inside the package.
        device: as `pixelkin.load`.
        engine: as `pixelkin.load`.
        progress: tell how far it is: a bar on standard error where that is a terminal, and a line
            per clip on standard output. False is silent.
        max_frames: at most so many frames of each clip.

    Returns:
        "report": path of the page; "model", "engine", "device"; and "scenes": a list with
        "name", "frames", "size_hw", "fps", "mark_ms", "clip_s", and "seconds" per stage.

    Raises:
        PixelkinError: the clips are not installed, the model cannot be loaded, or `out` cannot be
            written or holds something else.
    """
    out = Path(out)
    clips, todo = clips_folder(), demo_scenes(max_frames)
    _check_room(out)
    runtime = load(model, device=device, engine=engine)
    played: list[Played] = []
    with _all_or_nothing(out, [scene.name for scene in todo]) as rooms:
        with _bar(todo, shown=progress) as step:
            for scene in todo:
                with open_clip(clips / scene.file) as clip:
                    one = play(
                        runtime, clip, scene, rooms[scene.name], step=_named(step, scene.name)
                    )
                played.append(one)
                if progress:
                    print(_line(one), flush=True)
        machine = _machine(runtime, model)
        rooms["report.html"].write_text(render(played, machine), encoding="utf-8")
    report = out / "report.html"
    if progress:
        print(f"report: {report}", flush=True)
    return {
        "report": str(report),
        "model": machine["Model"],
        "engine": machine["Engine"],
        "device": machine["Device"],
        "scenes": [_summary(one) for one in played],
    }


def _check_room(out: Path) -> None:
    """Refuse a folder of somebody's own: what has a scene's name in it would be replaced."""
    try:
        strange = out.is_dir() and any(out.iterdir()) and not (out / "report.html").is_file()
    except OSError as error:
        raise write_error(out, error) from error
    if strange:
        raise PixelkinError(
            f"folder {out} holds other files, expected a new or empty folder, or that of an "
            "earlier demo; choose another"
        )


@contextmanager
def _all_or_nothing(out: Path, names: list[str]) -> Iterator[dict[str, Path]]:
    """Places to write to; when the block ends well they become `out/<name>`, the report last."""
    missing = not out.exists()
    try:
        with ExitStack() as stack:
            # Left in reverse order, so that a report never stands beside folders of another run.
            yield {
                name: stack.enter_context(atomic_path(out / name))
                for name in ("report.html", *names)
            }
    except BaseException:
        if missing:
            with suppress(OSError):
                out.rmdir()
        raise


@contextmanager
def _bar(todo: list[Scene], *, shown: bool) -> Iterator[Callable[[str], None]]:
    """A progress bar on standard error; gives the function that moves it on by one step."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    off = not (shown and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=off) as bar:
        steps = 3 * sum(scene.stop - scene.start for scene in todo)
        task = bar.add_task("demo", total=steps)

        def step(what: str) -> None:
            bar.update(task, advance=1, description=what)

        yield step


def _named(step: Callable[[str], None], name: str) -> Callable[[str], None]:
    return lambda stage: step(f"{name}: {_STAGE_NAMES[stage]}")


def _line(one: Played) -> str:
    height, width = one.size_hw
    return (
        f"{one.scene.name}: {one.frames} frames of {width}x{height}, marked by "
        f"{reference_kind(one.scene.first)}, {one.fps:.1f} frames per second; "
        f"{one.scene.objects[1]} added by {reference_kind(one.scene.second)}, "
        f"mask after {one.mark_ms:.0f} ms"
    )


def _summary(one: Played) -> dict[str, Any]:
    return {
        "name": one.scene.name,
        "frames": one.frames,
        "size_hw": list(one.size_hw),
        "fps": one.fps,
        "mark_ms": one.mark_ms,
        "clip_s": one.clip_s,
        "seconds": one.seconds,
    }


def _machine(runtime: Runtime, model: str | None) -> dict[str, str]:
    device = runtime.device
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "Model": model or "the one inside the package",
        "Engine": runtime.name,
        "Device": f"{device} ({named})",
        "Threads": f"{torch.get_num_threads()} in torch, on {usable_cores()} cores",
        "System": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "Versions": ", ".join(
            f"{name} {_version(name)}" for name in ("pixelkin", "torch", "onnxruntime", "av")
        ),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"
