"""Recipes: Python files with a function `recipe(...) -> Training`, its options typed."""

import difflib
import functools
import importlib.util
import inspect
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pixelkin.engine.training import Training
from pixelkin.errors import PixelkinError

_BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def load_recipe(path: str | os.PathLike[str]) -> Callable[..., Training]:
    """The function `recipe` of a Python file. The file is executed: it is code, not data.

    Raises:
        PixelkinError: no such file, or no such function; here and when the function is called,
            also whatever the recipe itself raises, in one line.
    """
    file = Path(path)
    if not file.is_file():
        raise PixelkinError(f"there is no recipe {file}; give the path of a Python file")
    name = f"pixelkin_recipe_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PixelkinError(f"{file} is not a Python file; give the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses of the recipe look their module up while it is being executed.
    sys.modules[name] = module
    with _blamed_on(file):
        spec.loader.exec_module(module)
    function = getattr(module, "recipe", None)
    if not callable(function):
        raise PixelkinError(
            f"{file} has no function recipe; add one: def recipe(*, steps: int = 1000) -> Training"
        )

    # Its signature is still that of the recipe's own function.
    @functools.wraps(function)
    def blamed(*args: Any, **kwargs: Any) -> Training:
        with _blamed_on(file):
            training: Training = function(*args, **kwargs)
            return training

    return blamed


@contextmanager
def _blamed_on(file: Path) -> Iterator[None]:
    try:
        yield
    except PixelkinError:
        raise
    except SyntaxError as error:
        raise PixelkinError(f"{file}, line {error.lineno}: {error.msg}; mend the recipe") from error
    except Exception as error:
        text = " ".join(str(error).split())[:200] or "no message"
        raise PixelkinError(
            f"recipe {file} failed: {type(error).__name__}: {text}; mend the recipe"
        ) from error


def parse_recipe_options(
    function: Callable[..., Training], options: Mapping[str, str]
) -> dict[str, Any]:
    """Keyword arguments for `function` from strings, read by its annotations.

    Types: str, int, float, bool, Path, Literal, `X | None` ("none" is None), and lists and
    tuples of these, comma-separated. Names may be written with dashes.

    Raises:
        PixelkinError: an unknown name (the nearest known is shown), a value of another type, or
            a parameter without default that is not given.
    """
    parameters = inspect.signature(function).parameters
    hints = get_type_hints(function)
    parsed: dict[str, Any] = {}
    for given, text in options.items():
        name = given.replace("-", "_")
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, n=1, cutoff=0.0)
            hint = f"did you mean {near[0]}? " if near else ""
            raise PixelkinError(
                f"the recipe has no option {given}; {hint}known: {', '.join(parameters) or 'none'}"
            )
        parsed[name] = _parse(text, hints.get(name, str), given)
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in parsed:
            option = f"--{name.replace('_', '-')} VALUE"
            raise PixelkinError(f"the recipe needs a value for {name}; give {option}")
    return parsed


def _parse(text: str, kind: Any, name: str) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _parse_union(text, args, name)
    if origin is Literal:
        for choice in args:
            if str(choice) == text:
                return choice
        raise _bad_value(text, name, f"one of {', '.join(map(str, args))}")
    if origin in (list, tuple):
        parts = [part.strip() for part in text.split(",") if part.strip()]
        kinds = [args[0]] * len(parts) if origin is list or args[-1] is Ellipsis else list(args)
        if len(kinds) != len(parts):
            raise _bad_value(text, name, f"{len(kinds)} values separated by commas")
        return origin(_parse(part, one, name) for part, one in zip(parts, kinds, strict=True))
    if kind is bool:
        if text.lower() not in _BOOLS:
            raise _bad_value(text, name, "true or false")
        return _BOOLS[text.lower()]
    if kind in (int, float, str, Path):
        try:
            return kind(text)
        except ValueError as error:
            raise _bad_value(text, name, f"a value of type {kind.__name__}") from error
    raise PixelkinError(
        f"option {name} has the annotation {kind}, which cannot be given as text; use str, int, "
        "float, bool, Path, Literal, or lists of these"
    )


def _parse_union(text: str, kinds: tuple[Any, ...], name: str) -> Any:
    if type(None) in kinds and text.lower() == "none":
        return None
    failure: PixelkinError | None = None
    for kind in kinds:
        if kind is type(None):
            continue
        try:
            return _parse(text, kind, name)
        except PixelkinError as error:
            failure = error
    assert failure is not None
    raise failure


def _bad_value(text: str, name: str, expected: str) -> PixelkinError:
    return PixelkinError(f"option {name} is {text!r}, expected {expected}; correct the value")
