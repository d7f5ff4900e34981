from __future__ import annotations

from collections import Counter

import pytest

from karma_plugins import models
from karma_plugins.contracts import Model, Request
from karma_plugins.errors import ModelError
from karma_plugins.generation.generators.transformers import TransformersOptions, generate
from tests.tiny import write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    return models.load("tiny", write_model(tmp_path_factory.mktemp("models") / "tiny"))


def requests_of(texts, samples=1, seed=0) -> list[Request]:
    return [
        Request(f"{i:016x}", [{"role": "user", "content": text}], s, 7919 * i + s + seed)
        for i, text in enumerate(texts)
        for s in range(samples)
    ]


TEXTS = ["hi", "what is 2+2?", "tell me a story about a fox", "no", "é☂"]
OPTIONS = TransformersOptions(max_new_tokens=12)


def test_neither_batch_nor_order_nor_neighbours_change_an_answer(model):
    requests = requests_of(TEXTS, samples=3)
    whole = generate(model, requests, OPTIONS)
    assert generate(model, requests, OPTIONS.model_copy(update={"batch_size": 2})) == whole
    assert generate(model, requests[::-1], OPTIONS) == whole[::-1]
    assert generate(model, requests[4:5], OPTIONS) == whole[4:5]


def test_samples_of_a_prompt_differ_and_seeds_decide(model):
    first = generate(model, requests_of(["hi"], samples=4), OPTIONS)
    assert len({c.text for c in first}) == 4
    assert generate(model, requests_of(["hi"], samples=4, seed=1), OPTIONS) != first


def test_temperature_zero_is_transformers_own_greedy_choice(model):
    from karma_plugins.models import loading

    tokenizer, weights = loading.load_tokenizer(model.source), loading.load_model(model.source)
    greedy = TransformersOptions(temperature=0, max_new_tokens=10)
    for text, completion in zip(TEXTS, generate(model, requests_of(TEXTS), greedy), strict=True):
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt"
        )["input_ids"]
        output = weights.generate(ids, do_sample=False, max_new_tokens=10)[0, ids.shape[1] :]
        assert completion.text == tokenizer.decode(output, skip_special_tokens=True)


@pytest.mark.parametrize(
    "narrowing", [{}, {"top_k": 3}, {"top_p": 0.5}, {"temperature": 0.5}, {"top_k": 8, "top_p": 0.7}]
)
def test_tokens_come_with_the_probabilities_of_transformers_own_sampling(model, narrowing):
    """The first token over 3,000 seeds against the distribution that transformers' own processors give."""
    import torch
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    from karma_plugins.models import loading

    tokenizer, weights = loading.load_tokenizer(model.source), loading.load_model(model.source)
    options = TransformersOptions(max_new_tokens=1, batch_size=500, **narrowing)
    rows = [Request("a", [{"role": "user", "content": "hi"}], s, s) for s in range(3000)]
    drawn = Counter(c.text if c.finish_reason == "length" else "END" for c in generate(model, rows, options))
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], add_generation_prompt=True, return_tensors="pt"
    )["input_ids"]
    with torch.no_grad():
        scores = weights(ids).logits[:, -1]
    scores = TemperatureLogitsWarper(options.temperature)(ids, scores)
    if options.top_k:
        scores = TopKLogitsWarper(options.top_k)(ids, scores)
    if options.top_p < 1:
        scores = TopPLogitsWarper(options.top_p)(ids, scores)
    expected: Counter[str] = Counter()
    for token, share in enumerate(scores.softmax(-1)[0].tolist()):
        ended = token == tokenizer.eos_token_id
        expected["END" if ended else tokenizer.decode([token], skip_special_tokens=True)] += share
    assert all(expected[text] > 0 for text in drawn)
    distance = sum(abs(drawn[text] / 3000 - share) for text, share in expected.items()) / 2
    assert distance < 0.09


def test_why_an_answer_ended_and_how_long_it_is(model):
    completions = generate(model, requests_of(["hi"], samples=40), TransformersOptions(max_new_tokens=40))
    assert {c.finish_reason for c in completions} == {"stop", "length"}
    for completion in completions:
        assert completion.prompt_tokens == len("hi") + 3
        if completion.finish_reason == "length":
            assert completion.completion_tokens == 40
        else:
            assert completion.completion_tokens < 40


