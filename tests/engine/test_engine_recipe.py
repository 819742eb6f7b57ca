"""Recipes: files, and their options as text."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from pixelkin.engine import AppliesTo, load_recipe, parse_recipe_options, recipe_options
from pixelkin.errors import PixelkinError

pytest.importorskip("lightning.fabric")


RECIPE = """
from pathlib import Path
from typing import Literal
def recipe(*, data: Path, steps: int = 10, rate: float = 0.1, flip: bool = False,
           size: tuple[int, int] = (1, 2), names: list[str] | None = None,
           mode: Literal["a", "b"] = "a", limit: int | None = None):
    return locals()
"""


def test_recipe_options(tmp_path: Path) -> None:
    (tmp_path / "r.py").write_text(RECIPE)
    recipe = load_recipe(tmp_path / "r.py")
    text = {"data": "x/y", "steps": "100", "rate": "1e-3", "flip": "true", "size": "3,4"}
    text |= {"names": "u, v", "mode": "b", "limit": "none"}
    parsed: Any = recipe(**parse_recipe_options(recipe, text))
    assert parsed == {
        "data": Path("x/y"),
        "steps": 100,
        "rate": 1e-3,
        "flip": True,
        "size": (3, 4),
        "names": ["u", "v"],
        "mode": "b",
        "limit": None,
    }
    assert parse_recipe_options(recipe, {"data": "d", "limit": "7"})["limit"] == 7
    for wrong, message in (
        ({"stesp": "1"}, "no option stesp; did you mean steps"),
        ({"steps": "ten"}, "option steps is 'ten', expected a whole number"),
        ({"rate": "ten"}, "option rate is 'ten', expected a number"),
        ({"flip": "maybe"}, "true or false"),
        ({"mode": "c"}, "one of a, b"),
        ({"size": "1"}, "2 values"),
        ({}, "needs a value for data; give --data VALUE"),
    ):
        with pytest.raises(PixelkinError, match=message) as excinfo:
            parse_recipe_options(recipe, wrong)
        assert "\n" not in str(excinfo.value)


def test_recipe_files_that_are_none(tmp_path: Path) -> None:
    for name, text, message in (
        ("missing.py", None, "there is no recipe"),
        ("empty.py", "x = 1\n", "has no function recipe"),
        ("broken.py", "def recipe(:\n", "line 1"),
        ("recipe.txt", "def recipe(): ...\n", "not a Python file"),
    ):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(PixelkinError, match=message):
            load_recipe(tmp_path / name)


def test_recipes_that_fail_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "r.py"
    for text, message in (
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def recipe(): return nothing\n", "NameError: name 'nothing' is not defined"),
        ("def recipe(): raise ValueError('a\\nb')\n", "ValueError: a b"),
        ("def recipe(): raise OSError\n", "OSError: no message"),
    ):
        path.write_text(text)
        with pytest.raises(PixelkinError) as excinfo:
            load_recipe(path)()
        assert str(excinfo.value) == f"recipe {path} failed: {message}; mend the recipe"
    lines = (
        "from pixelkin.errors import PixelkinError",
        "def recipe(): raise PixelkinError('own')",
    )
    path.write_text("\n".join(lines))
    with pytest.raises(PixelkinError, match=r"^own$"):
        load_recipe(path)()


@dataclass(frozen=True)
class Rate:
    learning_rate: float = 0.1
    steps: Annotated[int, AppliesTo("a", "b")] = 3


@dataclass(frozen=True)
class Place:
    path: Path
    names: tuple[str, ...] = ()
    depth: Annotated[int | None, AppliesTo("b")] = 1


def grouped(
    *,
    method: Literal["a", "b", "c"],
    place: Place,
    rate: Rate = Rate(steps=9),
    flip: Annotated[bool, AppliesTo("a", "b")] = False,
) -> Any:
    return place, rate, flip


def test_fields_of_a_group_are_options_of_their_own() -> None:
    assert list(recipe_options(grouped)) == [
        "method", "path", "names", "depth", "learning_rate", "steps", "flip",
    ]  # fmt: skip
    options = {"method": "b", "path": "x", "names": "u,v", "learning-rate": "2"}
    arguments = parse_recipe_options(grouped, options)
    assert grouped(**arguments) == (Place(Path("x"), ("u", "v")), Rate(2.0, 9), False)
    # A group of which nothing is given keeps the default of its parameter.
    assert parse_recipe_options(grouped, {"method": "a", "path": "x"}).keys() == {"method", "place"}
    for wrong, message in (
        ({"method": "a"}, "needs a value for path; give --path VALUE"),
        ({"rate": "1"}, "^the recipe has no option rate; did you mean .*known: method, path, "),
        (
            {"learning_rte": "1"},
            "no option learning-rte; did you mean learning-rate.* learning-rate,",
        ),
        ({"method": "a", "path": "x", "steps": "ten"}, "option steps is 'ten', expected"),
    ):
        with pytest.raises(PixelkinError, match=message):
            parse_recipe_options(grouped, wrong)


def test_options_that_the_method_does_not_use_are_refused() -> None:
    bound = partial(grouped, method="c")
    assert "method" not in recipe_options(bound)
    assert bound(**parse_recipe_options(bound, {"path": "x"}))[1] == Rate(steps=9)
    for function, options, message in (
        (bound, {"steps": "9"}, "^option steps is for a and b, and the method is c; leave it out$"),
        (bound, {"flip": "false"}, "option flip is for a and b"),
        (grouped, {"method": "a", "depth": "none"}, "option depth is for b, and the method is a"),
        (bound, {"method": "a"}, "no option method"),
    ):
        with pytest.raises(PixelkinError, match=message):
            parse_recipe_options(function, {"path": "x", **options})


def test_two_options_of_one_name_are_a_mistake_of_the_recipe() -> None:
    def twice(*, steps: int = 1, rate: Rate = Rate()) -> Any:
        return steps, rate

    with pytest.raises(PixelkinError, match="two options steps; rename one"):
        recipe_options(twice)
