"""What `karma sync --all-commits` costs in a fresh clone, as a history grows.

Makes histories of 50, 100 and 200 commits of a pipeline of 20 stages (deps and metrics that git holds, outs
that nobody has), clones each and syncs the clone into an empty MLflow on sqlite. Prints for each the
processes that were started, CPU seconds and peak memory, the CPU of one new stage run, and a second sync
against `dvc status`.

    python benchmarks/sync.py [--commits 50 100 200] [--stages 20]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

#: Runs a command of ours or DVC's inside, and prints what it took as JSON in the last line.
MEASURED = """
import json, os, resource, subprocess, sys
started = [0]
sys.addaudithook(lambda event, _: started.__setitem__(0, started[0] + (event == "subprocess.Popen")))
arguments = sys.argv[2:]
if sys.argv[1] == "karma":
    from karma_plugins.cli import main
    try:
        main(arguments)
    except SystemExit as end:
        code = end.code or 0
else:
    from dvc.cli import main
    code = main(arguments)
own, below = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
cpu = own.ru_utime + own.ru_stime + below.ru_utime + below.ru_stime
print(json.dumps({"cpu": cpu, "memory": own.ru_maxrss / 1024, "processes": started[0], "code": code}))
"""


def main() -> None:
    """Make the histories, sync clones of them, print."""
    parser = argparse.ArgumentParser(description="What syncing a history costs.")
    parser.add_argument("--commits", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--stages", type=int, default=20)
    asked = parser.parse_args()
    print("commits  processes  CPU s  per run ms  memory MB  second sync CPU s  dvc status CPU s  ratio")
    with tempfile.TemporaryDirectory() as name:
        for commits in asked.commits:
            source, clone = Path(name) / f"{commits}", Path(name) / f"{commits}-clone"
            history(source, commits, asked.stages)
            git(Path(name), "clone", "-q", str(source), str(clone))
            first = measured(clone, "karma", "sync", "--all-commits")
            second = measured(clone, "karma", "sync", "--all-commits")
            status = measured(clone, "dvc", "status", "-q")
            runs = commits * asked.stages
            print(
                f"{commits:7}  {first['processes']:9}  {first['cpu']:5.0f}  "
                f"{1000 * first['cpu'] / runs:10.1f}  {first['memory']:9.0f}  {second['cpu']:17.2f}  "
                f"{status['cpu']:16.2f}  "
                f"{second['cpu'] / status['cpu']:5.1f}",
                flush=True,
            )


def measured(folder: Path, *command: str) -> dict[str, float]:
    """Run a command in a process of its own; what it took."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode or (command[0] == "karma" and json.loads(done.stdout.splitlines()[-1])["code"]):
        sys.exit(f"{' '.join(command)}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def history(root: Path, commits: int, stages: int) -> None:
    """A repository of so many commits, each of which changes a script, a param, and all outs."""
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=root, check=True)
    (root / ".gitignore").write_text("/data\n/.karma\n/mlflow.db*\n/mlruns\n")
    for folder in ("src", "metrics"):
        (root / folder).mkdir()
    names = [f"s{number}" for number in range(stages)]
    pipeline = {name: stage(name, number) for number, name in enumerate(names)}
    (root / "dvc.yaml").write_text(json.dumps({"stages": pipeline}))
    for name in names:
        (root / f"src/{name}.py").write_text(f"# {name}\n")
    for number in range(commits):
        (root / f"src/{names[number % stages]}.py").write_text(f"# changed in {number}\n")
        params = {
            name: {"rate": number if place == number % stages else 0} for place, name in enumerate(names)
        }
        (root / "params.yaml").write_text(json.dumps(params))
        for name in names:
            (root / f"metrics/{name}.json").write_text(json.dumps({"accuracy": number / commits}))
        lock = {name: locked(root, name, entry, number, params) for name, entry in pipeline.items()}
        (root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": lock}))
        git(root, "add", "-A")
        git(root, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", f"{number}")


def stage(name: str, number: int) -> dict[str, object]:
    """What dvc.yaml says of a stage that reads the one before it."""
    before = [f"data/s{number - 1}"] if number else []
    return {
        "cmd": f"python src/{name}.py",
        "deps": [f"src/{name}.py", *before],
        "params": [f"{name}.rate"],
        "outs": [f"data/{name}"],
        "metrics": [{f"metrics/{name}.json": {"cache": False}}],
    }


def locked(root: Path, name: str, entry: dict, number: int, params: dict) -> dict[str, object]:
    """What dvc.lock says of it after a run."""

    def data(path: str) -> dict[str, object]:
        file = root / path
        content = file.read_bytes() if file.is_file() else f"{path} {number}".encode()
        return {"path": path, "hash": "md5", "md5": hashlib.md5(content).hexdigest(), "size": len(content)}

    return {
        "cmd": entry["cmd"],
        "deps": [data(path) for path in entry["deps"]],
        "params": {"params.yaml": {f"{name}.rate": params[name]["rate"]}},
        "outs": [data(f"data/{name}"), data(f"metrics/{name}.json")],
    }


def git(folder: Path, *arguments: str) -> None:
    """Run git."""
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


if __name__ == "__main__":
    main()
