"""A model's own generation_config says where an answer ends, and nothing of how it is drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from karma_plugins.contracts import Model, Request, Weights
from karma_plugins.errors import ModelError
from karma_plugins.models import loading
from karma_plugins.models.sampling import TransformersOptions, generate
from tests.tiny import write_model

OWN: list[dict[str, Any]] = [
    {"min_new_tokens": 6},
    {"min_length": 40},
    {"max_length": 5},
    {"num_return_sequences": 2},
    {"no_repeat_ngram_size": 2},
    {"repetition_penalty": 1.8},
    {"encoder_repetition_penalty": 2.0},
    {"num_beams": 3},
    {"bad_words_ids": [[70], [80]]},
    {"suppress_tokens": [70, 71]},
    {"begin_suppress_tokens": [70]},
    {"sequence_bias": [[[70], 50.0]]},
    {"forced_bos_token_id": 9},
    {"forced_eos_token_id": 9},
    {"exponential_decay_length_penalty": [1, 1.5]},
    {"guidance_scale": 3.0},
    {"cache_implementation": "static"},
    {"do_sample": True, "temperature": 3.0, "top_k": 2, "min_p": 0.2},
    {"temperature": 0.1},
    {"penalty_alpha": 0.6, "top_k": 4},
    {"eta_cutoff": 0.3},
    {"stop_strings": ["a"]},
    {"max_time": 0.0},
    {"output_scores": True, "return_dict_in_generate": True},
    {"prompt_lookup_num_tokens": 3},
    {"renormalize_logits": True},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("own") / "model")


def said(folder: Path, **options: Any) -> list[str | None]:
    requests = [Request(f"{i}", [{"role": "user", "content": "x" * (i + 1)}], 0, i) for i in range(6)]
    settings = TransformersOptions(max_new_tokens=12, **options)
    return [c.text for c in generate(Model("m", folder, Weights(folder=str(folder))), requests, settings)]


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[float, list[str | None]]:
    (folder / "generation_config.json").unlink(missing_ok=True)
    return {temperature: said(folder, temperature=temperature) for temperature in (0.0, 1.0)}


@pytest.mark.parametrize("place", ["generation_config.json", "config.json"])
@pytest.mark.parametrize("own", OWN, ids=lambda own: next(iter(own)))
def test_how_a_model_samples_is_for_params_to_say(
    own: dict[str, Any], place: str, folder: Path, expected: dict[float, list[str | None]]
) -> None:
    before = (folder / "config.json").read_text()
    (folder / "generation_config.json").unlink(missing_ok=True)
    known = json.loads(before) if place == "config.json" else {}
    (folder / place).write_text(json.dumps(known | own))
    try:
        assert {t: said(folder, temperature=t) for t in expected} == expected
    finally:
        (folder / "config.json").write_text(before)


def test_its_end_tokens_end_answers(folder: Path, expected: dict[float, list[str | None]]) -> None:
    tokenizer = loading.load_tokenizer(Weights(folder=str(folder)))
    often = next(c for c in str(expected[0.0]) if c.isalpha() and c.isascii())
    (end,) = tokenizer(often)["input_ids"]
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [end, tokenizer.eos_token_id]})
    )
    assert said(folder, temperature=0.0) == [str(text).split(often)[0] for text in expected[0.0]]


def test_all_of_it_is_written_back_beside_trained_weights(folder: Path, tmp_path: Path) -> None:
    own = {"temperature": 0.6, "top_p": 0.9, "num_return_sequences": 2}
    (folder / "generation_config.json").write_text(json.dumps(own))
    model = loading.load_model(Weights(folder=str(folder)), for_training=True)
    model.save_pretrained(tmp_path)
    loading.write_generation_config(model, tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text()) == own


@pytest.mark.parametrize("text", ["{", "[]", "3", ""])
def test_a_broken_one_is_said_and_not_passed_over(text: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "generation_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"generation_config\.json: not .*JSON"):
        loading.load_model(Weights(folder=str(folder)))
