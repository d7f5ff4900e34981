"""Runs stages on recorded answers inside the test's own process, as starting Python for each takes long."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from karma_plugins.registry import lock, manager


@contextmanager
def inside(folder: Path, repository: Path) -> Iterator[None]:
    """Work in a pipeline's folder, with the repository's stages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(folder))
        patch.setattr(sys, "path", [str(repository), *sys.path])
        yield


def run(commands: Iterable[str], settings: dict[str, Any]) -> None:
    """Write params.yaml and the lock of the code as it is, and run the commands of stages in order."""
    Path("params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    lock.accept(manager.load())
    for command in commands:
        _run(command)


def _run(command: str) -> None:
    words = command.split()
    assert words[0] == "python"
    if words[1] != "-m":
        runpy.run_path(words[1], run_name="__main__")
        return
    stage = __import__(words[2], fromlist=["main"])
    done = CliRunner().invoke(stage.main, words[3:])
    assert done.exit_code == 0, f"{command}: {done.output}"
