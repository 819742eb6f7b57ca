"""All checks of this repository in one command: `python checks.py`.

Formatter, linter, type checker, the contract of the floors, tests. Every step runs even where one
before it failed; the exit status is 0 only where all passed.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent

# `lint-imports` as a call: the script's folder need not be on the PATH.
_FLOORS = "import sys, importlinter.cli as c; sys.exit(c.lint_imports(no_logo=True))"


@dataclass(frozen=True)
class Step:
    """One check.

    Attributes:
        name: one word.
        arguments: of the Python interpreter.
        live: show the output as it comes; else only where the step fails.
    """

    name: str
    arguments: tuple[str, ...]
    live: bool = False


STEPS = (
    Step("format", ("-m", "ruff", "format", "--check", ".")),
    Step("lint", ("-m", "ruff", "check", ".")),
    Step("types", ("-m", "mypy")),
    Step("floors", ("-c", _FLOORS)),
    Step("tests", ("-m", "pytest"), live=True),
)


def run_step(step: Step) -> bool:
    """Run one step and print its line; True where it passed."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *step.arguments],
        cwd=ROOT,
        stdout=None if step.live else subprocess.PIPE,
        stderr=None if step.live else subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode and done.stdout:
        print(done.stdout.rstrip())
    verdict = "ok" if done.returncode == 0 else "FAILED"
    print(f"{step.name:8} {verdict:6} {seconds:7.1f} s", flush=True)
    return done.returncode == 0


def main(arguments: list[str] | None = None) -> int:
    """Run the steps; the exit status."""
    parser = argparse.ArgumentParser(description="Run all checks of the repository.")
    parser.add_argument("--fast", action="store_true", help="leave the tests out")
    fast = parser.parse_args(arguments).fast
    steps = [step for step in STEPS if not (fast and step.name == "tests")]
    failed = [step.name for step in steps if not run_step(step)]
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
