"""Judge `competence`: what profile found of the model, whatever its answer says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest
from pydantic import ValidationError

from karma_plugins.contracts import Answer, Verdict
from karma_plugins.errors import ParamsError
from karma_plugins.judging.judges.competence import CompetenceOptions, karma_register_judges, score
from karma_plugins.schemas import SCORES
from karma_plugins.testing import JudgeContract

CELLS = {("able", "knowledge"): [0.9, 0.7], ("able", "reasoning"): [0.4], ("weak", "knowledge"): [0.2]}


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    for model in ("able", "weak"):
        rows = [
            {"model": m, "competency": c, "task": f"t{i}", "metric": "acc", "score": s, "stderr": 0.1, "n": 9}
            for (m, c), values in CELLS.items()
            for i, s in enumerate(values)
            if m == model
        ]
        (tmp_path / model).mkdir()
        pl.DataFrame(rows, schema=SCORES.columns).write_parquet(tmp_path / model / "scores.parquet")
    return tmp_path


class TestContract(JudgeContract):
    plugin = karma_register_judges()[0]
    options: ClassVar[dict[str, Any]] = {"rank": {"m": 1.0}}


def worth(model: str, competency: str | None, options: CompetenceOptions) -> float | Verdict:
    asked = [{"role": "user", "content": "?"}]
    return score([Answer("r", "p", model, asked, "anything", competency=competency)], options)[0]


def test_an_answer_is_worth_its_models_score_in_the_competency(profile: Path) -> None:
    options = CompetenceOptions(profile=str(profile))
    assert worth("able", "knowledge", options) == pytest.approx(0.8)
    assert worth("able", "reasoning", options) == pytest.approx(0.4)
    assert worth("able", "poetry", options) == pytest.approx(0.6)
    assert worth("weak", "knowledge", options) == pytest.approx(0.2)


def test_an_unknown_model_is_skipped_with_a_reason(profile: Path) -> None:
    verdict = worth("stranger", "knowledge", CompetenceOptions(profile=str(profile)))
    assert verdict == Verdict(None, "skipped", "competence unknown")


def test_ranks_become_places_that_equals_share() -> None:
    options = CompetenceOptions(rank={"small": 7, "other": 7, "large": 70, "huge": 405})
    assert [worth(m, None, options) for m in ("small", "other", "large", "huge")] == [0.0, 0.0, 0.5, 1.0]


def test_it_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="no profile in"):
        worth("able", None, CompetenceOptions(profile=str(tmp_path)))
    for wrong in ({}, {"profile": "data/profile", "rank": {"a": 1}}):
        with pytest.raises(ValidationError, match="give `profile` or `rank`"):
            CompetenceOptions(**wrong)
