"""What must stay light stays light: nobody waits for torch to read a help text."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "mlflow", "lm_eval", "datasets", "trl", "dvc", "matplotlib")


@pytest.mark.parametrize(
    "code",
    [
        "import karma_plugins",
        "from karma_plugins.cli import main; main(['--help'], standalone_mode=False)",
        "from karma_plugins import hookimpl, Judge, KinshipMetric",
        "from karma_plugins import manager; manager.load([])",
        "import stages.judge, stages.generate, stages.curriculum",
    ],
)
def test_loads_nothing_heavy(code: str) -> None:
    probe = f"import sys; {code}; print('loaded', *[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded"
