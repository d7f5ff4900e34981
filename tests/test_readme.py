"""Every command of README, in its order, after `make repro`: each prints what README says, figures as ranges.

Slow (KARMA_SLOW_TESTS=1): it trains twice. KARMA_RUN names a checkout in which the pipeline has run; without
it a clone is made here and the pipeline run in it. A command that README gains must be named here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.docs_blocks import REPOSITORY, blocks

#: How far a figure may be from README's, where another machine's last bits decide.
NEAR = 0.1
OFFLINE = {
    "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
    "DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true",
}  # fmt: skip


class Shell:
    """Runs a line in a folder, with the checkout's own code and the plugins that were installed beside it."""

    def __init__(self, checkout: Path, site: Path) -> None:
        self.checkout, self.folder, self.site = checkout, checkout, site

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("KARMA_", "MLFLOW_"))
        }
        path = os.pathsep.join([str(self.checkout), str(self.site)])
        return kept | OFFLINE | {"PYTHONPATH": path, "COLUMNS": "110"}

    def run(self, line: str, *, status: int = 0) -> str:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


def ended(shell: Shell) -> None:
    """Nothing to run again, and the figures of README's table."""
    assert "Data and pipelines are up to date." in shell.run("dvc repro")
    script = "import json; from karma_plugins import evaluation; "
    script += "print(evaluation.table(json.load(open('metrics/evaluate.json'))))"
    printed = shell.run(f'{sys.executable} -c "{script}"')
    (table,) = [
        block for block in blocks() if block.page == "README.md" and block.text.startswith("competency")
    ]
    rows = {first(row): figures(row) for row in printed.splitlines()}
    for line in table.text.splitlines():
        promised, seen = figures(line), rows.get(first(line))
        assert seen is not None, f"{line}\nis not among\n{printed}"
        if line.startswith(("all", "instruction", "knowledge", "reasoning", "benchmark")):
            assert len(seen) == len(promised), line
            assert all(abs(a - b) <= (20 if b > 1 else NEAR) for a, b in zip(seen, promised, strict=True)), (
                seen
            )


def first(line: str) -> str:
    """What a row begins with: its name, of a sentence what is not a figure."""
    return re.split(r"\s{2,}|\d", line)[0] or line.split(" ", 3)[3]


def figures(line: str) -> list[float]:
    return [float(figure) for figure in re.findall(r"[-+]?\d+(?:\.\d+)?", line)]


