"""What every objective keeps: it trains to the same bytes, saves a loadable model, and says how it went."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from karma_plugins import models, training
from karma_plugins.contracts import LoraSettings
from karma_plugins.errors import ModelError, ParamsError
from karma_plugins.models.loading import load_model, load_tokenizer
from karma_plugins.params import TrainSection
from tests.tiny import write_model
from tests.training.preferences import objective, pairs

SETTINGS = TrainSection(base="base", batch_size=4, learning_rate=1e-3, checkpoint_steps=2)
OBJECTIVES = {
    "orpo": "rewards/margins",
    "kto": "rewards/margins",
    "rloo": "reward",
    "ppo": "reward",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("objectives") / "base")


def run(base: Path, folder: Path, name: str, settings: TrainSection = SETTINGS, n: int = 8, **options):
    if name == "ppo":
        pytest.importorskip("torchrl")
    return training.train(
        pairs(n),
        models.load("base", base),
        objective(name, **options),
        settings,
        output=folder / "model",
        checkpoints=folder / "kept",
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize(("name", "told"), OBJECTIVES.items())
def test_trains_to_the_same_bytes_and_tells_how(base, tmp_path, name, told):
    result = run(base, tmp_path / "one", name)
    again = run(base, tmp_path / "two", name)
    files = contents(tmp_path / "one" / "model")
    assert files == contents(tmp_path / "two" / "model")
    assert set(files) == set(contents(base))
    assert files["model.safetensors"] != contents(base)["model.safetensors"]
    assert told in result.metrics
    assert result.metrics["steps"] == 2
    assert result.curve.equals(again.curve)
    load_model(models.load("aligned", tmp_path / "one" / "model").source)


@pytest.mark.parametrize("name", ["rloo", "ppo"])
def test_low_rank_adapters(base, tmp_path, name):
    settings = SETTINGS.model_copy(update={"lora": LoraSettings(r=4, export="adapter")})
    run(base, tmp_path, name, settings)
    assert "adapter_model.safetensors" in contents(tmp_path / "model")
    load_model(models.Weights(folder=str(base), adapter=str(tmp_path / "model")))


@pytest.mark.parametrize("prompt_loss", [False, True])
def test_orpo_loss_equals_plain_numpy(base, tmp_path, monkeypatch, prompt_loss):
    from trl.experimental.orpo import ORPOTrainer

    seen = []
    compute = ORPOTrainer.compute_loss

    def spy(self, *args, **kwargs):
        loss = compute(self, *args, **kwargs)
        seen.append(loss.item())
        return loss

    monkeypatch.setattr(ORPOTrainer, "compute_loss", spy)
    run(
        base,
        tmp_path,
        "orpo",
        SETTINGS.model_copy(update={"batch_size": 8}),
        beta=0.3,
        prompt_loss=prompt_loss,
    )
    whole, means = [], {"chosen": [], "rejected": []}
    for row in pairs(8).to_dicts():
        for answer, found in means.items():
            log_p, start = log_probabilities(base, row["prompt"], row[answer])
            found.append(log_p[start:].mean())
            if answer == "chosen":
                whole.append(log_p)
    chosen, rejected = np.array(means["chosen"]), np.array(means["rejected"])
    odds = (chosen - np.log1p(-np.exp(chosen))) - (rejected - np.log1p(-np.exp(rejected)))
    likelihood = np.concatenate(whole).mean() if prompt_loss else chosen.mean()
    expected = -likelihood + 0.3 * np.log1p(np.exp(-odds)).mean()
    assert seen[0] == pytest.approx(expected, rel=1e-4)


def log_probabilities(folder: Path, prompt, answer) -> tuple[np.ndarray, int]:
    """Of each token but the first of a conversation; and where the answer's begin."""
    weights = models.Weights(folder=str(folder))
    model, tokenizer = load_model(weights), load_tokenizer(weights)
    asked = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    ids = torch.tensor(
        [tokenizer(tokenizer.apply_chat_template(prompt + answer, tokenize=False))["input_ids"]]
    )
    with torch.no_grad():
        logits = model(ids).logits[0, :-1].log_softmax(-1)
    return logits.gather(1, ids[0, 1:, None])[:, 0].double().numpy(), len(tokenizer(asked)["input_ids"]) - 1


def test_kto_sees_every_answer_with_its_label_and_no_prompt_twice_in_a_row():
    from karma_plugins.training.objectives.kto import answers

    rows = answers(pairs(6).select("prompt", "chosen", "rejected").to_dicts(), batch=4)
    assert [row["label"] for row in rows] == [True] * 4 + [False] * 4 + [True] * 2 + [False] * 2
    assert [row["completion"][0]["content"].split()[-1] for row in rows[4:8]] == ["0", "1", "2", "3"]
    assert all(a["prompt"] != b["prompt"] for a, b in pairwise(rows[:8]))


def test_the_reward_model_ranks_the_pairs_it_was_trained_on(base, tmp_path):
    result = run(base, tmp_path, "rloo", n=16, reward={"epochs": 15, "learning_rate": 0.005})
    rows = result.curve.filter(pl.col("metric") == "reward_model/accuracy").sort("step")["value"]
    assert rows[-1] > 0.9


def test_a_reward_is_that_of_the_whole_answer_and_less_where_it_did_not_end(base, tmp_path):
    from karma_plugins.training.objectives.rloo import reward_function
    from karma_plugins.training.reward_model import RewardModel

    class Lengths(RewardModel):
        def rewards(self, sequences):
            return torch.tensor([float(len(sequence)) for sequence in sequences])

    tokenizer = load_tokenizer(models.Weights(folder=str(base)))
    reward_of = reward_function(Lengths(None, 0.0, 1.0), tokenizer, 0.5)
    prompt = [{"role": "user", "content": "hi"}]
    asked = len(
        tokenizer(tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)).input_ids
    )
    end = tokenizer.eos_token_id
    assert reward_of([prompt] * 2, [[7, 8, end], [7, 8, 9]]) == [asked + 3.0, asked + 3.0 - 0.5]


def test_clear_stops(base, tmp_path):
    with pytest.raises(ParamsError, match=r"rloo\.generations: 3 must divide the 8 answers"):
        run(base, tmp_path, "rloo", generations=3)
    pytest.importorskip("torchrl")
    job = training.TrainingJob(
        start=models.Weights(folder=str(base), quantisation="4bit"),
        reference=models.Weights(folder=str(base)),
        pairs=pairs(4),
        steps=1,
        output=tmp_path / "model",
        checkpoints=tmp_path,
        settings=SETTINGS,
        report=lambda metrics, step: None,
        base=models.Weights(folder=str(base), quantisation="4bit"),
        all_pairs=pairs(4),
        shared=tmp_path / "shared",
    )
    ppo = objective("ppo")
    with pytest.raises(ModelError, match="quantised weights make no reward model"):
        ppo.plugin.train(job, ppo.options)
