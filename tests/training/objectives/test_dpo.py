"""DPO: its loss and gradients are those of TRL's trainer run by hand, and of the formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from karma_plugins import models
from karma_plugins.contracts import LoraSettings, TrainingJob
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
    """With several epochs of whole batches they are computed once; without, in every step."""
    import trl

    dpo = objective("dpo")
    dpo.plugin.train(job(base, tmp_path / "kept", n=12, max_steps=6), dpo.options)
    original = trl.DPOConfig.__init__
    kept = []

    def without(self, *args, **kwargs):
        kept.append(kwargs["precompute_ref_log_probs"])
        original(self, *args, **kwargs | {"precompute_ref_log_probs": False})

    monkeypatch.setattr(trl.DPOConfig, "__init__", without)
    dpo.plugin.train(job(base, tmp_path / "live", n=12, max_steps=6), dpo.options)
    once, live = (tmp_path / name / "model" / "model.safetensors" for name in ("kept", "live"))
    assert kept == [True]
    assert once.read_bytes() == live.read_bytes()


@pytest.mark.parametrize(
    ("options", "config"),
    [
        ({"f_divergence_type": "js_divergence"}, {"f_divergence_type": "js_divergence"}),
        ({"ld_alpha": 0.5}, {"ld_alpha": 0.5}),
        ({"use_weighting": True}, {"use_weighting": True}),
    ],
)
def test_options_do_what_they_do_in_trl(base, other, tmp_path, steps, options, config):
    dpo = objective("dpo", sft_weight=0.0, **options)
    dpo.plugin.train(job(base, tmp_path / "ours", reference=other), dpo.options)
    plain = {"loss_type": ["sigmoid"], "loss_weights": [1.0]}
    trl_by_hand(base, tmp_path / "trl", reference=other, **plain | config)
    trl_by_hand(base, tmp_path / "plain", reference=other, **plain)
    assert steps[0][0] == steps[1][0] != steps[2][0]


def test_weighting_leaves_the_sft_term_alone(base, other, tmp_path, steps):
    """Which TRL by itself can't add to weighted losses at all."""
    for number, options in enumerate(({}, {"sft_weight": 0.0}, {"use_weighting": False})):
        dpo = objective("dpo", **{"sft_weight": 2.0, "use_weighting": True, **options})
        dpo.plugin.train(job(base, tmp_path / str(number), reference=other), dpo.options)
    weighted, without, unweighted = (loss for loss, _ in steps)
    sft = -np.concatenate([chosen for chosen, _ in log_probabilities(base)]).mean()
    assert weighted - without == pytest.approx(2 * sft, rel=1e-4)
    assert weighted != pytest.approx(unweighted, rel=1e-3)


def test_a_reference_that_follows_the_policy_survives_a_kill(base, tmp_path, monkeypatch):
    """It is a part of the checkpoint: resumed in the middle, training ends with the same bytes."""
    from karma_plugins.training import checkpoints

    dpo = objective("dpo", sync_ref_model=True, ref_model_sync_steps=2, ref_model_mixup_alpha=0.5)
    fixed = objective("dpo")
    settings = {"n": 12, "max_steps": 8, "checkpoint_steps": 3}
    for name, bound in (("calm", dpo), ("fixed", fixed)):
        bound.plugin.train(job(base, tmp_path / name, **settings), bound.options)
    complete = checkpoints.complete

    def dying(checkpoint: Path) -> None:
        complete(checkpoint)
        if checkpoints.step(checkpoint) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "complete", dying)
    killed = job(base, tmp_path / "killed", **settings)
    with pytest.raises(KeyboardInterrupt):
        dpo.plugin.train(killed, dpo.options)
    monkeypatch.setattr(checkpoints, "complete", complete)
    dpo.plugin.train(killed, dpo.options)
    calm, again, other = (
        (tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("calm", "killed", "fixed")
    )
    assert calm == again != other


def test_clear_stops(base, tmp_path, monkeypatch):
    dpo = objective("dpo")
    with pytest.raises(EmptyResultError, match=r"raise train\.max_length"):
        dpo.plugin.train(job(base, tmp_path / "short", max_length=8), dpo.options)
    with pytest.raises(ParamsError, match="exo_pair needs label_smoothing"):
        objective("dpo", loss_type="exo_pair")
    with pytest.raises(ParamsError, match=r"unknown key 'betta'\. Did you mean 'beta'"):
        objective("dpo", betta=0.1)
    with pytest.raises(ParamsError, match="padding_free has no effect in TRL"):
        objective("dpo", padding_free=True)
    with pytest.raises(ParamsError, match="use_weighting is not defined for loss_type aot"):
        objective("dpo", loss_type="aot", use_weighting=True)
    with pytest.raises(ParamsError, match="f_divergence_type forward_kl is defined for"):
        objective("dpo", loss_type="nca_pair", f_divergence_type="forward_kl")
    syncing = objective("dpo", sync_ref_model=True)
    with pytest.raises(ParamsError, match="sync_ref_model: an adapter has no reference"):
        syncing.plugin.train(job(base, tmp_path / "lora", lora=LoraSettings()), syncing.options)
    monkeypatch.setenv("WORLD_SIZE", "2")
    sorting = objective("dpo", loss_type="aot")
    with pytest.raises(ParamsError, match="loss_type: aot sorts the pairs of a batch"):
        sorting.plugin.train(job(base, tmp_path / "many"), sorting.options)
