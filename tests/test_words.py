"""Keys that the field has a word for take that word beside our own; both at once is an error."""

from __future__ import annotations

from typing import Any

import pytest

from karma_plugins import manager
from karma_plugins.contracts import Objective, Weights
from karma_plugins.errors import KarmaError
from karma_plugins.params import CurriculumSection, validate


@pytest.mark.parametrize(
    ("objective", "ours", "theirs", "value"),
    [
        ("ppo", "clip", "cliprange", 0.1),
        ("ppo", "updates", "num_ppo_epochs", 3),
        ("ppo", "decay", "lam", 0.9),
        ("ppo", "value_weight", "vf_coef", 0.1),
        ("ppo", "unended_penalty", "missing_eos_penalty", 0.5),
        ("ppo", "beta", "kl_coef", 0.2),
        ("rloo", "generations", "num_generations", 8),
        ("rloo", "unended_penalty", "missing_eos_penalty", 0.5),
    ],
)
def test_an_objective_takes_the_fields_word(objective: str, ours: str, theirs: str, value: Any) -> None:
    def bound(options: dict[str, Any]) -> Any:
        return manager.load([]).bind(Objective, objective, options, where="here").options

    assert getattr(bound({theirs: value}), ours) == value
    assert bound({theirs: value}) == bound({ours: value})
    with pytest.raises(KarmaError, match=theirs):
        bound({ours: value, theirs: value})


def test_sections_and_descriptors_take_it_too() -> None:
    assert validate(CurriculumSection, {"license": "cc-by-4.0"}, where="here").licence == "cc-by-4.0"
    assert validate(Weights, {"folder": "x", "quantization": "4bit"}, where="here").quantisation == "4bit"
