"""Fixtures that every test may use."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from karma_plugins.errors import EXTRAS, NotInstalledError, installed

pytest_plugins = ["tests.lineage.two_stages"]

# Nothing in the tests may reach a hub or a tracking server of the person who runs them.
os.environ.update(
    HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", DO_NOT_TRACK="1"
)
os.environ.setdefault("KARMA_TRACKING", "off")
# What a test starts as `python`, `dvc` or `karma` lies beside this interpreter, environment activated or not.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Where an extra is not installed, a test that asks for one of its packages is skipped, with its name."""
    try:
        return (yield)
    except (NotInstalledError, ModuleNotFoundError) as error:
        optional = [*EXTRAS, "lmsim"]
        absent = [name for name in optional if not installed(name) and re.search(rf"\b{name}\b", str(error))]
        if absent:
            pytest.skip(f"{absent[0]} is not installed")
        raise


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's top folder."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real answers and scores of real models, beside the checkout; tests that want them skip without."""
    folder = Path(os.environ.get("KARMA_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no folder of real data at {folder} (set KARMA_SHARED_DATA)")
    return folder
