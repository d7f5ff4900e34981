"""The stage's end of the process that carries its record to MLflow (`karma_plugins.tracking.delivery`)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Final, cast

from karma_plugins.tracking import record as records

#: A short stage waits for MLflow's import, a sixth of it garbage collection that finds nothing, and for its
#: modules to be taken apart at the end. A process that ends right after needs neither.
PROGRAM: Final = """
import gc, os
gc.disable()
from karma_plugins.tracking.delivery import main
main()
os._exit(0)
"""
#: Seconds that a finished stage waits for the delivery, which then goes on without it.
PATIENCE: Final = 5.0
#: The environment variable that says otherwise, for machines that end with the stage.
WAIT: Final = "KARMA_TRACKING_WAIT"
#: Where the user has set none: retries that end in seconds (MLflow's own take minutes), no telemetry.
SETTINGS: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}


class Courier:
    """A process started before the record is there: it imports MLflow while the stage does its own imports.

    It has a session of its own, so that Ctrl-C reaches the stage alone. It ends when the stage's end of its
    pipe closes, so also when the stage is killed.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder, self._log = folder, folder / "courier.log"
        command = [sys.executable, "-c", PROGRAM, str(folder), str(root)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**SETTINGS, **os.environ},
            )
        self._pipe = cast("IO[bytes]", self._process.stdin)

    def begin(self) -> None:
        """Say that the record is there: the run can be shown."""
        with contextlib.suppress(BrokenPipeError):  # it has ended; `wait` says why when the stage is done
            self._pipe.write(b"begin\n")
            self._pipe.flush()

    def wait(self) -> None:
        """Let it deliver; where it could not yet, say in one line on stderr where the record waits."""
        self._pipe.close()
        patience = float(os.environ.get(WAIT) or PATIENCE)
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._say(f"MLflow takes longer than {patience:g} s; a process goes on with it")
            return
        if code:
            log = self._log.read_text(errors="replace").splitlines()
            self._say(log[-1] if log else f"exit status {code}")

    def _say(self, reason: str) -> None:
        try:
            record = records.read(self._folder)
        except (FileNotFoundError, records.UnreadableError):  # just delivered, or nothing to say of it
            return
        if record.status == "FINISHED":
            place = os.path.relpath(self._folder)
            sys.stderr.write(
                f"karma: {record.name} is not in MLflow yet ({reason[:160]}). Its record waits in {place}: "
                "run `karma sync`.\n"
            )
