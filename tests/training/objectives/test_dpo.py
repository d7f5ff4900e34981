"""DPO: its loss and gradients are those of TRL's trainer run by hand, and of the formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from karma_plugins import models
from karma_plugins.contracts import TrainingJob
from karma_plugins.errors import EmptyResultError, ParamsError
from karma_plugins.params import TrainSection
from tests.tiny import write_model
from tests.training.preferences import objective, pairs


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("dpo") / "base")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("dpo") / "other", seed=1)


@pytest.fixture
def steps(monkeypatch):
    """What every training step of a TRL trainer ends with: loss and gradients."""
    import trl

    original, seen = trl.DPOTrainer.training_step, []

    def spy(self, model, *args, **kwargs):
        loss = original(self, model, *args, **kwargs)
        gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        seen.append((loss.item(), gradients))
        return loss

    monkeypatch.setattr(trl.DPOTrainer, "training_step", spy)
    return seen


def job(base: Path, folder: Path, n: int = 6, reference: Path | None = None, **settings) -> TrainingJob:
    section = TrainSection(**{"base": "base", "batch_size": 6, "learning_rate": 1e-3, **settings})
    (folder / "trainer").mkdir(parents=True)
    return TrainingJob(
        start=models.Weights(folder=str(base)),
        reference=models.Weights(folder=str(reference or base)),
        pairs=pairs(n),
        steps=section.max_steps or 1,
        output=folder / "model",
        checkpoints=folder / "trainer",
        settings=section,
        report=lambda metrics, step: None,
        base=models.Weights(folder=str(base)),
        all_pairs=pairs(4),
        shared=folder / "shared",
    )


def trl_by_hand(base: Path, folder: Path, n: int = 6, **config) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    arguments = {"beta": 0.1, "loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 1.0], "max_steps": 1}
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        ref_model=AutoModelForCausalLM.from_pretrained(config.pop("reference", base)),
        args=DPOConfig(
            output_dir=str(folder),
            per_device_train_batch_size=6,
            learning_rate=1e-3,
            train_sampling_strategy="sequential",
            bf16=False,
            seed=0,
            report_to="none",
            save_strategy="no",
            **arguments | config,
        ),
        train_dataset=Dataset.from_list(pairs(n).select("prompt", "chosen", "rejected").to_dicts()),
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    trainer.train()


@pytest.mark.parametrize(
    ("options", "config"),
    [
        ({}, {}),
        ({"sft_weight": 0.0, "beta": 0.3}, {"loss_type": ["sigmoid"], "loss_weights": [1.0], "beta": 0.3}),
        ({"loss_type": "ipo", "sft_weight": 0.5}, {"loss_type": ["ipo", "sft"], "loss_weights": [1.0, 0.5]}),
        (
            {"loss_type": "robust", "label_smoothing": 0.1},
            {"loss_type": ["robust", "sft"], "label_smoothing": 0.1},
        ),
    ],
)
def test_loss_and_gradients_equal_trl_by_hand(base, other, tmp_path, steps, options, config):
    dpo = objective("dpo", **options)
    dpo.plugin.train(job(base, tmp_path / "ours", reference=other), dpo.options)
    trl_by_hand(base, tmp_path / "trl", reference=other, **config)
    (loss, gradients), (trl_loss, trl_gradients) = steps
    assert loss == trl_loss
    assert gradients.keys() == trl_gradients.keys()
    assert all(gradients[name].equal(trl_gradients[name]) for name in gradients)
    assert any(gradient.abs().max() > 0 for gradient in gradients.values())


def test_loss_equals_the_formula(base, other, tmp_path, steps):
    dpo = objective("dpo", beta=0.2, sft_weight=0.7)
    dpo.plugin.train(job(base, tmp_path / "ours", reference=other), dpo.options)
    policy, reference = (log_probabilities(folder) for folder in (base, other))
    margin = [
        0.2 * ((p[0].sum() - r[0].sum()) - (p[1].sum() - r[1].sum()))
        for p, r in zip(policy, reference, strict=True)
    ]
    preference = np.mean(np.log1p(np.exp(-np.array(margin))))
    sft = -np.concatenate([chosen for chosen, _ in policy]).mean()
    assert steps[0][0] == pytest.approx(preference + 0.7 * sft, rel=1e-5)


def log_probabilities(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each pair: the log-probability of every token of chosen and of rejected, one sequence at a time."""
    from karma_plugins.models.loading import load_model, load_tokenizer

    weights = models.Weights(folder=str(folder))
    model, tokenizer = load_model(weights), load_tokenizer(weights)
    found = []
    for row in pairs(6).to_dicts():
        prompt = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
        n = len(tokenizer(prompt)["input_ids"])
        both = []
        for answer in ("chosen", "rejected"):
            text = tokenizer.apply_chat_template(row["prompt"] + row[answer], tokenize=False)
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            with torch.no_grad():
                logits = model(ids).logits[0].log_softmax(-1)
            both.append(logits[:-1].gather(1, ids[0, 1:, None])[n - 1 :, 0].double().numpy())
        found.append((both[0], both[1]))
    return found


def test_kept_reference_log_probabilities_change_no_byte(base, tmp_path, monkeypatch):
    """With several epochs they are computed once; without, in every step."""
    import trl

    dpo = objective("dpo")
    dpo.plugin.train(job(base, tmp_path / "kept", n=16, max_steps=6), dpo.options)
    made = trl.DPOConfig.__init__
    asked = []

    def without(self, *args, **kwargs):
        asked.append(kwargs["precompute_ref_log_probs"])
        made(self, *args, **kwargs | {"precompute_ref_log_probs": False})

    monkeypatch.setattr(trl.DPOConfig, "__init__", without)
    dpo.plugin.train(job(base, tmp_path / "live", n=16, max_steps=6), dpo.options)
    kept, live = (tmp_path / name / "model" / "model.safetensors" for name in ("kept", "live"))
    assert asked == [True]
    assert kept.read_bytes() == live.read_bytes()


def test_clear_stops(base, tmp_path):
    dpo = objective("dpo")
    with pytest.raises(EmptyResultError, match=r"train\.max_length: 8 tokens"):
        dpo.plugin.train(job(base, tmp_path / "short", max_length=8), dpo.options)
    with pytest.raises(ParamsError, match="exo_pair needs label_smoothing"):
        objective("dpo", loss_type="exo_pair")
    with pytest.raises(ParamsError, match=r"unknown key 'betta'\. Did you mean 'beta'"):
        objective("dpo", betta=0.1)
