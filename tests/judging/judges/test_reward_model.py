"""Judge `reward-model`: a model trained by TRL's RewardTrainer scores better answers higher."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from karma_plugins.contracts import Answer, Verdict
from karma_plugins.errors import ModelError
from karma_plugins.judging.judges.reward_model import RewardModelOptions, karma_register_judges, score
from karma_plugins.testing import JudgeContract
from tests import tiny

QUESTIONS = [f"What is {i} plus {i}?" for i in range(24)]


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny reward model that TRL taught to like digits and to dislike excuses."""
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    folder = tmp_path_factory.mktemp("reward")
    base = tiny.write_model(folder / "base")
    pairs = [
        {
            "prompt": [{"role": "user", "content": question}],
            "chosen": [{"role": "assistant", "content": f"It is {2 * i}."}],
            "rejected": [{"role": "assistant", "content": "Sorry, who knows?"}],
        }
        for i, question in enumerate(QUESTIONS)
    ]
    trainer = RewardTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(base, num_labels=1),
        processing_class=AutoTokenizer.from_pretrained(base),
        train_dataset=Dataset.from_list(pairs),
        args=RewardConfig(
            output_dir=str(folder / "work"), max_steps=30, per_device_train_batch_size=8, learning_rate=2e-3,
            report_to=[], save_strategy="no", disable_tqdm=True, seed=0, use_cpu=True, bf16=False,
            max_length=128, logging_strategy="no",
        ),
    )  # fmt: skip
    trainer.train()
    trainer.model.save_pretrained(folder / "model")
    trainer.processing_class.save_pretrained(folder / "model")
    return folder / "model"


def said(model: Path, *texts: str, question: str = "What is 30 plus 30?", **options: Any) -> list[Verdict]:
    answers = [
        Answer(f"r{i}", "p", "m", [{"role": "user", "content": question}], text)
        for i, text in enumerate(texts)
    ]
    return score(answers, RewardModelOptions(model=str(model), **options))


class TestContract(JudgeContract):
    plugin = karma_register_judges()[0]

    @pytest.fixture(autouse=True)
    def _model(self, reward_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "options", {"model": str(reward_model)})


def test_what_was_preferred_in_training_scores_higher(reward_model: Path) -> None:
    good, bad = (verdict.value for verdict in said(reward_model, "It is 60.", "Sorry, who knows?"))
    assert 0.0 <= bad < 0.2 < 0.8 < good <= 1.0


def test_the_score_is_the_sigmoid_of_the_models_reward(reward_model: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(reward_model, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(reward_model)
    conversation = [
        {"role": "user", "content": "What is 30 plus 30?"},
        {"role": "assistant", "content": "60"},
    ]
    tokens = tokenizer(tokenizer.apply_chat_template(conversation, tokenize=False), return_tensors="pt")
    with torch.inference_mode():
        reward = float(model(input_ids=tokens["input_ids"]).logits[0, 0])
    assert said(reward_model, "60")[0].value == pytest.approx(1 / (1 + math.exp(-reward)), abs=1e-5)
    assert said(reward_model, "60", scale=2.0)[0].value == pytest.approx(
        1 / (1 + math.exp(-reward / 2)), abs=1e-5
    )


def test_batches_change_no_more_than_the_last_digits(reward_model: Path) -> None:
    texts = [f"It is {'6' * i}." for i in range(9)]
    together, alone = said(reward_model, *texts, batch_size=4), said(reward_model, *texts, batch_size=1)
    assert [v.value for v in together] == pytest.approx([v.value for v in alone], abs=1e-5)
    assert said(reward_model, *texts, batch_size=4) == together


def test_a_conversation_that_is_too_long_is_a_failure_and_not_cut(reward_model: Path) -> None:
    long, short = said(reward_model, "6" * 300, "60")
    assert (long.value, long.status) == (None, "failed")
    assert long.reason == "longer than the 256 tokens that the model takes"
    assert short.status == "ok"


def test_a_language_model_is_no_reward_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no reward model"):
        said(tiny.write_model(tmp_path / "language"), "60")


def test_a_classifier_of_two_labels_is_no_reward_model(reward_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    two = AutoModelForSequenceClassification.from_pretrained(
        tiny.write_model(tmp_path / "base"), num_labels=2
    )
    two.save_pretrained(tmp_path / "two")
    AutoTokenizer.from_pretrained(reward_model).save_pretrained(tmp_path / "two")
    with pytest.raises(ModelError, match="is no reward model"):
        said(tmp_path / "two", "60")


def test_pickled_weights_are_refused(reward_model: Path, tmp_path: Path) -> None:
    for file in reward_model.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(ModelError, match="pickled"):
        said(tmp_path, "60")


def test_its_bytes_are_part_of_what_decides(reward_model: Path, tmp_path: Path) -> None:
    descriptor = tmp_path / "reward.yaml"
    descriptor.write_text(json.dumps({"folder": str(reward_model)}))
    judge = karma_register_judges()[0]
    assert judge.reads is not None
    assert judge.reads(RewardModelOptions(model=str(descriptor))) == [descriptor, reward_model]
