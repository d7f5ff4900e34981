"""Judge `likelihood`: 1 / perplexity of an answer under a fixed model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from karma_plugins.contracts import Answer
from karma_plugins.errors import ModelError
from karma_plugins.judging.judges.likelihood import LikelihoodOptions, karma_register_judges, score
from karma_plugins.testing import JudgeContract
from tests import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("likelihood") / "model")


def answers(*texts: str) -> list[Answer]:
    asked = [{"role": "user", "content": "Name a colour."}]
    return [Answer(f"r{i}", "p", "m", asked, text) for i, text in enumerate(texts)]


class TestLikelihood(JudgeContract):
    plugin = karma_register_judges()[0]

    @pytest.fixture(autouse=True)
    def options_of_a_model(self, model: Path) -> None:
        self.options = {"model": str(model), "batch_size": 2}


def test_score_is_the_geometric_mean_of_the_answers_token_probabilities(model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    texts = ["blue", "a rather long answer: crimson", "é"]
    weights, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    verdicts = score(answers(*texts), LikelihoodOptions(model=str(model), batch_size=3))
    for text, verdict in zip(texts, verdicts, strict=True):
        prompt = tokenizer("<|user|>Name a colour.<|end|><|assistant|>")["input_ids"]
        whole = [*prompt, *tokenizer(f"{text}<|end|>")["input_ids"]]
        with torch.no_grad():
            logits = weights(torch.tensor([whole])).logits[0].log_softmax(-1)
        each = [float(logits[i - 1, whole[i]]) for i in range(len(prompt), len(whole))]
        assert verdict.value == pytest.approx(math.exp(sum(each) / len(each)), rel=1e-4)


def test_an_answer_that_is_too_long_is_a_failure_and_changes_no_other(model: Path) -> None:
    options = LikelihoodOptions(model=str(model))
    long, short = score(answers("x" * 300, "red"), options)
    assert (long.value, long.status) == (None, "failed")
    assert long.reason == "longer than the 256 tokens that the model takes"
    assert short == score(answers("red"), options)[0]


def test_a_model_without_weights_is_refused(tmp_path: Path) -> None:
    descriptor = tmp_path / "served.yaml"
    descriptor.write_text("endpoint: http://127.0.0.1:9/v1\nmodel: m\n")
    with pytest.raises(ModelError, match="holds no weights"):
        score(answers("red"), LikelihoodOptions(model=str(descriptor)))
