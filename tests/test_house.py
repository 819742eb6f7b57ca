"""The house itself: documents that say what the code is, and rules that no linter knows."""

import ast
import os
import re
import stat
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

import pixelkin

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pixelkin"
MODULES = sorted(PACKAGE.rglob("*.py"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DECISIONS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
FORBIDDEN = {"mmcv", "mmseg", "mmdet", "mmengine", "detectron2", "ultralytics", "skvideo"}

_CODE = re.compile(r"^```(?:.|\n)*?^```$|^(?: {4}.*\n)+|`[^`\n]+`", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def readme_command(mark: str) -> str:
    text = (ROOT / "README.md").read_text("utf-8")
    found = re.findall(rf"<!-- {mark} -->\n```\n(.+)\n```", text)
    assert len(found) == 1, f"README.md must hold one {mark}"
    return found[0]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


# Commands


def test_ci_runs_the_test_command_of_the_readme():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    shown = subprocess.run(["bash", script, "--show"], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == readme_command("test command")


def test_ci_says_what_is_wrong_when_the_readme_has_no_command(tmp_path):
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_bytes((ROOT / ".ci" / "run").read_bytes())
    (tmp_path / "README.md").write_text("```\nno mark\n```\n")
    done = subprocess.run(["bash", tmp_path / ".ci" / "run"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "<!-- test command -->" in done.stderr


def test_ci_runs_the_command_in_a_new_environment(tmp_path):
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_bytes((ROOT / ".ci" / "run").read_bytes())
    command = "python -c 'import sys; print(sys.prefix)'; false; echo not reached"
    (tmp_path / "README.md").write_text(f"<!-- test command -->\n```\n{command}\n```\n")
    room = tmp_path / "room"
    room.mkdir()
    # pip is left out of the environment: unpacking it takes most of the time.
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "-m venv" ] && set -- -m venv --without-pip "$3"\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)
    done = subprocess.run(
        ["bash", tmp_path / ".ci" / "run"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": str(python), "TMPDIR": str(room)},
    )
    assert done.returncode == 1, done.stderr
    _, prefix = done.stdout.splitlines()
    assert Path(prefix).is_relative_to(room.resolve())
    assert list(room.iterdir()) == []


def test_commands_of_the_readme_name_extras_that_exist():
    extras = project()["optional-dependencies"]
    named = {
        extra
        for document in DOCUMENTS
        for group in re.findall(r"'\.\[([\w,]+)\]'", document.read_text("utf-8"))
        for extra in group.split(",")
    }
    assert {"demo", "train", "dev"} <= named <= set(extras)
    assert readme_command("demo command").endswith("&& pixelkin demo")
    assert "pixelkin" in project()["scripts"]


def test_all_checks_run_although_one_fails_and_the_status_says_so(monkeypatch, capfd):
    spec = find_spec("checks", None) or pytest.fail("checks.py is not importable from the root")
    assert Path(spec.origin).parent == ROOT
    import checks

    steps = (
        checks.Step("bad", ("-c", "print('why'); raise SystemExit(3)")),
        checks.Step("good", ("-c", "print('hidden')")),
        checks.Step("tests", ("-c", "print('shown')"), live=True),
    )
    monkeypatch.setattr(checks, "STEPS", steps)
    assert checks.main([]) == 1
    out = capfd.readouterr().out
    assert "why" in out
    assert "hidden" not in out
    assert "shown" in out
    assert "failed: bad" in out
    monkeypatch.setattr(checks, "STEPS", steps[1:])
    assert checks.main(["--fast"]) == 0
    out = capfd.readouterr().out
    assert "shown" not in out
    assert "all checks passed" in out


# Package


def test_version_is_the_same_everywhere():
    version = project()["version"]
    assert pixelkin.__version__ == version
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_licence_is_whole():
    text = (ROOT / "LICENSE").read_text("ascii")
    sections = re.findall(r"^   (\d)\. ", text, re.MULTILINE)
    assert sections == list("123456789")
    assert "END OF TERMS AND CONDITIONS" in text
    assert text.rstrip().endswith("limitations under the License.")


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_module_says_what_it_is_and_stays_short(module):
    text = module.read_text("utf-8")
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert text.count("\n") <= 450


def test_nothing_forbidden_is_imported():
    sources = [
        path
        for folder in ("pixelkin", "recipes", "examples", "benchmarks", "tests")
        for path in (ROOT / folder).rglob("*.py")
    ]
    found = []
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            tops = {name.partition(".")[0] for name in names}
            found += [f"{relative(path)}: {name}" for name in tops & FORBIDDEN]
    assert len(sources) > 50
    assert found == []


def test_dependencies_are_none_of_the_forbidden():
    extras = project()["optional-dependencies"].values()
    asked = [*project()["dependencies"], *(name for extra in extras for name in extra)]
    names = {re.match(r"[\w-]+", line)[0].lower() for line in asked}
    assert not names & FORBIDDEN
    assert {"torch", "safetensors", "onnxruntime"} <= names


# Documents


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_lead_somewhere(document):
    text = _CODE.sub("", document.read_text("utf-8"))
    for target in _LINK.findall(text):
        if target.startswith(("https://", "http://", "#")):
            continue
        path = (document.parent / target.partition("#")[0]).resolve()
        assert path.is_relative_to(ROOT), f"{target} leads out of the repository"
        assert path.exists(), f"{target} is not there"


def test_every_decision_is_in_the_index():
    index = (ROOT / "docs" / "adr" / "README.md").read_text("utf-8")
    assert sorted(re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", index)) == [p.name for p in DECISIONS]
    numbers = [int(path.name[:4]) for path in DECISIONS]
    assert numbers == list(range(1, len(numbers) + 1))
    for path in DECISIONS:
        assert path.read_text("utf-8").startswith(f"# {path.name[:4]}: ")


def test_words_of_the_glossary_are_words_of_the_code():
    words = {word for path in MODULES for word in re.findall(r"\w+", path.read_text("utf-8"))}
    rows = [
        line.split("|")[1:-1]
        for line in (ROOT / "docs" / "glossary.md").read_text("utf-8").splitlines()
        if line.startswith("|") and not line.startswith(("| Term", "|---"))
    ]
    assert len(rows) > 50
    for row in rows:
        term, meaning, code = (cell.strip() for cell in row)
        names = re.findall(r"`(\w+)`", code)
        assert names, f"{term} has no name in the code"
        assert meaning.endswith(".")
        for name in names:
            assert name in words, f"{term}: {name} is not in the code"
    terms = [row[0].strip().casefold() for row in rows]
    assert len(set(terms)) == len(terms)


def test_floors_in_the_documents_are_those_that_are_enforced():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    (contract,) = tool["importlinter"]["contracts"]
    enforced = [re.findall(r"\w+", layer) for layer in contract["layers"]]
    enforced.remove(["__main__"])
    for document in (ROOT / "README.md", ROOT / "docs" / "adr" / "0001-floors-and-rooms.md"):
        blocks = re.findall(r"^```\n(cli\b.+?)^```$", document.read_text("utf-8"), re.M | re.S)
        assert len(blocks) == 1
        floors = [re.split(r"\s{2,}", line)[0] for line in blocks[0].splitlines()]
        shown = [re.findall(r"\w+", floor) for floor in floors]
        assert shown == enforced, relative(document)


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_python_in_the_documents_compiles_and_imports_what_is_there(document):
    text = document.read_text("utf-8")
    blocks = re.findall(r"^```python\n(.+?)^```$", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"(?:^ {4}.*\n|^\n)+", text, re.MULTILINE)
    blocks += [
        re.sub(r"^ {4}", "", b, flags=re.M) for b in indented if re.search(r"^ {4}from ", b, re.M)
    ]
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("pixelkin"):
                module = __import__(node.module, fromlist=["x"])
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"
