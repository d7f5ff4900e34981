"""What DVC watches for a stage, read from dvc.yaml with its templates filled in."""

from __future__ import annotations

from pathlib import Path

import pytest

from karma_plugins.errors import ParamsError
from karma_plugins.lineage import read_stages, unwatched

TEXT = """
stages:
  judge:
    foreach: ${judge.judges}
    do:
      cmd: judge ${key}
      deps: [data/prompts.parquet, "${item.reads}", "kept/${key}", "${judge.shared}"]
  train:
    cmd: train
    deps:
      - data/pairs: {hash: md5}
"""
PARAMS = {
    "judge": {
        "shared": "models/shared.yaml",
        "judges": {"one": {"reads": "models/one"}, "two": {"reads": "models/two.yaml"}},
    }
}


@pytest.fixture
def stages(tmp_path: Path) -> dict[str, object]:
    (tmp_path / "dvc.yaml").write_text(TEXT)
    return read_stages(tmp_path / "dvc.yaml")


@pytest.mark.parametrize(
    "path",
    ["data/prompts.parquet", "models/one", "models/one/deep/config.json", "kept/one/x", "models/shared.yaml"],
)
def test_what_a_dep_holds_is_watched(stages: dict[str, object], path: str) -> None:
    assert unwatched(stages, PARAMS, "judge", "one", [Path(path)]) == []


@pytest.mark.parametrize("path", ["models/two.yaml", "models", "models/one.yaml", "kept/two/x", "data"])
def test_what_no_dep_holds_is_not(stages: dict[str, object], path: str) -> None:
    assert unwatched(stages, PARAMS, "judge", "one", [Path("models/one"), Path(path)]) == [Path(path)]


def test_a_stage_without_items_and_one_that_is_not_there(stages: dict[str, object]) -> None:
    paths = [Path("data/pairs/train.parquet"), Path("data/other")]
    assert unwatched(stages, PARAMS, "train", "", paths) == [Path("data/other")]
    assert unwatched(stages, PARAMS, "jury", "", paths) == []


def test_no_pipeline_has_no_stages_and_a_broken_one_is_an_error(tmp_path: Path) -> None:
    assert read_stages(tmp_path / "dvc.yaml") == {}
    (tmp_path / "dvc.yaml").write_text("stages: [")
    with pytest.raises(ParamsError, match="not readable as YAML"):
        read_stages(tmp_path / "dvc.yaml")
