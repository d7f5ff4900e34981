"""Kills `karma sync` at random moments, then lets one end; run by test_kills.py in a process of its own.

usage: kill_sync.py FOLDER MOMENTS; what MLflow holds is removed where a sync ended before its kill.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import mlflow  # noqa: F401 (imported once, before the forks)
from dvc.repo import Repo  # noqa: F401

from karma_plugins.cli import main as karma
from karma_plugins.tracking import store, syncing  # noqa: F401

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def attempt(root: Path) -> int:
    child = os.fork()
    if child:
        return child
    with (root.parent / "said").open("a") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    os.chdir(root)
    code = 1
    try:
        karma(["sync"])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:  # before or after the guard, where a process of its own has `interruptible`
        code = 130
    finally:
        os._exit(code)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def reset(root: Path, database: bytes | None) -> None:
    """As before any sync."""
    shutil.rmtree(root / ".karma", ignore_errors=True)
    shutil.rmtree(root / "mlruns", ignore_errors=True)
    for file in root.glob("mlflow.db*"):
        file.unlink()
    if database is not None:
        (root / "mlflow.db").write_bytes(database)


def main(root: Path, moments: int) -> dict[str, object]:
    draw, ends, hits, faults = random.Random(7), Counter[str](), 0, []
    file = root / "mlflow.db"
    database = file.read_bytes() if file.is_file() else None
    begun = time.monotonic()
    assert ended(attempt(root)) == 0, (root.parent / "said").read_text()
    took = time.monotonic() - begun
    reset(root, database)
    for _ in range(4 * moments):
        if hits == moments:
            break
        signum = SIGNALS[hits % len(SIGNALS)]
        child = attempt(root)
        time.sleep(draw.random() * took)
        os.kill(child, signum)
        code = ended(child)
        if code == 0:
            reset(root, database)
            continue
        hits += 1
        ends[f"{signum.name} {code}"] += 1
        if code not in (-signum, 130 if signum == signal.SIGINT else -signum):
            faults.append(f"{signum.name} ended with {code}: {(root.parent / 'said').read_text()[-400:]}")
    if (code := ended(attempt(root))) != 0:
        faults.append(f"ended with {code}: {(root.parent / 'said').read_text()[-600:]}")
    if "Traceback" in (said := (root.parent / "said").read_text()):
        faults.append(f"a traceback: {said[-900:]}")
    return {"hits": hits, "ends": ends, "faults": faults}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
