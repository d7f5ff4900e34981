"""MLflow as `karma`'s commands open it: quiet, with retries that end in seconds, trouble as one error."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from karma_plugins.errors import KarmaError
from karma_plugins.lineage import ANY, LineageError, Settings
from karma_plugins.tracking.courier import SETTINGS

if TYPE_CHECKING:
    from karma_plugins.tracking.store import Store


#: What of the environment's MLFLOW_TRACKING_… nobody may read.
SECRET = ("PASSWORD", "TOKEN")


class TrackingError(KarmaError):
    """MLflow can't be reached, refuses, or holds nothing of what was asked for."""


def is_there(root: Path) -> bool:
    """Whether the repository has a store: a server that was named, or its own database."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or (root / "mlflow.db").is_file()


@contextmanager
def opened(root: Path, settings: Settings = ANY) -> Iterator[Store]:
    """The store of the repository at `root`, made where there is none; TrackingError where MLflow refuses.

    Raises LineageError outside a DVC repository, where it would leave a database behind.
    """
    if not (root / ".dvc").is_dir():
        raise LineageError(f"{root}: not inside a DVC repository. Run `dvc init` at its root.")
    for name, value in {**SETTINGS, "MLFLOW_LOGGING_LEVEL": "WARNING"}.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from karma_plugins.tracking import refusing
    from karma_plugins.tracking.store import REFUSALS, Store, StoreError, address

    # It logs an error of the database with a traceback and raises it as well: here it is one line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    try:
        yield Store(root, _experiment(root, settings))
    except (*REFUSALS, StoreError) as error:
        raise refusing.told(error, address(root)) from error


def _experiment(root: Path, settings: Settings) -> str | None:
    """The experiment that params.yaml names, as stages take it."""
    from karma_plugins.lineage.pipelines import read_params

    file = root / "params.yaml"
    if settings.experiment is None or not file.is_file():
        return None
    named = read_params(file.read_bytes()).get(settings.experiment)
    return str(named) if named else None


def without_password(text: str) -> str:
    """The text without the user and password of any address in it, and without those of the environment."""
    text = re.sub(r"//[^\s\"'<>]*@", "//", text)
    user, *secrets = (os.environ.get(f"MLFLOW_TRACKING_{name}") or "" for name in ("USERNAME", *SECRET))
    for secret in filter(None, secrets):
        basic = [base64.b64encode(f"{name}:{secret}".encode()).decode().rstrip("=") for name in (user, "")]
        for form in (*basic, secret, quote(secret, safe=""), json.dumps(secret)[1:-1]):
            text = text.replace(form, "***")
    return text
