"""Every family's answers and scores beside other rows are those of plain transformers on the row alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from karma_plugins.contracts import Answer, Model, Request, Weights
from karma_plugins.errors import ModelError
from karma_plugins.judging.judges import likelihood, reward_model
from karma_plugins.models import loading, padding
from karma_plugins.models.sampling import TransformersOptions, generate
from tests.models.families import (
    CLASSIFIERS,
    HEEDFUL_CLASSIFIERS,
    HEEDFUL_LANGUAGE,
    LANGUAGE,
    write_family,
)

PROMPTS = ["hi", "what is two and two, and why is it so?", "é☂", "tell me a story of a fox"]
ANSWERS = ["4", "a rather long answer, longer than the others", "é", "no"]
#: The bound on what batch, padding and dtype may change.
CLOSE = 1e-4
#: Pooling at the last token that is no padding: the families of classifiers that need to know their padding.
CAUSAL = [family for family in CLASSIFIERS if family in LANGUAGE]


def plain(folder: Path, head: str = "language") -> tuple[Any, Any]:
    """The model and tokenizer as anyone would load them, in single precision."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    auto = AutoModelForCausalLM if head == "language" else AutoModelForSequenceClassification
    return auto.from_pretrained(folder, dtype="float32").eval(), AutoTokenizer.from_pretrained(folder)


def asked(tokenizer: Any, prompt: str, answer: str | None = None) -> list[int]:
    messages = [{"role": "user", "content": prompt}]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer is None)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def answers() -> list[Answer]:
    return [
        Answer(f"r{i}", f"p{i}", "m", [{"role": "user", "content": prompt}], answer)
        for i, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True))
    ]


@pytest.fixture(scope="module", params=[*LANGUAGE, *HEEDFUL_LANGUAGE])
def language(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_family(tmp_path_factory.mktemp("families") / request.param, request.param)


def test_greedy_answers_are_those_of_the_row_alone(language: Path) -> None:
    import torch

    model, tokenizer = plain(language)
    options = TransformersOptions(temperature=0, max_new_tokens=16)
    requests = [Request(f"{i}", [{"role": "user", "content": p}], 0, i) for i, p in enumerate(PROMPTS)]
    completions = generate(Model("m", language, Weights(folder=str(language))), requests, options)
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        ids = torch.tensor([asked(tokenizer, prompt)])
        output = model.generate(ids, do_sample=False, max_new_tokens=16, pad_token_id=0)[0, ids.shape[1] :]
        assert completion.text == tokenizer.decode(output, skip_special_tokens=True)


def test_likelihoods_are_those_of_the_row_alone(language: Path) -> None:
    import torch

    if language.name == "xlnet":
        with pytest.raises(ModelError, match="no causal language model"):
            likelihood.score(answers(), likelihood.LikelihoodOptions(model=str(language)))
        return

    model, tokenizer = plain(language)
    verdicts = likelihood.score(answers(), likelihood.LikelihoodOptions(model=str(language)))
    for answer, verdict in zip(answers(), verdicts, strict=True):
        prompt = answer.messages[0]["content"]
        start, whole = len(asked(tokenizer, prompt)), asked(tokenizer, prompt, answer.text)
        with torch.no_grad():
            logits = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
        each = [float(logits[i - 1, whole[i]]) for i in range(start, len(whole))]
        assert verdict.value == pytest.approx(math.exp(sum(each) / len(each)), abs=CLOSE, rel=CLOSE)


def rewards_alone(folder: Path) -> list[float]:
    """The sigmoid of what plain transformers makes of each row by itself."""
    import torch

    model, tokenizer = plain(folder, "reward")
    rows = [asked(tokenizer, answer.messages[0]["content"], answer.text) for answer in answers()]
    with torch.no_grad():
        return [float(torch.sigmoid(model(torch.tensor([row])).logits[0, 0])) for row in rows]


def rewards(model: Path, **options: Any) -> list[float | None]:
    settings = reward_model.RewardModelOptions(model=str(model), **options)
    return [verdict.value for verdict in reward_model.score(answers(), settings)]


@pytest.mark.parametrize("family", [*CLASSIFIERS, *HEEDFUL_CLASSIFIERS])
def test_rewards_are_those_of_the_row_alone(family: str, tmp_path: Path) -> None:
    folder = write_family(tmp_path / family, family, head="reward")
    assert rewards(folder) == pytest.approx(rewards_alone(folder), abs=CLOSE)


@pytest.mark.parametrize("pad", ["eos", None])
@pytest.mark.parametrize("family", CAUSAL)
def test_rewards_where_the_end_token_pads_or_nothing_does(
    family: str, pad: str | None, tmp_path: Path
) -> None:
    """Where it pools is where it pools alone: before the end that also pads, else at the very end."""
    folder = write_family(tmp_path / family, family, head="reward", pad=pad)
    assert rewards(folder, batch_size=2) == pytest.approx(rewards_alone(folder), abs=CLOSE)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "bert"])
