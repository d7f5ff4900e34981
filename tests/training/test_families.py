"""A step of training on each family: what is said of a pair is what is said of each row alone."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch

from karma_plugins import models, training
from karma_plugins.errors import ModelError
from karma_plugins.models import Weights, padding
from karma_plugins.models.loading import load_model, load_tokenizer
from karma_plugins.params import TrainSection
from karma_plugins.training import examples, rollout
from tests.models.families import HEEDFUL_LANGUAGE, LANGUAGE, POSITIONS, write_family
from tests.training.preferences import objective, pairs

SETTINGS = TrainSection(base="base", batch_size=4, learning_rate=1e-3)


def run(folder: Path, out: Path, name: str = "dpo", table: pl.DataFrame | None = None, **options):
    return training.train(
        pairs(4) if table is None else table,
        models.load("base", folder),
        objective(name, **options),
        SETTINGS,
        output=out / "model",
        checkpoints=out / "kept",
    )


def log_likelihood(model, prompt: list[int], answer: list[int]) -> float:
    """Of an answer after its prompt, the row alone."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + answer])).logits[0].double().log_softmax(-1)
    return sum(float(logits[len(prompt) + i - 1, token]) for i, token in enumerate(answer))


@pytest.mark.parametrize("family", [*LANGUAGE, *HEEDFUL_LANGUAGE])
def test_a_step_of_dpo(family, tmp_path):
    folder = write_family(tmp_path / "base", family)
    weights = Weights(folder=str(folder))
    model = load_model(weights)
    if not padding.bears_padding(model, load_tokenizer(weights), "right"):
        with pytest.raises(ModelError, match="depends on the padding beside it"):
            run(folder, tmp_path)
        return
    if family == "recurrent_gemma":  # it caps its logits, which TRL does not know
        with pytest.raises(ModelError, match="TRL computes other likelihoods than this model"):
            run(folder, tmp_path)
        assert run(folder, tmp_path / "orpo", "orpo").metrics["steps"] == 1
        return
    result = run(folder, tmp_path)
    outcomes = examples._outcomes(pairs(4), load_tokenizer(weights), weights, None)
    rows = [outcome for outcome in outcomes if isinstance(outcome, examples.Example)]
    for name in ("chosen", "rejected"):
        alone = [log_likelihood(model, row.prompt, getattr(row, name)) for row in rows]
        assert result.metrics[f"logps/{name}"] == pytest.approx(sum(alone) / 4, rel=1e-4)
    assert result.metrics["rewards/margins"] == pytest.approx(
        0.0, abs=1e-4
    )  # the policy is its reference yet
    trained = load_model(models.load("aligned", tmp_path / "model").source)
    assert any(
        not after.equal(before)
        for before, after in zip(model.parameters(), trained.parameters(), strict=True)
    )


def test_what_exceeds_the_positions_of_a_model_is_cut(tmp_path):
    folder = write_family(tmp_path / "base", "gpt2")
    table = pairs(4).to_dicts()
    table[0]["chosen"][0]["content"] = "long " * POSITIONS
    table[1]["prompt"][0]["content"] = "long " * POSITIONS
    with pytest.warns(UserWarning, match=f"1 of 4 pairs.*tokens of at most {POSITIONS}"):
        result = run(folder, tmp_path, table=pl.DataFrame(table, schema=pairs(1).schema))
    assert (result.metrics["pairs"], result.metrics["pairs/cut"]) == (3, 1)


@pytest.mark.parametrize("family", ["gpt2", "opt", "bloom", "falcon-alibi", "gemma3", "llama"])
def test_what_is_said_of_sampled_answers_is_what_is_said_of_each_row_alone(family, tmp_path):
    """Behind padding on the left, by `ppo` and by the divergence, and as TRL calls the model for `rloo`."""
    model = load_model(Weights(folder=str(write_family(tmp_path / "base", family))))
    prompts = [[3, 20, 30], [3, 40], [3, 50, 60, 70, 80]]
    drawn = rollout.sample(
        model, prompts, rollout.noise([(7, row) for row in range(3)], 6), temperature=1.0, ends=[1], pad=0
    )
    with torch.no_grad():
        told = rollout.log_probabilities(rollout.answer_logits(model, drawn, 1.0), drawn.tokens)
        rollout.place_by_mask(model)
        bare = model(input_ids=drawn.ids, attention_mask=drawn.mask).logits[:, drawn.width - 1 : -1]
        placed = rollout.log_probabilities(bare, drawn.tokens)
    for row, (prompt, answer) in enumerate(zip(prompts, drawn.answers(), strict=True)):
        alone = log_likelihood(model, prompt, answer)
        for found in (told, placed):
            assert float(found[row][drawn.answered[row]].sum()) == pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize("habit", ["min_new_tokens", "num_return_sequences", "suppress_tokens"])
def test_a_models_own_generation_config_changes_no_sampled_answer(habit, tmp_path):
    from transformers import GenerationConfig

    model = load_model(Weights(folder=str(write_family(tmp_path / "base", "llama"))))

    def draw():
        uniform = rollout.noise([(7, row) for row in range(4)], 12)
        return rollout.sample(model, [[3, 20]] * 4, uniform, temperature=1.0, ends=[*range(90)], pad=0)

    before = draw().answers()
    values = {"min_new_tokens": 6, "num_return_sequences": 2, "suppress_tokens": [*range(100, 200)]}
    model.generation_config = GenerationConfig(**{habit: values[habit]}, do_sample=habit != "min_new_tokens")
    own = model.generation_config
    assert draw().answers() == before
    assert model.generation_config is own


def test_prompts_near_the_last_position_leave_answers_less_room(tmp_path):
    """In place of an index error of the model's table of positions."""
    folder = write_family(tmp_path / "base", "gpt2")
    table = pairs(4).to_dicts()
    table[0]["prompt"][0]["content"] = "l" * (POSITIONS - 12)
    result = run(
        folder, tmp_path, "rloo", pl.DataFrame(table, schema=pairs(1).schema), max_new_tokens=40,
        reward={"epochs": 1},
    )  # fmt: skip
    assert result.metrics["completions/max_length"] <= 11
