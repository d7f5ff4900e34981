from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from karma_plugins import models
from karma_plugins.contracts import Model
from karma_plugins.errors import ModelError, ParamsError, RequestError
from karma_plugins.models import loading
from karma_plugins.profiling.profilers.lm_eval import LmEvalOptions, profile
from karma_plugins.schemas import ITEMS, SCORES
from karma_plugins.tables import check
from tests.tiny import write_model

CHOICE = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_choice: options
doc_to_target: answer
metric_list:
{metrics}
"""
TEXT = """\
task: words
dataset_path: json
dataset_kwargs: {data_files: {test: data/words.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: question
doc_to_target: answer
generation_kwargs: {until: ["q"], max_gen_toks: 5, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
ACC, ACC_NORM = (
    f"  - {{metric: {metric}, aggregation: mean, higher_is_better: true}}" for metric in ("acc", "acc_norm")
)
ITEMS_OF = [
    {"question": f"pick {i}", "options": ["a", "bbbb bb", "cc"][: 2 + i % 2], "answer": "a"} for i in range(6)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    return models.load("tiny", write_model(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "data").mkdir()
    for name, metrics, records in (
        ("picks", ACC, [*ITEMS_OF, ITEMS_OF[0]]),
        ("lengths", f"{ACC}\n{ACC_NORM}", ITEMS_OF),
    ):
        (folder / f"{name}.yaml").write_text(
            CHOICE.format(name=name, file=f"data/{name}.jsonl", metrics=metrics)
        )
        (folder / "data" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)))
    (folder / "words.yaml").write_text(TEXT)
    (folder / "data" / "words.jsonl").write_text('{"question": "say x", "answer": "x"}\n' * 2)
    (folder / "all.yaml").write_text("group: everything\ntask: [picks, words]\n")
    return folder


def options(tasks: Path, **others) -> LmEvalOptions:
    return LmEvalOptions(include_path=str(tasks), own_tasks=False, **others)


def log_likelihoods(model: Model, question: str, answers: list[str]) -> list[float]:
    import torch

    tokenizer, weights = loading.load_tokenizer(model.source), loading.load_model(model.source)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    found = []
    for answer in answers:
        start = len(tokenizer(asked)["input_ids"])
        ids = torch.tensor([tokenizer(f"{asked}{answer}")["input_ids"]])
        with torch.no_grad():
            scores = weights(ids).logits[0].log_softmax(-1)
        found.append(sum(scores[i - 1, ids[0, i]].item() for i in range(start, ids.shape[1])))
    return found


def rounded(likelihoods) -> tuple[float, ...]:
    shares = np.exp(np.array(likelihoods)) / np.exp(np.array(likelihoods)).sum()
    return tuple(round(float(share), 3) for share in shares)


def test_multiple_choice_against_log_likelihoods_computed_here(model, tasks):
    found = profile(model, {"knowledge": ["picks"]}, options(tasks))
    check(found.scores, SCORES, where="scores")
    check(found.items, ITEMS, where="items")
    by_probs = {tuple(round(p, 3) for p in row) for row in found.items["choice_probs"].to_list()}
    for record in ITEMS_OF:
        assert rounded(log_likelihoods(model, record["question"], record["options"])) in by_probs
    items = found.items
    assert items["item_id"].n_unique() == 7
    assert items["item_id"].str.contains("-2").sum() == 1
    assert set(items["answer"]) == {0}
    assert set(items["n_choices"]) == {2, 3}
    assert items["choice"].to_list() == [int(np.argmax(p)) for p in items["choice_probs"].to_list()]
    assert items["correct"].to_list() == (items["choice"] == items["answer"]).cast(pl.Float64).to_list()
    score = found.scores.row(0, named=True)
    assert (score["metric"], score["n"]) == ("acc", 7)
    assert math.isclose(score["score"], items["correct"].mean())
    assert math.isclose(score["stderr"], items["correct"].std() / math.sqrt(7))


def test_by_acc_norm_the_choice_is_the_likeliest_for_its_length(model, tasks):
    expected = {}
    for record in ITEMS_OF:
        likelihoods = np.array(log_likelihoods(model, record["question"], record["options"]))
        lengths = np.array([len(text) for text in record["options"]])
        expected[rounded(likelihoods)] = int((likelihoods / lengths).argmax())
    items = profile(model, {"knowledge": ["lengths"]}, options(tasks)).items
    for row in items.iter_rows(named=True):
        assert row["choice"] == expected[rounded(np.log(np.maximum(row["choice_probs"], 1e-30)))]
        assert row["correct"] == float(row["choice"] == row["answer"])
    assert items["choice"].to_list() != [int(np.argmax(p)) for p in items["choice_probs"].to_list()]
    named = options(tasks, metrics={"lengths": "acc"})
    assert profile(model, {"knowledge": ["lengths"]}, named).scores["metric"].to_list() == ["acc"]


def test_generated_text_groups_and_limit(model, tasks):
    found = profile(model, {"b": ["everything"], "a": ["lengths"]}, options(tasks, limit=2))
    rows = found.scores.select("competency", "task", "n").rows()
    assert sorted(rows) == [("a", "lengths", 2), ("b", "picks", 2), ("b", "words", 2)]
    words = found.items.filter(pl.col("task") == "words")
    assert words["choice_probs"].null_count() == 2
    assert words["correct"].null_count() == 0


def test_the_task_says_how_long_an_answer_may_be_not_the_models_own_config(tasks, tmp_path, monkeypatch):
    folder = write_model(tmp_path / "talkative")
    (folder / "generation_config.json").write_text('{"max_new_tokens": 50, "min_new_tokens": 20}')
    talkative = models.load("talkative", folder)
    weights, _ = loading.loaded(talkative.source)
    generate, lengths = weights.generate, []

    def measured(input_ids, **asked):
        answer = generate(input_ids=input_ids, **asked)
        lengths.append(answer.shape[1] - input_ids.shape[1])
        return answer

    monkeypatch.setattr(weights, "generate", measured)
    profile(talkative, {"k": ["words"]}, options(tasks))
    assert 0 < max(lengths) <= 5


def test_a_model_s_own_sampling_changes_no_score(model, tasks, tmp_path):
    folder = write_model(tmp_path / "own")
    own = {"num_return_sequences": 2, "no_repeat_ngram_size": 1, "num_beams": 2, "suppress_tokens": [70]}
    (folder / "generation_config.json").write_text(json.dumps(own))
    named = Model("tiny", folder, models.load("own", folder).source)
    usual, other = (profile(m, {"k": ["words", "picks"]}, options(tasks)) for m in (model, named))
    assert usual.scores.equals(other.scores)
    assert usual.items.equals(other.items)


def test_no_task_at_all_is_said(model, tasks):
    with pytest.raises(ParamsError, match="names no competency"):
        profile(model, {}, options(tasks))


def test_the_same_from_anywhere_and_again(model, tasks, tmp_path, monkeypatch, capsys):
    first = profile(model, {"k": ["picks", "words"]}, options(tasks))
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tasks, elsewhere / "tasks")
    monkeypatch.chdir(elsewhere)
    second = profile(model, {"k": ["words", "picks"]}, options(Path("tasks"), batch_size=16))
    assert first.scores.equals(second.scores)
    assert first.items.equals(second.items)
    assert capsys.readouterr().out == ""


def test_what_can_be_mended_is_said_in_one_line(model, tasks, tmp_path):
    cases = [
        ({"k": ["pick"]}, options(tasks), ParamsError, "no task 'pick'. Did you mean 'picks'"),
        ({"k": ["picks"], "r": ["everything"]}, options(tasks), ParamsError, "is in 'k' and in 'r'"),
        ({"k": ["picks"]}, options(tasks / "none"), ParamsError, "no folder"),
        (
            {"k": ["picks"]}, options(tasks, metrics={"picks": "f2"}), ParamsError, "no metric 'f2'"
        ),
    ]  # fmt: skip
    for wanted, settings, kind, message in cases:
        with pytest.raises(kind, match=message):
            profile(model, wanted, settings)
    (tmp_path / "lost.yaml").write_text(CHOICE.format(name="lost", file="lost.jsonl", metrics=ACC))
    with pytest.raises(RequestError, match="task 'lost': its data can't be loaded"):
        profile(model, {"k": ["lost"]}, options(tmp_path))


def test_a_model_without_weights_names_the_other_profiler(tasks, tmp_path):
    path = tmp_path / "answers"
    path.mkdir()
    (path / "responses.jsonl").write_text("")
    with pytest.raises(ModelError, match="profiler 'recorded'"):
        profile(models.load("far", path), {"k": ["picks"]}, options(tasks))
