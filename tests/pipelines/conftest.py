"""Rendered photos, and one run over them that several files look at."""

import shutil
from pathlib import Path

import pytest
from rendered_photos import label, write_photos

from pixelkin.pipelines.weak_labels.workspace import Workspace


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    write_photos(folder)
    return folder


@pytest.fixture(scope="session")
def whole(root) -> Path:
    """A run that nothing disturbed, and told.txt, what it reported; not to be changed."""
    pytest.importorskip("lightning")
    told = []
    label(root, root / "whole", report=lambda *step: told.append(" ".join(map(str, step))))
    (root / "whole" / "told.txt").write_text("\n".join(told))
    return root / "whole"


@pytest.fixture
def until(whole, tmp_path):
    """(stage) → a copy of the run, in which this stage and all after it are still to do."""

    def copied(stage: str) -> Path:
        out = tmp_path / "out"
        shutil.copytree(whole, out)
        Workspace(out).clear_from(stage)
        return out

    return copied
