"""The notebook in docs/api.md runs as it stands, on a zoo that was hardly trained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from karma_plugins import zoo


def test_the_page_runs(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = {
        "pupil": {"steps": 3, "mixture": {"knowledge": 1}},
        "scholar": {"parent": "pupil", "steps": 3, "mixture": {"knowledge": 1}},
        "scribe": {"parent": "pupil", "steps": 3, "mixture": {"instruction": 1}},
    }
    small = {
        "benchmark": 6,
        "train": 8,
        "heldout": 6,
        "hidden_size": 16,
        "layers": 1,
        "heads": 2,
        "threads": 1,
    }
    monkeypatch.chdir(tmp_path)
    zoo.build(Path("data/zoo"), zoo.ZooSettings.model_validate({"family": family, **small}))
    text = (repository / "docs" / "api.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 26
    found: dict[str, object] = {}
    exec(compile(code, "docs/api.md", "exec"), found)
    assert (tmp_path / "aligned" / "model.safetensors").is_file()
    assert found["made"].pairs.height > 0  # type: ignore[attr-defined]
