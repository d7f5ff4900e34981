"""What every objective keeps: it trains to the same bytes, saves a loadable model, and says how it went."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from karma_plugins import models, training
from karma_plugins.contracts import Answer, LoraSettings, Panel, TrainingJob, Verdict
from karma_plugins.errors import EmptyResultError, ModelError, ParamsError, TrainingError
from karma_plugins.models.loading import load_model, load_tokenizer
from karma_plugins.params import TrainSection
from karma_plugins.training.reward_model import RewardModel
from karma_plugins.training.rewards import Reward
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


def run(
    base: Path, folder: Path, name: str, settings: TrainSection = SETTINGS, n: int = 8, table=None, **options
):
    if name == "ppo":
        pytest.importorskip("torchrl")
    return training.train(
        pairs(n) if table is None else table,
        models.load("base", base),
        objective(name, **options),
        settings,
        output=folder / "model",
        checkpoints=folder / "kept",
    )


def a_job(base: Path, folder: Path = Path("nowhere"), start: models.Weights | None = None) -> TrainingJob:
    weights = models.Weights(folder=str(base))
    return TrainingJob(
        start=start or weights,
        reference=weights,
        pairs=pairs(4),
        steps=1,
        output=folder / "model",
        checkpoints=folder,
        settings=SETTINGS,
        report=lambda metrics, step: None,
        base=start or weights,
        all_pairs=pairs(4),
        shared=folder / "shared",
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


def rows_of_kto(prompts: list[str], batch: list[int]):
    """What `kto` trains on; tokens tell the answer: 10 and up chosen, 50 and up rejected."""
    from karma_plugins.training.examples import Example
    from karma_plugins.training.objectives.kto import batch_rows

    made = [Example(prompt=[i], chosen=[10 + i], rejected=[50 + i]) for i in range(len(prompts))]
    return batch_rows(made, prompts, batch)


@pytest.mark.parametrize("prompts", ["abcdef", "aabbcc", "aaaaab", "abbbbb"])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_kto_measures_divergence_on_answers_to_other_prompts(prompts, size):
    """Whatever the batch: of one pair, the last one alone, one whose pairs are all about one prompt."""
    for start in range(0, len(prompts), size):
        batch = list(range(start, min(start + size, len(prompts))))
        rows = rows_of_kto(list(prompts), batch)
        assert [row["label"] for row in rows] == [True] * len(batch) + [False] * len(batch)
        for row in rows:
            first = 10 if row["label"] else 50
            own, other = (row[name][0] - first for name in ("completion_ids", "KL_completion_ids"))
            assert row["prompt_ids"] == [own]
            assert prompts[own] != prompts[other]


def test_kto_with_one_prompt_alone_is_one_line(base, tmp_path):
    with pytest.raises(EmptyResultError, match="pairs of one prompt alone"):
        rows_of_kto(["a", "a"], [0, 1])
    alone = pairs(4).with_columns(prompt_id=pl.lit("p"))
    with pytest.raises(EmptyResultError, match="pairs of one prompt alone"):
        run(base, tmp_path / "kto", "kto", table=alone)
    result = run(base, tmp_path / "apo", "kto", table=alone, loss_type="apo_zero_unpaired")
    assert result.metrics["kl"] == 0.0


def test_kto_trains_in_batches_of_one(base, tmp_path):
    result = run(base, tmp_path, "kto", SETTINGS.model_copy(update={"batch_size": 1}), n=3)
    assert result.metrics["steps"] == 3


def test_the_reward_model_ranks_the_pairs_it_was_trained_on(base, tmp_path):
    result = run(base, tmp_path, "rloo", n=16, reward={"epochs": 15, "learning_rate": 0.005})
    rows = result.curve.filter(pl.col("metric") == "reward_model/accuracy").sort("step")["value"]
    assert rows[-1] > 0.9


class Lengths(RewardModel):
    """A reward model that says how many tokens a sequence has."""

    def rewards(self, sequences):
        return torch.tensor([float(len(sequence)) for sequence in sequences])


def rewarded(base: Path, *, score=None, model=None) -> Reward:
    tokenizer = load_tokenizer(models.Weights(folder=str(base)))
    asked = [Answer("", f"p{i}", "policy", [{"role": "user", "content": "hi"}], "") for i in range(2)]
    job = replace(a_job(base), score=score)
    return Reward(job, tokenizer, frozenset({tokenizer.eos_token_id}), 0.5, asked, [[7, 7], [7]], model)


def test_a_reward_is_that_of_the_whole_answer_and_less_where_it_did_not_end(base):
    reward = rewarded(base, model=Lengths(None, 0.0, 1.0))
    end = reward.tokenizer.eos_token_id
    assert reward([0, 1], [[7, 8, end], [7, 8, 9]]) == [5.0, 4.0 - 0.5]


def test_judges_see_the_text_of_an_answer_and_what_they_cannot_say_moves_nothing(base):
    heard = []

    def score(answers):
        heard.extend(answers)
        return [Verdict(0.75), Verdict(None, "failed", "too long")]

    reward = rewarded(base, score=score)
    end = reward.tokenizer.eos_token_id
    yes, no = (reward.tokenizer(text)["input_ids"] for text in ("yes", "no"))
    assert reward([1, 0], [[*yes, end], no]) == [0.75, None]
    assert [(answer.text, answer.prompt_id) for answer in heard] == [("yes", "p1"), ("no", "p0")]


def test_no_reward_at_all_stops_with_the_first_reason(base):
    failing = rewarded(base, score=lambda answers: [Verdict(None, "failed", "no server")] * len(answers))
    with pytest.raises(TrainingError, match="none of 2 answers got a reward: no server"):
        failing([0, 1], [[7], [8]])

    class Broken(RewardModel):
        def rewards(self, sequences):
            return torch.tensor([float("nan")] * len(sequences))

    with pytest.raises(TrainingError, match="none of 2 answers got a reward: not finite"):
        rewarded(base, model=Broken(None, 0.0, 1.0))([0, 1], [[7], [8]])


@pytest.mark.parametrize("name", ["rloo", "ppo"])
def test_judges_reward_answers_in_place_of_a_reward_model(base, tmp_path, name):
    """They see the references of table `prompts`; what they prefer is said more often."""
    if name == "ppo":
        pytest.importorskip("torchrl")
    seen = set()

    def score(answers):
        seen.update((answer.prompt_id, answer.reference) for answer in answers)
        return [Verdict(sum(letter.isascii() for letter in a.text[:4]) / 4) for a in answers]

    table = pairs(4)
    known = table.select(
        "prompt_id", reference=pl.col("prompt_id") + "!", constraints=pl.lit(None, pl.String)
    )
    settings = SETTINGS.model_copy(update={"max_steps": 40, "batch_size": 8, "learning_rate": 1e-2})
    result = training.train(
        table, models.load("base", base),
        objective(name, reward={"judges": {"any": {}}}, max_new_tokens=4, beta=0.0, unended_penalty=0.0),
        settings, output=tmp_path / "model", checkpoints=tmp_path / "kept",
        judges=Panel(score, "letters"), prompts=known,
    )  # fmt: skip
    assert seen == {(f"p{i}", f"p{i}!") for i in range(4)}
    rewards = result.curve.filter(pl.col("metric") == "reward").sort("step")["value"]
    assert rewards[-1] > rewards[0] + 0.1
    assert not any(metric.startswith("reward_model/") for metric in result.metrics)


def test_named_judges_must_be_handed_in(base, tmp_path):
    with pytest.raises(ParamsError, match="names judges, and none was handed in"):
        run(base, tmp_path, "rloo", reward={"judges": {"reference": {}}})


def test_a_reward_model_has_steps_of_its_own(base, tmp_path, capsys, monkeypatch):
    """They are counted beside the policy's, which never shows more steps than it takes."""
    monkeypatch.setattr("karma_plugins.runtime.progress.LINE_EVERY", 0.0)
    run(base, tmp_path, "rloo", n=16, reward={"epochs": 8})
    lines = [line.split()[:-3] for line in capsys.readouterr().err.splitlines() if "/" in line]
    shown = {tuple(line[:-1]): line[-1] for line in lines}
    assert shown == {("reward", "model:"): "32/32", ("train:",): "4/4"}


def test_clear_stops(base, tmp_path):
    with pytest.raises(ParamsError, match=r"rloo\.generations: 3 must divide the 8 answers"):
        run(base, tmp_path, "rloo", generations=3)
    pytest.importorskip("torchrl")
    job = a_job(base, tmp_path, start=models.Weights(folder=str(base), quantisation="4bit"))
    ppo = objective("ppo")
    with pytest.raises(ModelError, match="quantised weights can't be trained whole"):
        ppo.plugin.train(job, ppo.options)
