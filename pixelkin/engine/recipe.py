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
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pixelkin.engine.training import Training
from pixelkin.errors import PixelkinError

_EXPECTED = {int: "a whole number", float: "a number"}
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


class AppliesTo:
    """Marks an option that only some methods use, as in `Annotated[int, AppliesTo("seeds")]`.

    Attributes:
        methods: values of the recipe's parameter `method`.
    """

    def __init__(self, *methods: str) -> None:
        self.methods = methods


@dataclass(frozen=True)
class Option:
    """One option of a recipe.

    Attributes:
        kind: its type.
        group: the parameter of which it is a field; empty where it is a parameter itself.
        required: whether there is no default.
        methods: those that use it; empty for all.
    """

    kind: Any
    group: str
    required: bool
    methods: tuple[str, ...]


def recipe_options(function: Callable[..., Training]) -> dict[str, Option]:
    """The options of a recipe by name, in order.

    They are the parameters of `function`. In place of one whose type is a dataclass stand the
    fields of that, their defaults those of the parameter's. Keywords that `functools.partial` has
    bound are none.
    """
    bound = _bound(function)
    hints = get_type_hints(_unbound(function), include_extras=True)
    found: dict[str, Option] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in bound:
            continue
        bare = parameter.default is parameter.empty
        kind = hints.get(name, str)
        fresh = (
            {f.name: _option(t, name, bare and _bare(f)) for f, t in _fields(kind)}
            if is_dataclass(kind)
            else {name: _option(kind, "", bare)}
        )
        for twice in found.keys() & fresh.keys():
            raise PixelkinError(f"the recipe has two options {twice}; rename one")
        found |= fresh
    return found


def parse_recipe_options(
    function: Callable[..., Training], options: Mapping[str, str], *, name: str = "the recipe"
) -> dict[str, Any]:
    """Keyword arguments for `function` from strings, read by its annotations.

    Types: str, int, float, bool, Path, Literal, `X | None` ("none" is None), and lists and
    tuples of these, comma-separated; dataclasses of such fields, see `recipe_options`. Names may be
    written with dashes, and messages write them so.

    Args:
        function: of the recipe.
        options: name → value.
        name: of the recipe, for messages.

    Raises:
        PixelkinError: an unknown name (the nearest known is shown), a value of another type, an
            option that the chosen method does not use, or one without default that is not given.
    """
    known = recipe_options(function)
    values: dict[str, Any] = {}
    for given, text in options.items():
        key = given.replace("-", "_")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            hint = f"did you mean {_dashed(near[0])}? " if near else ""
            raise PixelkinError(
                f"{name} has no option {_dashed(given)}; {hint}known: "
                f"{', '.join(map(_dashed, known)) or 'none'}"
            )
        values[key] = _parse(text, known[key].kind, _dashed(given))
    for key, option in known.items():
        if option.required and key not in values:
            shown = _dashed(key)
            raise PixelkinError(f"{name} needs a value for {shown}; give --{shown} VALUE")
    parameters = inspect.signature(function).parameters
    _check_method(known, values, parameters)
    parsed = {key: value for key, value in values.items() if not known[key].group}
    hints = get_type_hints(_unbound(function))
    for group in dict.fromkeys(option.group for option in known.values() if option.group):
        chosen = {key: value for key, value in values.items() if known[key].group == group}
        default = parameters[group].default
        if default is inspect.Parameter.empty:
            parsed[group] = hints[group](**chosen)
        elif chosen:
            parsed[group] = replace(default, **chosen)
    return parsed


def _check_method(
    known: Mapping[str, Option],
    values: Mapping[str, Any],
    parameters: Mapping[str, inspect.Parameter],
) -> None:
    """Raise `PixelkinError` for an option that is given, but not used by the method."""
    if "method" not in parameters:
        return
    method = values.get("method", parameters["method"].default)
    for name in values:
        methods = known[name].methods
        if methods and method not in methods:
            raise PixelkinError(
                f"option {_dashed(name)} is for {_enumerate(methods)}, and the method is {method}; "
                "leave it out"
            )


def _dashed(name: str) -> str:
    """As command lines and the documentation write an option."""
    return name.replace("_", "-")


def _enumerate(names: tuple[str, ...]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _bound(function: Callable[..., Training]) -> Mapping[str, Any]:
    return function.keywords if isinstance(function, functools.partial) else {}


def _unbound(function: Callable[..., Training]) -> Callable[..., Training]:
    return function.func if isinstance(function, functools.partial) else function


def _fields(kind: Any) -> Iterator[tuple[Field[Any], Any]]:
    hints = get_type_hints(kind, include_extras=True)
    return ((one, hints[one.name]) for one in fields(kind))


def _bare(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _option(kind: Any, group: str, required: bool) -> Option:
    marks: list[Any] = []
    if get_origin(kind) is Annotated:
        kind, *marks = get_args(kind)
    methods = next((mark.methods for mark in marks if isinstance(mark, AppliesTo)), ())
    return Option(kind, group, required, methods)


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
            raise _bad_value(text, name, _EXPECTED.get(kind, "a path")) from error
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
