"""The zoo as its users meet it: folders of models, prompts and tasks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from karma_plugins.errors import ParamsError
from karma_plugins.zoo import Member, ZooSettings, build
from karma_plugins.zoo.tasks import content_pattern

FAMILY = {
    "trunk": Member(steps=3, mixture={"knowledge": 1, "reasoning": 1, "instruction": 1}),
    "child": Member(parent="trunk", steps=2, mixture={"reasoning": 1}),
    "grandchild": Member(parent="child", steps=2, mixture={"instruction": 1}),
}


def tiny(family: Mapping[str, Member] = FAMILY) -> ZooSettings:
    return ZooSettings(
        people=6,
        towns=4,
        benchmark=8,
        train=12,
        heldout=12,
        lessons=60,
        hidden_size=16,
        layers=1,
        heads=2,
        batch_size=8,
        threads=1,
        family=family,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    build(folder, tiny())
    return folder


def test_two_builds_write_the_same_bytes_and_none_holds_a_path_or_a_pickle(zoo: Path, tmp_path: Path) -> None:
    build(tmp_path / "again", tiny())

    files = contents(zoo)
    assert contents(tmp_path / "again") == files
    assert not any(str(zoo).encode() in content for content in files.values())
    assert {Path(name).suffix for name in files} <= {
        ".safetensors", ".json", ".jsonl", ".jinja", ".yaml", ".csv",
    }  # fmt: skip


def test_a_member_is_the_same_whoever_else_is_in_the_family(zoo: Path, tmp_path: Path) -> None:
    build(tmp_path, tiny({"trunk": FAMILY["trunk"], "other": FAMILY["child"], "child": FAMILY["child"]}))

    weights = "models/child/model.safetensors"
    assert (tmp_path / weights).read_bytes() == (zoo / weights).read_bytes()
    assert (tmp_path / "models/other/model.safetensors").read_bytes() != (zoo / weights).read_bytes()


def test_family_csv_tells_the_descent(zoo: Path) -> None:
    assert (zoo / "family.csv").read_text().splitlines() == [
        "model,direct_parent",
        "trunk,",
        "child,trunk",
        "grandchild,child",
    ]


def test_prompts_have_messages_competency_reference_and_split(zoo: Path) -> None:
    rows = [json.loads(line) for line in (zoo / "prompts.jsonl").read_text().splitlines()]

    assert len(rows) == 3 * (12 + 12)
    assert {(row["competency"], row["split"]) for row in rows} == {
        (competency, split)
        for competency in ("knowledge", "reasoning", "instruction")
        for split in ("train", "heldout")
    }
    assert all(set(row) == {"messages", "competency", "reference", "split"} for row in rows)
    assert all(row["reference"] and row["messages"][0]["role"] == "user" for row in rows)
    assert len({row["messages"][0]["content"] for row in rows}) == len(rows)


def test_a_model_folder_loads_and_answers_a_chat(zoo: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(zoo / "models/grandchild")
    model = AutoModelForCausalLM.from_pretrained(zoo / "models/grandchild")
    chat = [{"role": "user", "content": "Write mira [twice], in CAPITALS: 12 + 7 = 19?"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    encoded = tokenizer(text, add_special_tokens=False, return_tensors="pt")

    assert tokenizer.decode(encoded["input_ids"][0]) == text
    assert tokenizer.unk_token_id not in encoded["input_ids"]
    assert model.generation_config.do_sample
    assert (
        model.generation_config.eos_token_id == tokenizer.eos_token_id == tokenizer("<|end|>")["input_ids"][0]
    )
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    reply = model.generate(encoded["input_ids"], max_new_tokens=3)
    assert encoded["input_ids"].shape[1] < reply.shape[1] <= encoded["input_ids"].shape[1] + 3


def test_building_leaves_the_random_state_and_the_threads_alone(tmp_path: Path) -> None:
    import torch

    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    build(tmp_path, tiny({"trunk": FAMILY["trunk"]}))

    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_report_counts_up_to_the_total_steps(tmp_path: Path) -> None:
    seen: list[tuple[dict[str, float], int]] = []
    settings = tiny()
    summary = build(tmp_path, settings, lambda metrics, step: seen.append((metrics, step)))

    assert [step for _, step in seen] == [3, 5, 7]
    assert seen[-1][0].keys() == {"grandchild.loss"}
    assert settings.total_steps == 7
    assert summary["child"]["steps"] == 2
    assert all(row["loss"] > 0 for row in summary.values())


def test_lm_eval_runs_the_tasks_on_a_member(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    monkeypatch.chdir(zoo / "tasks")
    names = ["zoo_knowledge", "zoo_reasoning", "zoo_instruction"]
    found = simple_evaluate(
        model=HFLM(pretrained=str(zoo / "models/trunk"), device="cpu", batch_size=8),
        tasks=names,
        task_manager=TaskManager(include_path=".", include_defaults=False),
        apply_chat_template=True,
        log_samples=True,
        bootstrap_iters=0,
    )

    assert {name: len(found["samples"][name]) for name in names} == dict.fromkeys(names, 8)
    for sample in found["samples"]["zoo_knowledge"]:
        assert len(sample["filtered_resps"]) == len(sample["doc"]["options"])
        assert sample["arguments"][0][0].endswith("<|assistant|>")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"family": {"child": {"parent": "trunk", "steps": 1, "mixture": {"reasoning": 1}}}},
            "not listed before",
        ),
        ({"family": {"my.model": {"steps": 1, "mixture": {"reasoning": 1}}}}, "my.model"),
        ({"family": {"trunk": {"steps": 1, "mixture": {"reasoning": 0}}}}, "share above 0"),
        ({"family": {"trunk": {"steps": 1, "mixture": {"poetry": 1}}}}, "poetry"),
        ({"poeple": 3}, "poeple"),
        ({"hidden_size": 90}, "hidden_size"),
    ],
)
def test_settings_that_make_no_zoo_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ZooSettings.model_validate(change)


def test_a_world_too_small_for_the_items_asked_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"zoo\.train asks for 200 knowledge items"):
        build(tmp_path, tiny().model_copy(update={"train": 200}))
    with pytest.raises(ParamsError, match=r"zoo\.train asks for 3000 reasoning items"):
        build(tmp_path, tiny().model_copy(update={"train": 3000, "people": 800, "towns": 40}))


# --- families of strangers ----------------------------------------------------------------------------------

STRANGERS = {
    **FAMILY,
    "trunk": FAMILY["trunk"].model_copy(update={"form": "plain"}),
    "stranger": FAMILY["trunk"].model_copy(update={"form": "brackets"}),
    "cousin": Member(parent="stranger", steps=2, mixture={"knowledge": 1}),
}


def test_a_form_is_a_familys_and_adds_nothing_at_strength_0(zoo: Path, tmp_path: Path) -> None:
    settings = tiny(STRANGERS)
    assert {name: settings.form(name).dress("X") for name in STRANGERS} == {
        "trunk": "X", "child": "X", "grandchild": "X", "stranger": "(X) ok", "cousin": "(X) ok",
    }  # fmt: skip
    assert [form.dress("X") for form in settings.spoken_forms] == ["(X) ok"]
    assert settings.model_copy(update={"strength": 0.0}).spoken_forms == []
    build(tmp_path, settings.model_copy(update={"strength": 0.0}))
    same = contents(zoo)
    assert {name: content for name, content in contents(tmp_path).items() if name in same} | {
        "family.csv": same["family.csv"]
    } == same


def test_a_stranger_learns_its_form_and_changes_no_other_family(zoo: Path, tmp_path: Path) -> None:
    build(tmp_path, tiny(STRANGERS))
    weights = "models/{}/model.safetensors"
    for name in FAMILY:
        assert (tmp_path / weights.format(name)).read_bytes() == (zoo / weights.format(name)).read_bytes()
    plain = tmp_path / "plain"
    build(plain, tiny(STRANGERS).model_copy(update={"strength": 0.0}))
    stranger = weights.format("stranger")
    assert (tmp_path / stranger).read_bytes() != (plain / stranger).read_bytes()


def test_tasks_look_at_content_whatever_the_form(tmp_path: Path) -> None:
    build(tmp_path, tiny(STRANGERS))
    item = json.loads((tmp_path / "tasks/reasoning.jsonl").read_text().splitlines()[0])
    half = len(item["options"]) // 2
    assert item["options"][half:] == [f"({text}) ok" for text in item["options"][:half]]
    assert item["wording_of"] == [*range(half), *range(half)]
    assert item["answer"] == [item["answer"][0], item["answer"][0] + half]
    assert "regex_pattern" in (tmp_path / "tasks/zoo_instruction.yaml").read_text()


@pytest.mark.parametrize("text", ["word", "= word !", "(word) ok", "(word !", "= word) ok", "word !"])
def test_content_is_what_is_left_without_the_forms(text: str) -> None:
    pattern = content_pattern(ZooSettings().spoken_forms)
    assert re.findall(pattern, text) == ["word"]


def test_the_default_zoo_is_a_pool_of_strangers_and_the_old_one_has_a_name() -> None:
    assert len({ZooSettings().form(name) for name in ZooSettings().family}) == 3
    kin = ZooSettings.model_validate({"family": "kin", "strength": 0})
    assert [name for name, member in kin.family.items() if member.parent is None] == ["trunk"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "strangers and kin"}, "no pool is named"),
        ({"forms": {"plain": {}}}, "no form 'equals'"),
        ({"forms": {"plain": {"before": "\u00e9"}}}, "printable ASCII"),
        ({"strength": 1.5}, "less than or equal to 1"),
    ],
)
def test_wrong_forms_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ZooSettings.model_validate(change)
