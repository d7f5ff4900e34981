"""What is imported is declared, what is declared is imported, and the core does without every extra."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from karma_plugins.console import guard
from karma_plugins.contracts import Judge
from karma_plugins.errors import EXTRAS, NotInstalledError
from karma_plugins.judging.verdicts import checked
from karma_plugins.registry import Bound, Origin
from karma_plugins.registry.manager import load

#: Declared without an import: transformers reads and writes weights with it.
USED_BY_OTHERS = {"safetensors"}
#: Packages whose distribution has another name.
NAMED_OTHERWISE = {"vl-convert": "vl-convert-python"}
#: Distributions whose private names are used, which any release may change.
PRIVATE_NAMES = ("dvc", "dvc-data", "mlflow")


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def distributions(requirements: list[str]) -> set[str]:
    """The distributions that some requirements name."""
    names = {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements}  # type: ignore[index]
    return {normalised(name) for name in names}


def imported(*folders: Path) -> dict[str, str]:
    """Top-level packages that Python files import anywhere in them, each with one place."""
    ours = {
        "karma_plugins",
        "stages",
        "scripts",
        "tests",
        "karma_demo",
        "_pytest",
        "their_folder",
        "benchmarks",
    }
    places: dict[str, str] = {}
    files = [f for folder in folders for f in ([folder] if folder.is_file() else folder.rglob("*.py"))]
    for file in sorted(files):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                top = "ruamel.yaml" if name.startswith("ruamel.") else name.partition(".")[0]
                if top not in sys.stdlib_module_names | ours:
                    places.setdefault(top, f"{file}:{node.lineno}")
    return places


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    document = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    return document["project"]  # type: ignore[no-any-return]


def extra(project: dict[str, Any], name: str) -> set[str]:
    """What an extra brings beside other extras of ours."""
    return distributions(project["optional-dependencies"][name]) - {"karma-plugins"}


def test_every_import_is_declared_and_every_declaration_imported(
    repository: Path, project: dict[str, Any]
) -> None:
    names = imported(repository / "karma_plugins", repository / "stages")
    declared = distributions(project["dependencies"]) | {normalised(name) for name in EXTRAS}
    assert {normalised(name) for name in names} - declared == set(), names
    assert declared - {normalised(name) for name in names} - USED_BY_OTHERS == set()


def test_imports_of_tests_and_benchmarks_are_declared(repository: Path, project: dict[str, Any]) -> None:
    names = imported(repository / "tests", repository / "benchmarks", repository / "scripts")
    names = {
        name: place for name, place in names.items() if not (repository / "tests" / f"{name}.py").is_file()
    }
    declared = distributions(project["dependencies"])
    declared |= {d for name in project["optional-dependencies"] for d in extra(project, name)}
    lm_sim = {
        "lmsim": "lm-sim",
        "PIL": "pillow",
        "moto": "moto",
        "yaml": "pyyaml",
        "psycopg2": "psycopg2-binary",
    }
    assert {lm_sim.get(name, normalised(name)) for name in names} - declared == set(), names


def test_messages_name_the_extra_that_brings_a_package(project: dict[str, Any]) -> None:
    told: dict[str, set[str]] = {}
    for package, name in EXTRAS.items():
        told.setdefault(name, set()).add(NAMED_OTHERWISE.get(normalised(package), normalised(package)))
    assert told == {name: extra(project, name) for name in told}
    of_users = set(project["optional-dependencies"]) - {"all", "dev", "docs", "screenshots", "servers"}
    assert of_users == set(told)


def test_extra_all_holds_every_extra_of_use(project: dict[str, Any]) -> None:
    named = re.fullmatch(r"karma-plugins\[(.+)\]", project["optional-dependencies"]["all"][0])
    assert named is not None
    engines = {"ray"}  # one machine goes without
    assert {*named[1].split(","), "models"} == set(EXTRAS.values()) - engines


def test_where_private_names_are_used_there_is_a_top(project: dict[str, Any]) -> None:
    for requirement in project["optional-dependencies"]["track"]:
        if any(re.match(rf"{name}[<>=]", requirement) for name in PRIVATE_NAMES):
            assert re.search(r"<\d", requirement), f"{requirement} has no top"


# --- without what the extras bring --------------------------------------------------------------------------

CSV = "model,task,score,stderr,n\n" + "".join(
    f"{model},{task},{score},0.01,100\n"
    for model, *scores in (("a", 0.8, 0.3), ("b", 0.7, 0.35), ("c", 0.2, 0.9))
    for task, score in zip(("facts", "sums"), scores, strict=True)
)


#: Has the interpreter find no package of those names.
BLOCKED = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {} else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package of any extra is installed."""
    for package in EXTRAS:
        for loaded in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, package, None)


