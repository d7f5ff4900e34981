"""A fresh pipeline of a template, as `karma init` makes it in a repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from karma_plugins.cli import main as karma


@pytest.fixture
def initialised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Make the pipeline of a template; hub models count as ones that could be fetched."""

    def initialise(template: str) -> Path:
        for name in (".git", ".dvc"):
            (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("DVC_ROOT", str(tmp_path))
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        assert CliRunner().invoke(karma, ["init", "--template", template]).exit_code == 0
        return tmp_path

    return initialise
