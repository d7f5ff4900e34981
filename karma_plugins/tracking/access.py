"""MLflow as `karma`'s commands open it: quiet, with retries that end in seconds, trouble as one error."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from karma_plugins.errors import KarmaError
from karma_plugins.tracking.courier import SETTINGS

if TYPE_CHECKING:
    from karma_plugins.tracking.store import Store


class TrackingError(KarmaError):
    """MLflow can't be reached, refuses, or holds nothing of what was asked for."""


def is_there(root: Path) -> bool:
    """Whether the repository has a store: a server that was named, or its own database."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or (root / "mlflow.db").is_file()


@contextmanager
def opened(root: Path) -> Iterator[Store]:
    """The store of the repository at `root`, made where there is none; TrackingError where MLflow refuses."""
    for name, value in {**SETTINGS, "MLFLOW_LOGGING_LEVEL": "WARNING"}.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from karma_plugins.tracking.store import REFUSALS, Store, address

    try:
        yield Store(root, _experiment(root))
    except REFUSALS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TrackingError(
            without_password(f"MLflow at {address(root)}: {reason[:300]} Try again when it can be reached.")
        ) from error


def _experiment(root: Path) -> str | None:
    """The experiment that params.yaml names, as stages take it."""
    from karma_plugins.lineage.pipelines import read_params

    file = root / "params.yaml"
    return read_params(file.read_text()).get("tracking.experiment") if file.is_file() else None


def without_password(text: str) -> str:
    """The text without the user and password of any address in it."""
    return re.sub(r"//[^/@\s]+@", "//", text)