def light(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Python code in a process that finds no package of any extra."""
    lines = BLOCKED.format(sorted(EXTRAS)) + code
    return subprocess.run(
        [sys.executable, "-c", lines], capture_output=True, text=True, cwd=folder, check=False
    )


def karma(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return light(f"from karma_plugins.cli import main; main({list(arguments)!r}, prog_name='karma')", folder)


def test_the_core_measures_kinship(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(CSV)
    done = karma("kinship", "scores.csv", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a" in done.stdout


def test_plugins_that_lack_a_package_are_shown_as_not_installed(tmp_path: Path) -> None:
    done = karma("plugins", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    install = {row["name"]: row["install"] for row in json.loads(done.stdout)["plugins"]}
    for name, named in {"dpo": "train", "ppo": "ppo", "lm-eval": "profile", "likelihood": "models"}.items():
        assert install[name] == f"pip install 'karma-plugins[{named}]'"
    assert not any(install[name] for name in ("kin", "reference", "capa", "endpoint"))
    shown = karma("plugins", folder=tmp_path).stdout
    assert shown.count("not installed: pip install 'karma-plugins[") == sum(map(bool, install.values()))


def test_every_plugin_says_what_it_needs() -> None:
    either = {"llm-rubric", "llm-pairwise"}  # a server needs nothing more
    for (_, name), (plugin, _) in load([]).plugins.items():
        for module in {function.__module__ for function in plugin.functions}:
            file = sys.modules[module].__file__
            tops = set(imported(Path(str(file)))) & set(EXTRAS)
            assert not tops or plugin.needs or name in either, f"{name} imports {tops}"


@pytest.mark.parametrize(
    "command",
    [["sync"], ["lineage", "data/model"], ["verify"], ["study", "--seeds", "1"]],
)
def test_a_command_that_needs_an_extra_names_it_in_one_line(tmp_path: Path, command: list[str]) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "params.yaml").write_text("curriculum: {budget: 5}\ntrain: {base: m}\n")
    done = karma(*command, folder=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(
        r"Error: .* needs (dvc|mlflow), which is not installed: pip install 'karma-plugins\[track\]'\n",
        done.stderr,
    )


@pytest.mark.usefixtures("without")
def test_a_stage_stops_before_it_begins() -> None:
    plugin, origin = load([]).plugins["objectives", "dpo"]
    with pytest.raises(NotInstalledError, match=r"Objective 'dpo' needs trl, .* 'karma-plugins\[train\]'$"):
        Bound("dpo", plugin, plugin.options(), origin).check_installed()


@pytest.mark.usefixtures("without")
def test_a_judges_absent_package_is_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    def score(answers: object, options: object) -> list[float]:
        import torch

        return [float(torch.tensor(0.5))]

    with pytest.raises(SystemExit) as stopped:
        guard(checked, Judge(name="one", score=score).score, ["answer"], None)
    assert stopped.value.code == 1
    told = capsys.readouterr().err
    assert told.splitlines() == [
        "Error: This needs torch, which is not installed: pip install 'karma-plugins[models]'"
    ]


def test_a_folder_of_that_name_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m stages.train` looks into the repository first, where exports may lie in a folder `trl`."""
    (tmp_path / "their_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    judge = Judge(name="own", score=lambda answers, options: [], needs=("their_folder",))
    with pytest.raises(NotInstalledError, match="pip install their-folder$"):
        Bound("own", judge, judge.options(), Origin("karma-own", "1.0", "own")).check_installed()

    def run() -> None:
        from their_folder import Something  # noqa: F401

    with pytest.raises(SystemExit):
        guard(run)
    assert "This needs their_folder, which is not installed" in capsys.readouterr().err


def test_another_distributions_absent_package_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        guard(import_module, "not_a_package_of_anyone")
    assert "pip install not-a-package-of-anyone" in capsys.readouterr().err


def test_a_fault_of_ours_is_called_that_and_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        guard(import_module, "karma_plugins.not_there")
    assert "unexpected ModuleNotFoundError" in (line := capsys.readouterr().err)
    assert "KARMA_DEBUG=1 shows all of it" in line
    monkeypatch.setenv("KARMA_DEBUG", "1")
    with pytest.raises(ModuleNotFoundError):
        guard(import_module, "karma_plugins.not_there")


def test_a_plugin_of_another_distribution_says_what_it_needs() -> None:
    judge = Judge(name="own", score=lambda answers, options: [], needs=("json", "their_missing_package"))
    bound = Bound("own", judge, judge.options(), Origin("karma-own", "1.0", "own"))
    with pytest.raises(NotInstalledError, match="pip install their-missing-package$"):
        bound.check_installed()
