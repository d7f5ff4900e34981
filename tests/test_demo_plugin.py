"""The demo distribution, built and installed for real; the tutorial's code blocks are its files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import polars as pl
import pytest

from tests.test_stops import changed, pipeline, settle  # noqa: F401


@pytest.fixture(scope="module")
def site(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the demo distribution was installed into, as pip does it."""
    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(repository / "tests" / "plugins" / "karma-demo", folder / "source")
    install(folder / "source", folder / "site")
    return folder / "site"


def install(source: Path, site: Path) -> None:
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--upgrade",
    ]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True)


def run(site: Path, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), *sys.path])}
    return subprocess.run(
        [sys.executable, *command], env=environment, cwd=cwd, capture_output=True, text=True, check=False
    )


def test_listed_with_distribution_version_and_options(site: Path) -> None:
    listed = json.loads(run(site, "-m", "karma_plugins", "plugins", "--json").stdout)
    demo = {row["kind"]: row for row in listed["plugins"] if row["distribution"] == "karma-demo"}
    assert demo["judges"]["version"] == "0.1.0"
    assert demo["judges"]["options"]["words"]["default"] == 5
    assert demo["kinship_metrics"]["name"] == "demo"
    assert listed["broken"] == []


def test_keeps_its_contracts(site: Path, repository: Path) -> None:
    tests = repository / "tests" / "plugins" / "karma-demo" / "tests"
    done = run(site, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(tests), str(tests))
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_named_in_params_they_run_and_a_raised_version_stops(site: Path, pipeline: Path) -> None:  # noqa: F811
    settings = changed("judge.judges.demo", {"plugin": "demo", "words": 3})
    settle(settings | {"kinship": {"metric": "demo"}})
    stages = "from stages.kinship import main as kinship; from stages.judge import main as judge"
    both = f"{stages}; kinship([], standalone_mode=False); judge(['demo'], standalone_mode=False)"
    done = run(site, "-c", f"{stages}; kinship()", cwd=pipeline)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "karma.lock.json, kinship: holds no 'demo' (karma-demo 0.1.0). Run `karma lock`." in done.stderr
    assert run(site, "-m", "karma_plugins", "lock", cwd=pipeline).returncode == 0
    done = run(site, "-c", both, cwd=pipeline)
    assert done.returncode == 0, done.stderr
    assert set(pl.read_parquet("data/kinship.parquet")["version"]) == {"demo (karma-demo 0.1.0)"}
    judged = pl.read_parquet("data/verdicts/demo/judgements.parquet")
    assert set(judged["version"]) == {"demo (karma-demo 0.1.0)"}
    assert judged["score"].null_count() == 0
    (metadata,) = site.glob("karma_demo-*/METADATA")
    text = metadata.read_text()
    try:
        metadata.write_text(text.replace("\nVersion: 0.1.0", "\nVersion: 0.2.0"))
        done = run(site, "-c", f"{stages}; judge(['demo'])", cwd=pipeline)
    finally:
        metadata.write_text(text)
    assert done.returncode == 1
    assert done.stderr.strip().startswith(
        "Error: karma.lock.json, judge: version of 'demo' is 0.2.0, locked is 0.1.0"
    )


def test_tutorial_blocks_are_the_distribution(repository: Path) -> None:
    demo = repository / "tests" / "plugins" / "karma-demo"
    text = (repository / "docs" / "writing_a_plugin.md").read_text(encoding="utf-8")
    blocks = dict.fromkeys(("python", "toml"), "")
    for language, block in re.findall(r"```(python|toml)\n(.*?)```", text, re.DOTALL):
        blocks[language] += block
    code, kinds = (
        (demo / "src" / "karma_demo" / f"{n}.py").read_text("utf-8") for n in ("__init__", "kinds")
    )
    tests = (demo / "tests" / "test_demo.py").read_text(encoding="utf-8").replace("  # noqa: RUF012", "")
    assert squeezed(blocks["toml"]) == squeezed((demo / "pyproject.toml").read_text(encoding="utf-8"))
    for source in (code, kinds):
        assert squeezed(without_docstring(source)) in squeezed(blocks["python"])
    lasting = ("src/karma_demo/data.py", "tests/test_data.py")
    for file in (*lasting, "src/karma_demo/running.py", "tests/test_running.py"):
        assert squeezed(without_docstring((demo / file).read_text())) in squeezed(blocks["python"])
    assert squeezed(tests.split("from karma_plugins.testing")[1]) in squeezed(blocks["python"])


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", textwrap.dedent(text)).strip()


def without_docstring(code: str) -> str:
    return code.split('"""', 2)[2]


def test_its_importer_and_exporter_are_commands(site: Path, tmp_path: Path) -> None:
    (tmp_path / "questions.txt").write_text("What is 2 + 2?;4;5\nbroken\n")
    done = run(
        site, "-m", "karma_plugins", "import", "demo-text", "questions.txt", "--separator", ";",
        "--out", "mine", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "pairs 1" in done.stdout and "lines of another form 1" in done.stdout
    helped = run(site, "-m", "karma_plugins", "export", "demo-text", "--help", cwd=tmp_path)
    assert "--separator" in helped.stdout and "the chosen answer and the rejected one" in helped.stdout
