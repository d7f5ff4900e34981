"""What goes wrong ends in one line and an exit status; what comes from outside never acts on a terminal."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from karma_plugins import console, tracking
from karma_plugins.errors import KarmaError, refused_by_system
from karma_plugins.tracking import record as records


def ending(error: BaseException) -> Result:
    @click.command(cls=console.Guarded)
    def main() -> None:
        raise error

    return CliRunner().invoke(main, [])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KarmaError("no\n  such"), "Error: no such"),
        (OSError(errno.ENOSPC, "x", "data/out"), "Error: data/out: no space left on device. Make room there"),
        (OSError(errno.EROFS, "x", "data"), "Error: data: read-only file system. Make it writable"),
        (OSError("No space left on device (os error 28)"), "Error: no space left on device. Make room"),
        (RuntimeError("[enforce fail] No space left on device"), "Error: no space left on device. Make room"),
        (PermissionError(errno.EACCES, "x", "a"), "Error: a: permission denied. Make it readable"),
        (NotADirectoryError(errno.ENOTDIR, "x", "a/b"), "Error: a/b: not a directory. A file is where"),
        (ValueError("embedded null byte"), "Error: a file's name holds a NUL character"),
        (MemoryError(), "Error: not enough memory."),
        (KeyError("x"), "Error: unexpected KeyError in test_console.py, line "),
    ],
)
def test_one_line_for_each_error(error: BaseException, line: str) -> None:
    done = ending(error)
    assert done.exit_code == 1
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_an_error_of_a_library_that_was_raised_for_a_full_disk_says_so() -> None:
    full_disk = OSError(errno.ENOSPC, "No space left on device", "model.safetensors")
    error = RuntimeError("can't serialise")
    assert refused_by_system(error) is None
    error.__cause__ = full_disk
    assert "model.safetensors: no space left" in (refused_by_system(error) or "")


def test_ctrl_c_ends_with_130_and_one_line() -> None:
    done = ending(KeyboardInterrupt())
    assert done.exit_code == 130
    assert done.stderr.strip() == console.STOPPED


def test_ctrl_c_while_modules_are_imported(tmp_path: Path) -> None:
    """The stages' package and the command line set it up before anything that takes long."""
    (tmp_path / "slow.py").write_text(
        "import os, signal\nimport stages\nos.kill(os.getpid(), signal.SIGINT)\nimport time; time.sleep(9)\n"
    )
    here = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "slow.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(here)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 130
    assert done.stderr.strip() == console.STOPPED
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_acts_on_a_terminal_is_shown_instead() -> None:
    assert console.printable("a\x1b[2Jb\u202ec\x9bd\u2066\r") == "a\\x1b[2Jb\\u202ec\\x9bd\\u2066\\r"
    assert console.printable("é 漢字\u3000\u00a0👩\u200d👩\tÄ") == "é 漢字\u3000\u00a0👩\u200d👩\tÄ"
    assert "\x1b[2J" not in ending(KarmaError("model \x1b[2J")).stderr


def test_a_very_long_line_is_clipped() -> None:
    assert len(ending(KarmaError("x" * 10**6)).stderr) < 2100


@pytest.mark.parametrize("stopped", [True, False])
def test_the_record_says_how_a_stage_ended(tmp_path: Path, monkeypatch, stopped: bool) -> None:
    """Killed by Ctrl-C, or failed."""
    record = records.Record(uid="1", name="a", stage="a", started=1)
    monkeypatch.setattr(tracking, "Courier", lambda *_: type("C", (), {"begin": noop, "wait": noop})())
    monkeypatch.setattr(tracking, "_begin", lambda *_: (record, None))
    monkeypatch.setattr(tracking.lineage, "project_root", lambda _: tmp_path)
    monkeypatch.setattr(tracking.lineage, "workspace_root", lambda _: tmp_path)
    monkeypatch.setenv("KARMA_TRACKING", "on")
    error = KeyboardInterrupt() if stopped else OSError(errno.ENOSPC, "x", "data/out")
    with pytest.raises(type(error)), tracking.stage("a", params={}, inputs=[], outs=[]):
        raise error
    (kept,) = (tmp_path / ".karma" / "spool").iterdir()
    assert records.read(kept).status == ("KILLED" if stopped else "FAILED")


def test_a_disk_that_is_full_at_the_end_hides_nothing(tmp_path: Path, monkeypatch) -> None:
    record = records.Record(uid="1", name="a", stage="a", started=1)
    monkeypatch.setattr(tracking, "Courier", lambda *_: type("C", (), {"begin": noop, "wait": noop})())
    monkeypatch.setattr(tracking, "_begin", lambda *_: (record, None))
    monkeypatch.setattr(tracking.lineage, "project_root", lambda _: tmp_path)
    monkeypatch.setattr(tracking.lineage, "workspace_root", lambda _: tmp_path)
    monkeypatch.setenv("KARMA_TRACKING", "on")

    def work() -> None:
        with tracking.stage("a", params={}, inputs=[], outs=[]):
            monkeypatch.setattr(records.Record, "write", full)
            raise KarmaError("the first")

    with pytest.raises(KarmaError, match="the first"):
        work()


def noop(*_: object) -> None:
    """Nothing."""


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("level", "line"), [("debug", "karma_plugins.x: loading \\x1b[2J\n"), ("warning", "")]
)
def test_what_the_package_logs_is_shown_on_request(
    level: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("karma_plugins")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    monkeypatch.setenv("KARMA_LOG", level)
    console.guard(logging.getLogger("karma_plugins.x").info, "loading %s", "\x1b[2J")
    assert capsys.readouterr().err.endswith(line)
    monkeypatch.setenv("KARMA_LOG", "loud")
    with pytest.raises(SystemExit):
        console.guard(int)
    assert "KARMA_LOG=LOUD: is no level" in capsys.readouterr().err