def opened(shell: Shell) -> None:
    """MLflow shows the pipeline's runs with their headline figures."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = f"exec mlflow ui --backend-store-uri sqlite:///mlflow.db --port {port} --workers 1"
    server = subprocess.Popen(["bash", "-c", command], cwd=shell.folder, env=shell.environment)
    try:
        base = f"http://127.0.0.1:{port}"
        for _ in range(120):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(1)
        with urllib.request.urlopen(base) as page:
            assert b"MLflow" in page.read()
        experiments = ask(f"{base}/api/2.0/mlflow/experiments/search", {"max_results": 10})["experiments"]
        wanted = {"experiment_ids": [e["experiment_id"] for e in experiments], "max_results": 200}
        runs = ask(f"{base}/api/2.0/mlflow/runs/search", wanted)["runs"]
        assert any(
            {metric["key"] for metric in run["data"].get("metrics", [])} >= {"difference", "win_rate"}
            for run in runs
        )
    finally:
        server.terminate()
        server.wait()


def ask(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)  # type: ignore[no-any-return]


def reported(shell: Shell) -> None:
    assert "report.html" in shell.run("karma report")
    assert "What got worse" in (shell.folder / "report.html").read_text(encoding="utf-8")


def answers_shown(shell: Shell) -> None:
    shown = [
        json.loads(line) for line in shell.run("karma show heldout --json").splitlines() if line[:1] == "{"
    ]
    changes = [row["aligned_reward"] - row["base_reward"] for row in shown if row["counted"]]
    assert changes == sorted(changes)
    assert changes[0] < 0


def measured(shell: Shell) -> None:
    shown = shell.run("dvc metrics show --json && dvc plots show")
    summary = json.JSONDecoder().raw_decode(shown)[0][""]["data"]["metrics/summary.json"]["data"]
    assert 8 <= len(summary) <= 16
    assert "index.html" in shown


def tried_at_random(shell: Shell) -> None:
    """Only what follows the pairing runs, and random pairs do worse."""
    before = json.loads((shell.folder / "metrics/summary.json").read_text(encoding="utf-8"))
    said = shell.run("git add -A && git commit -qm run; dvc exp run -S curriculum.pairing=random")
    assert stages_run(said) == {"curriculum", "train", "evaluate", "report"}
    after = json.loads((shell.folder / "metrics/summary.json").read_text(encoding="utf-8"))
    assert after["difference"] < before["difference"] - 0.1


def stages_run(said: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", said))


def compared(shell: Shell) -> None:
    shown = shell.run("dvc metrics diff")
    assert re.search(r"metrics/summary.json +difference ", shown), shown
    shell.run("git checkout -q . && dvc checkout -q")


def studied(shell: Shell) -> None:
    """What the study would do: it takes hours."""
    said = shell.run("karma study --forecast")
    assert "40" in said or "10" in said, said


def begun(shell: Shell) -> None:
    shell.folder = shell.checkout.parent / "own"
    shell.folder.mkdir()
    shell.run("git init -q && dvc init -q")


def started(shell: Shell) -> None:
    assert "params.yaml" in shell.run("karma init --template hub")
    assert "recorded" in shell.run("karma init --template list")


def checked(shell: Shell) -> None:
    """Without a network the models of a hub are not there, which is said in a line each."""
    said = shell.run("karma check || true")
    assert "Traceback" not in said
    assert re.search(r"error|found nothing", said), said


def beside(shell: Shell) -> None:
    shell.folder = shell.checkout.parent / "strange"
    shell.folder.mkdir()
    (shell.folder / "dvc.yaml").write_text("stages:\n  theirs:\n    cmd: echo hi > out\n    outs: [out]\n")
    shell.run("git init -q && dvc init -q && git add -A")
    theirs = shell.run("git ls-files")
    shell.run("karma init --into align --template hub")
    assert "dvc.yaml" in theirs
    assert shell.run("git diff --name-only").strip() in ("", ".gitignore")
    shell.run("cd align && karma check || true")


def written(shell: Shell) -> None:
    shell.folder = shell.checkout
    assert "src/demo/judge.py" in shell.run("karma new-plugin demo --kind judge")


def installed(shell: Shell) -> None:
    shell.run(
        f"{sys.executable} -m pip install -q --no-deps --no-build-isolation --target {shell.site} ./demo"
    )
    shutil.rmtree(shell.folder / "demo")


def listed(shell: Shell) -> None:
    assert re.search(r"^ +demo ", shell.run("karma plugins"), re.MULTILINE)


def locked(shell: Shell) -> None:
    shell.run("karma lock")
    assert '"demo"' in (shell.folder / "karma.lock.json").read_text(encoding="utf-8")


def judged(shell: Shell) -> None:
    (line,) = [line for line in commands() if "judge.judges.demo" in line]
    ran = stages_run(shell.run(f"git commit -qam lock; {line}"))
    assert {"judge@demo", "jury", "curriculum"} <= ran
    assert not ran & {"zoo", "prompts", "kinship", "judge@reference", "profile@pupil", "generate@pupil"}


def skipped(shell: Shell) -> None:
    """Done by what made this folder, or by the person who reads README."""


#: What must hold after each command, in README's order.
STEPS: dict[str, Callable[[Shell], None]] = {
    "make repro": ended,
    "make test": skipped,
    "source .venv/bin/activate": skipped,
    "mlflow ui --backend-store-uri sqlite:///mlflow.db": opened,
    "karma report": reported,
    "karma show heldout": answers_shown,
    "dvc metrics show && dvc plots show": measured,
    "dvc exp run -S curriculum.pairing=random": tried_at_random,
    "dvc metrics diff": compared,
    "karma study": studied,
    "pip install './karma-plugins[track]'": skipped,
    "pip install 'karma-plugins[track] @ git+https://…'": skipped,
    "pip install torch --index-url https://download.pytorch.org/whl/cpu": skipped,
    "pip install './karma-plugins[all]'": skipped,
    "git init && dvc init": begun,
    "karma init --template hub": started,
    "karma check": checked,
    "dvc repro": skipped,  # of models of a hub
    "karma init --into align --template hub": beside,
    "cd align && karma check && dvc repro": skipped,
    "karma new-plugin demo --kind judge": written,
    "pip install ./demo": installed,
    "karma plugins": listed,
    "karma lock": locked,
    "dvc exp run -S '+judge.judges.demo={plugin: demo, reads: data/prompts.parquet}' "
    "-S '+jury.weights.demo=0.5'": judged,
}


def commands() -> list[str]:
    """README's command lines without their comments."""
    lines = [
        line for b in blocks() if b.page == "README.md" and b.language == "console" for line in b.commands
    ]
    return [re.sub(r"\s+# .*$", "", line).strip() for line in lines]


def test_every_command_of_readme_has_a_step() -> None:
    assert commands() == list(STEPS)
    assert all(shlex.split(command) for command in STEPS)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A copy of the run that KARMA_RUN names, or a clone with a run of its own."""
    if not os.environ.get("KARMA_SLOW_TESTS"):
        pytest.skip("trains twice: set KARMA_SLOW_TESTS=1")
    top = tmp_path_factory.mktemp("readme")
    made = Shell(top / "checkout", top / "site")
    if given := os.environ.get("KARMA_RUN"):
        shutil.copytree(given, made.checkout, symlinks=True)
    else:
        subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(made.checkout)], check=True)
        made.run("dvc repro -q")
    made.run("git config user.email test@example.com && git config user.name test")
    made.run("git add -A && git commit -qm run || true")
    return made


@pytest.mark.parametrize("command", STEPS)
def test_the_command_prints_what_readme_says(command: str, shell: Shell) -> None:
    STEPS[command](shell)
