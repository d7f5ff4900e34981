"""Small DVC projects of many shapes, made with the real commands inside this process."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from click.testing import CliRunner

from tests.lineage.two_stages import COMMIT

IGNORED = "/.karma\n/mlflow.db*\n/mlruns\n"


class Project:
    """A repository in a folder, and the commands of git, DVC and ours in it."""

    def __init__(self, root: Path, database: Path | None = None, *, scm: bool = True) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        if scm:
            self.git("init", "-q", "-b", "main", ".")
            self.git("config", "user.name", "t")
            self.git("config", "user.email", "t@t")
        self.dvc("init", "-q", *([] if scm else ["--no-scm"]))
        self.dvc("config", "core.analytics", "false")
        self.write({".gitignore": IGNORED})
        if database:
            shutil.copyfile(database, root / "mlflow.db")

    @classmethod
    def at(cls, root: Path) -> Project:
        """A repository that is there."""
        project = cls.__new__(cls)
        project.root = root
        return project

    def write(self, files: dict[str, str | bytes]) -> None:
        """Write files, text without its indent."""
        for name, text in files.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            data = text if isinstance(text, bytes) else textwrap.dedent(text).encode()
            (self.root / name).write_bytes(data)

    def git(self, *arguments: str) -> str:
        """Run git; what it prints."""
        command = ["git", *arguments]
        return subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True).stdout

    def commit(self, message: str = "as it is") -> str:
        """Commit everything; the commit's id."""
        self.git("add", "-A")
        subprocess.run([*COMMIT, message, "--allow-empty"], cwd=self.root, check=True, capture_output=True)
        return self.git("rev-parse", "HEAD").strip()

    def dvc(self, *arguments: str, status: int = 0) -> str:
        """Run a command of DVC's; what it prints."""
        from dvc.cli import main

        out = io.StringIO()
        with chdir(self.root), quiet(), contextlib.redirect_stdout(out):
            code = main([*arguments])
        assert code == status, f"dvc {' '.join(arguments)}: {code} {out.getvalue()}"
        return out.getvalue()

    def karma(self, *arguments: str, status: int = 0) -> str:
        """Run a command of ours; what it prints."""
        from karma_plugins.cli import main

        with chdir(self.root):
            asked = CliRunner().invoke(main, list(arguments))
        if asked.exception and not isinstance(asked.exception, SystemExit):
            raise asked.exception
        assert asked.exit_code == status, asked.output
        return asked.output

    # --- what MLflow holds --------------------------------------------------------------------------------

    @property
    def client(self) -> Any:
        """MLflow's client for the project's database."""
        from mlflow import MlflowClient

        return MlflowClient(f"sqlite:///{self.root / 'mlflow.db'}")

    def runs(self, role: str = "stage") -> list[Any]:
        """All runs of a role, of every experiment, oldest first."""
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        found = self.client.search_runs(experiments, f"tags.`karma.role` = '{role}'")
        return sorted(found, key=lambda run: (run.info.start_time, run.info.run_name))

    def run(self, name: str) -> Any:
        """The only run of a stage."""
        (found,) = [run for run in self.runs() if run.info.run_name == name]
        return found

    def models(self) -> list[Any]:
        """All logged models by name."""
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        return sorted(self.client.search_logged_models(experiments), key=lambda model: model.name)


@contextmanager
def quiet() -> Iterator[None]:
    """DVC's command sets the levels of loggers and its own working directory: as they were afterwards."""
    names = ("dvc", "dvc_objects", "dvc_data", "scmrepo")
    levels = {name: logging.getLogger(name).level for name in names}
    environment = dict(os.environ)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        os.environ.clear()
        os.environ.update(environment)


def artifacts(run: Any) -> Path:
    """The folder of a run's artifacts."""
    return Path(unquote(run.info.artifact_uri.removeprefix("file://")))


def datasets(run: Any) -> dict[str, tuple[str, str]]:
    """Context and digest of a run's datasets by name."""
    return {
        entry.dataset.name: (
            next(tag.value for tag in entry.tags if tag.key == "mlflow.data.context"),
            entry.dataset.digest,
        )
        for entry in run.inputs.dataset_inputs
    }