def test_an_answer_ends_before_a_stop_string(model):
    free = TransformersOptions(max_new_tokens=30)
    requests = requests_of(TEXTS, samples=4)
    before = generate(model, requests, free)
    stop = next(c.text for c in before if c.finish_reason == "length")[5]
    after = generate(model, requests, free.model_copy(update={"stop": (stop,)}))
    assert any(c != d for c, d in zip(before, after, strict=True))
    for c, d in zip(before, after, strict=True):
        assert d.text == c.text.split(stop)[0]
        assert d.finish_reason == ("stop" if stop in c.text else c.finish_reason)


def test_a_repetition_penalty_spreads_the_choice_and_knows_no_padding(model):
    greedy = TransformersOptions(temperature=0, max_new_tokens=20)
    strict = greedy.model_copy(update={"repetition_penalty": 5.0})
    requests = requests_of(TEXTS)
    plain, spread = generate(model, requests, greedy), generate(model, requests, strict)
    assert sum(len(set(c.text)) for c in spread) > sum(len(set(c.text)) for c in plain)
    alone = [generate(model, [r], strict)[0] for r in requests]
    assert alone == spread


def test_a_prompt_that_is_too_long_is_a_failure_row(model):
    first, second, third = generate(model, requests_of(["hi", "x" * 400, "x" * 240]), OPTIONS)
    assert first.text is not None
    assert second.text is None
    assert second.error == "the prompt has 403 tokens, the model takes 256"
    assert third.text is not None
    assert third.completion_tokens <= 12


def test_a_long_prompt_leaves_room_for_fewer_tokens(model):
    long, short = generate(model, requests_of(["x" * 245, "hi"]), TransformersOptions(max_new_tokens=100))
    assert long.completion_tokens <= 256 - 248
    assert short.completion_tokens <= 100


def test_a_system_prompt_is_sent_unless_the_conversation_has_one(model):
    told = Model("tiny", model.path, model.source.model_copy(update={"system_prompt": "Be brief."}))
    asked = [{"role": "user", "content": "hi"}]
    own = [{"role": "system", "content": "Be brief."}, *asked]
    (by_model,) = generate(told, [Request("a", asked, 0, 3)], OPTIONS)
    (by_prompt,) = generate(model, [Request("a", own, 0, 3)], OPTIONS)
    assert by_model == by_prompt


def test_a_broken_chat_template_stops(tmp_path):
    broken = models.load("broken", write_model(tmp_path / "broken", chat_template="{% for x %}"))
    with pytest.raises(ModelError, match="chat template is broken, line 1"):
        generate(broken, requests_of(["hi"]), OPTIONS)


def test_what_a_chat_template_refuses_is_a_failure_row(tmp_path):
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    refusing += "{{ messages[-1]['content'] }}"
    model = models.load("strict", write_model(tmp_path / "strict", chat_template=refusing))
    asked = [{"role": "system", "content": "x"}, {"role": "user", "content": "hi"}]
    refused, answered = generate(model, [Request("a", asked, 0, 1), Request("b", asked[1:], 0, 1)], OPTIONS)
    assert "no system role" in str(refused.error)
    assert answered.text is not None


def test_scores_that_are_no_numbers_are_failures(tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    folder = write_model(tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    weights = {k: torch.full_like(v, 3e38) if "norm" in k else v for k, v in weights.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model = models.load("broken", folder)
    for temperature in (0.0, 1.0):
        options = TransformersOptions(temperature=temperature, max_new_tokens=3)
        (completion,) = generate(model, requests_of(["hi"]), options)
        assert completion.text is None
        assert "not numbers" in str(completion.error)


def test_a_model_without_weights_names_the_other_generators(tmp_path):
    path = tmp_path / "there.yaml"
    path.write_text("endpoint: http://127.0.0.1:1/v1\nmodel: x\n")
    with pytest.raises(ModelError, match="needs weights"):
        generate(models.load("far", path), requests_of(["hi"]), OPTIONS)
