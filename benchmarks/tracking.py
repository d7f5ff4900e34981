"""What tracking adds to a stage, against a process that logs one run with MLflow by hand.

In a repository of its own, on an sqlite store that exists: a stage that does nothing, one that works for some
seconds, and one that reports a thousand points, each tracked and with `KARMA_TRACKING=off`. Rounds alternate,
and medians count. Prints the seconds that tracking adds, and their ratio to the whole of the process by hand.

    python benchmarks/tracking.py [--rounds 5] [--work 3]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

#: Arguments: seconds of work, points to report. Prints the seconds that the reports took.
STAGE = """
import sys, time
from pathlib import Path
from karma_plugins import tracking
work, points = float(sys.argv[1]), int(sys.argv[2])
with tracking.stage("made", params={"work": work}, inputs=[], outs=[Path("made.txt")]) as run:
    Path("made.txt").write_text(f"{work} {points}")
    time.sleep(work)
    begun = time.perf_counter()
    for step in range(points):
        run.progress({"loss": 1.0 / (1 + step)}, step)
    print(time.perf_counter() - begun)
    run.metrics({"points": points})
"""
BY_HAND = """
import mlflow
mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.set_experiment("by hand")
with mlflow.start_run():
    mlflow.log_params({"work": 0.0})
    mlflow.log_metrics({"points": 0.0})
    mlflow.log_artifact("made.txt")
"""
POINTS = 1000


def main() -> None:
    """Measure in a new repository and print."""
    parser = argparse.ArgumentParser(description="What tracking adds to a stage.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=float, default=3.0, help="Seconds that the working stage works.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
            subprocess.run(command, cwd=folder, check=True)
        (folder / "made.txt").touch()
        run(folder, BY_HAND)  # makes the store
        sides = {
            "by hand": (BY_HAND, "on", []),
            **{
                f"{stage}, {mode}": (STAGE, mode, arguments)
                for stage, arguments in {
                    "does nothing": ["0", "0"],
                    f"works {asked.work:g} s": [str(asked.work), "0"],
                    f"reports {POINTS} points": ["0", str(POINTS)],
                }.items()
                for mode in ("off", "on")
            },
        }
        took: dict[str, list[float]] = {side: [] for side in sides}
        reports: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(asked.rounds):
            for side, (program, mode, arguments) in sides.items():
                begun = time.perf_counter()
                said = run(folder, program, *arguments, mode=mode)
                took[side].append(time.perf_counter() - begun)
                reports[side].append(float(said.splitlines()[-1]) if program == STAGE else 0.0)
    floor = statistics.median(took["by hand"])
    print(f"a run by hand, whole process: {floor:.2f} s (median of {asked.rounds})")
    for stage in [side.removesuffix(", on") for side in sides if side.endswith(", on")]:
        plain, tracked = (statistics.median(took[f"{stage}, {mode}"]) for mode in ("off", "on"))
        added = tracked - plain
        print(f"{stage}: {plain:.2f} s, tracked + {added:.2f} s, {added / floor:.2f} of a run by hand")
    point = statistics.median(reports[f"reports {POINTS} points, on"])
    print(f"{POINTS} points take {point:.4f} s of the stage")


def run(folder: Path, program: str, *arguments: str, mode: str = "on") -> str:
    """Run a program in the folder as DVC would; what it printed."""
    environment = {**os.environ, "KARMA_TRACKING": mode, "DVC_ROOT": str(folder), "DVC_STAGE": "made"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode or "karma sync" in done.stderr:
        sys.exit(f"the stage failed or was not tracked: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    main()