def test_weights_saved_in_16_bits_score_as_in_32(family: str, dtype: str, tmp_path: Path) -> None:
    folder = write_family(tmp_path / family, family, head="reward", dtype=dtype)
    assert rewards(folder) == pytest.approx(rewards_alone(folder), abs=CLOSE)


def test_a_dtype_of_16_bits_that_is_asked_for_scores_alike_in_every_batch(tmp_path: Path) -> None:
    folder = write_family(tmp_path / "gpt2", "gpt2", head="reward")
    (tmp_path / "half.yaml").write_text(f"folder: {folder}\ndtype: bfloat16\n")
    assert rewards(tmp_path / "half.yaml", batch_size=4) == rewards(tmp_path / "half.yaml", batch_size=1)


@pytest.mark.parametrize(
    ("family", "side", "heeds"),
    [("llama", "left", False), ("gpt2", "left", False), *((f, "left", True) for f in HEEDFUL_LANGUAGE)],
)
def test_which_families_heed_padding_is_found_by_trying(
    family: str, side: padding.Side, heeds: bool, tmp_path: Path
) -> None:
    weights = Weights(folder=str(write_family(tmp_path / family, family)))
    assert padding.bears_padding(*loading.loaded(weights), side=side) is not heeds


def test_an_encoder_is_no_language_model(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    from tests.tiny import build_tokenizer

    tokenizer = build_tokenizer()
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    request = Request("p", [{"role": "user", "content": "hi"}], 0, 0)
    with pytest.raises(ModelError, match="is an encoder"):
        generate(Model("m", tmp_path, Weights(folder=str(tmp_path))), [request], TransformersOptions())
    with pytest.raises(ModelError, match="no causal language model"):
        likelihood.score(answers(), likelihood.LikelihoodOptions(model=str(tmp_path)))


@pytest.mark.parametrize("family", ["gpt2", "llama", "mamba"])
def test_a_model_that_forgets_the_mask_is_never_padded(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = Weights(folder=str(write_family(tmp_path / family, family)))
    tokenizer = loading.load_tokenizer(weights)
    assert padding.bears_padding(loading.load_model(weights), tokenizer, "left")
    model, _ = loading.loaded(weights)
    forward = model.forward
    forgotten = {"attention_mask": None, "position_ids": None}
    monkeypatch.setattr(model, "forward", lambda *args, **named: forward(*args, **(named | forgotten)))
    assert not padding.bears_padding(model, tokenizer, "left")
    requests = [Request(f"{i}", [{"role": "user", "content": p}], 0, i) for i, p in enumerate(PROMPTS)]
    options = TransformersOptions(temperature=0, max_new_tokens=8)
    together = generate(Model("m", tmp_path, weights), requests, options)
    alone = [generate(Model("m", tmp_path, weights), [request], options)[0] for request in requests]
    assert together == alone
