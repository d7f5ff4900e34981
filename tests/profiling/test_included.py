"""Task files of a folder: what is broken is said, what runs Python is refused unless params allow it."""

from __future__ import annotations

from pathlib import Path

import pytest

from karma_plugins.errors import ParamsError
from karma_plugins.profiling import included
from karma_plugins.profiling.profilers.lm_eval import LmEvalOptions, check


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    (tmp_path / "tasks" / "deep").mkdir(parents=True)
    (tmp_path / "tasks" / "fine.yaml").write_text(
        "task: fine\ndataset_path: json\n# !function in a comment\n"
    )
    return tmp_path / "tasks"


def test_a_broken_task_file_is_named_where_its_task_is_wanted(tasks: Path) -> None:
    (tasks / "evil.yaml").write_text("task: evil\ndoc_to_text: [\n")
    options = LmEvalOptions(include_path=str(tasks), own_tasks=False)
    check({"c": ["fine"]}, options)
    with pytest.raises(ParamsError, match=r"no task 'evil', and .*evil\.yaml is no YAML \(.*line 3"):
        check({"c": ["evil"]}, options)


@pytest.mark.parametrize("text", [
    "task: x\nprocess_docs: !function utils.process\n", "task: x\ndeep: [{a: [!function os.system]}]\n",
    'task: x\nclass: !function "a.B"\n', "x: &a !function u.f\ntask: *a\n", "task: x\n? !function u.f\n: 1\n",
])  # fmt: skip
def test_what_runs_python_is_refused_unless_params_allow_it(tasks: Path, text: str) -> None:
    (tasks / "deep" / "x.yml").write_text(text)
    with pytest.raises(ParamsError, match=r"deep/x\.yml, line \d: runs Python .*functions: true"):
        check({"c": ["fine"]}, LmEvalOptions(include_path=str(tasks), own_tasks=False))
    assert included.check(tasks, functions=True) == {}


def test_what_a_task_file_includes_counts_too(tasks: Path) -> None:
    (tasks.parent / "outside.yaml").write_text("process_docs: !function utils.process\n")
    (tasks / "x.yaml").write_text("include: ../outside.yaml\ntask: x\n")
    with pytest.raises(ParamsError, match=r"outside\.yaml, line 1: runs Python"):
        included.check(tasks, functions=False)


def test_odd_files_end(tasks: Path) -> None:
    (tasks / "loop.yaml").write_text("include: loop.yaml\nx: &x [*x, *x]\n")
    (tasks / "deep.yaml").write_text("[" * 5000)
    (tasks / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    assert {path.name for path in included.check(tasks, functions=False)} == {"deep.yaml", "bytes.yaml"}
