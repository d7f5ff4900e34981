"""Data sets of others by their layout: recognised by a record, read by name, their dirt counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from karma_plugins import tables
from karma_plugins.cli.import_ import command
from karma_plugins.errors import ParamsError, TableError
from karma_plugins.importers import RecordedFolder
from karma_plugins.registry import manager
from karma_plugins.schemas import PAIRS
from tests.importers.reading import imported, save, written

Record = dict[str, Any]


def said(*texts: str, system: str | None = None) -> list[dict[str, str]]:
    """Turns of user and assistant."""
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return [{"role": "system", "content": system}, *turns] if system else turns


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


TREE = {
    "message_tree_id": "t",
    "tree_state": "ready_for_export",
    "prompt": {
        "message_id": "t", "text": "Name a colour.", "role": "prompter", "replies": [
            {"message_id": "r1", "text": "Red", "role": "assistant", "rank": 1, "replies": [],
             "labels": {"quality": {"value": 0.25, "count": 3}}},
            {"message_id": "r0", "text": "Blue, like the sky", "role": "assistant", "rank": 0, "replies": [
                {"message_id": "p2", "text": "And another?", "role": "prompter", "replies": [
                    {"message_id": "r2", "text": "Green", "role": "assistant", "rank": 0, "replies": []},
                    {"message_id": "r3", "text": "Gone", "role": "assistant", "rank": 1, "deleted": True,
                     "replies": []},
                    {"message_id": "r4", "text": "No", "role": "assistant", "rank": 2, "replies": []},
                ]},
            ]},
        ],
    },
}  # fmt: skip

#: A record or more of each layout, as its data set has them.
SAMPLES: dict[str, list[Record]] = {
    "trl": [{"prompt": "Say hi", "chosen": "Hello!", "rejected": "Go away"}],
    "tulu3": [{
        "id": "x", "source": "uf", "prompt": "Q?", "chosen": said("Q?", "good"),
        "rejected": said("Q?", "bad"),
        "chosen_rating": 4.5, "rejected_rating": 2.0, "chosen_model": "gpt-4o", "rejected_model": "yi-34b",
    }],
    "ultrafeedback-binarized": [{
        "prompt": "Q?", "prompt_id": "h", "chosen": said("Q?", "good"), "rejected": said("Q?", "bad"),
        "messages": said("Q?", "good"), "score_chosen": 8.5, "score_rejected": 4.0,
    }],
    "skywork": [{"chosen": said("Q?", "good"), "rejected": said("Q?", "bad"), "source": "magpie"}],
    "ultrafeedback": [{
        "source": "flan", "instruction": "Q?", "models": ["a", "b"], "completions": [
            {"model": m, "response": f"{m} says", "overall_score": s,
             "annotations": {"helpfulness": {"Rating": r}}}
            for m, s, r in (("a", 8, "4"), ("b", 3, "N/A"))
        ],
    }],
    "hh-rlhf": [{
        "chosen": "\n\nHuman: Hi\n\nAssistant: Hello.", "rejected": "\n\nHuman: Hi\n\nAssistant: Go away.",
    }],
    "helpsteer2": [
        {"prompt": "Q?", "response": r, "helpfulness": h, "correctness": h, "coherence": 4, "complexity": 1,
         "verbosity": 2}
        for r, h in (("good", 4), ("bad", 1))
    ],
    "helpsteer3": [{
        "domain": "code", "language": "python", "context": said("Q?", "A", "Sure?"), "response1": "bad",
        "response2": "good", "overall_preference": 2,
    }],
    "nectar": [{
        "prompt": "\n\nHuman: Q?\n\nAssistant: ", "source": "lmsys", "answers": [
            {"answer": f"says {i}", "model": f"m{i}", "rank": float(rank)}
            for i, rank in enumerate((3, 1, 2, 4, 4, 6, 7))
        ],
    }],
    "shp": [
        {"post_id": "p", "domain": "askphysics", "history": "Why?", "human_ref_A": a, "human_ref_B": b,
         "labels": label, "score_A": x, "score_B": y}
        for a, b, label, x, y in (("A", "B", 1, 9, 2), ("C", "B", 0, 1, 2))
    ],
    "open-assistant": [TREE],
    "unpaired": [
        {"prompt": "Q?", "completion": "good", "label": True},
        {"prompt": "Q?", "completion": "bad", "label": False},
    ],
    "arena": [{
        "question_id": "q", "model_a": "vicuna-13b", "model_b": "koala-13b", "winner": "model_b",
        "conversation_a": said("Q?", "bad"), "conversation_b": said("Q?", "good"), "judge": "arena_user_1",
    }],
}  # fmt: skip


def verdicts(folder: RecordedFolder) -> dict[tuple[str, str, str], float | None]:
    """Comparisons as {(judge, text of a, text of b): p_a}."""
    texts = dict(pl.concat([folder.responses(), folder.judged_only()])[["response_id", "text"]].iter_rows())
    return {
        (row["judge"], texts[row["response_a"]], texts[row["response_b"]]): row["p_a"]
        for row in folder.comparisons().iter_rows(named=True)
    }


def scores(folder: RecordedFolder, judge: str) -> dict[str, float | None]:
    """A judge's scores by text."""
    texts = dict(folder.responses()[["response_id", "text"]].iter_rows())
    rows = folder.judgements().filter(judge=judge)
    return {texts[row["response_id"]]: row["score"] for row in rows.iter_rows(named=True)}


# --- recognised ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".jsonl.gz", ".parquet"])
def test_auto_says_the_layout_and_reads_it(tmp_path: Path, name: str, suffix: str) -> None:
    source = save(SAMPLES[name], tmp_path / f"x{suffix}")
    done = CliRunner().invoke(command, ["auto", str(source), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert f"layout: {name} (" in done.output
    assert tables.read_verdicts(tmp_path / "out/verdicts")


def test_a_layout_can_be_told(tmp_path: Path) -> None:
    """Tulu's records are pairs too; told so they are read as such, and say the same."""
    source = save(SAMPLES["tulu3"], tmp_path / "x.jsonl")
    assert verdicts(imported("trl", source)) == verdicts(imported("tulu3", source))


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Q?", "completions": ["step 1", "step 2"], "labels": [True, False]},
        {"question": {"problem": "Q?"}, "label": {"steps": [{"completions": []}]}},
        {"problem": "Q?", "steps": ["step 1", "step 2"], "label": 1, "final_answer_correct": False},
        {"input": "Q? Step 1: x ки", "label": "Q? Step 1: x +", "task": "GSM8K"},
    ],
)
def test_step_labels_are_refused_with_a_word(tmp_path: Path, record: Record) -> None:
    source = save([record], tmp_path / "x.jsonl")
    done = CliRunner().invoke(command, ["auto", str(source), "--out", str(tmp_path / "out")])
    assert "labels single steps of an answer" in str(done.exception)
    with pytest.raises(TableError, match="line 1: labels single steps"):
        imported("trl", source)


def test_an_unknown_layout_names_its_columns(tmp_path: Path) -> None:
    source = save([{"text": "x", "n": 1}], tmp_path / "x.jsonl")
    done = CliRunner().invoke(command, ["auto", str(source), "--out", str(tmp_path / "out")])
    assert "no layout that is known has the columns text, n" in str(done.exception)


def test_an_unknown_name_suggests_the_nearest(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["nectaar", "x", "--out", "y"])
    assert done.exit_code == 2 and "No importer 'nectaar'. Did you mean 'nectar'?" in done.output


# --- pairs --------------------------------------------------------------------------------------------------

FOUR = {
    "standard, explicit prompt": {"prompt": "Say hi", "chosen": "Hello!", "rejected": "Go away"},
    "standard, implicit prompt": {"chosen": "Say hi Hello!", "rejected": "Say hi Go away"},
    "conversational, explicit prompt": {
        "prompt": said("Say hi"), "chosen": answer("Hello!"), "rejected": answer("Go away"),
    },
    "conversational, implicit prompt": {
        "chosen": said("Say hi", "Hello!"), "rejected": said("Say hi", "Go away"),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", FOUR)
def test_the_label_of_a_pair_is_a_comparison(tmp_path: Path, name: str) -> None:
    folder = imported("trl", save([FOUR[name]], tmp_path / "x.jsonl"))
    assert folder.notes == [f"format of 1 records: {name}"]
    assert folder.prompts[0]["messages"] == said("Say hi")
    assert verdicts(folder) == {("label", "Hello!", "Go away"): 1.0}
    assert folder.judgements().is_empty()


OTHER_COLUMNS: list[tuple[Record, list[dict[str, str]]]] = [
    ({"question": "Q?", "system": "Be brief."}, said("Q?", system="Be brief.")),
    ({"instruction": "Q?"}, said("Q?")),
    ({"input": "Q?", "system": ""}, said("Q?")),
    ({"conversations": [{"from": "human", "value": "Q?"}]}, said("Q?")),
    ({"prompt": said("Q?", "A", "Sure?")}, said("Q?", "A", "Sure?")),
    ({"prompt": [{"role": "user", "content": [{"type": "text", "text": "Q?"}]}]}, said("Q?")),
]


@pytest.mark.parametrize(("record", "messages"), OTHER_COLUMNS)
def test_prompts_in_other_columns(tmp_path: Path, record: Record, messages: list[dict[str, str]]) -> None:
    folder = imported("trl", save([record | {"chosen": "yes", "rejected": "no"}], tmp_path / "x.jsonl"))
    assert folder.prompts[0]["messages"] == messages


@pytest.mark.parametrize(
    ("record", "score"),
    [
        ({"chosen_response": "yes", "rejected_response": "no", "chosen_avg_rating": 4.5,
          "rejected_avg_rating": 2.0, "chosen_model": "gpt-4"}, [0.875, 0.25]),
        ({"chosen": "yes", "rejected": "no", "chosen-rating": 5, "rejected-rating": 1}, [1.0, 0.0]),
        ({"chosen": "yes", "rejected": "no", "score_chosen": 10, "score_rejected": 5.5}, [1.0, 0.5]),
        ({"preferred": "yes", "dispreferred": "no"}, []),
        ({"accepted": "yes", "rejected": "no"}, []),
    ],
)  # fmt: skip
def test_answers_and_scores_in_other_columns(tmp_path: Path, record: Record, score: list[float]) -> None:
    source = save([{"instruction": "Q?"} | record], tmp_path / "x.jsonl")
    folder = imported("trl", source)
    assert verdicts(folder) == {("label", "yes", "no"): 1.0}
    assert folder.judgements()["score"].to_list() == score
    done = CliRunner().invoke(command, ["auto", str(source), "--out", str(tmp_path / "out")])
    assert f"layout: {'ultrafeedback-binarized' if score else 'trl'} (" in done.output


def test_columns_and_scale_can_be_told(tmp_path: Path) -> None:
    record = {"ask": "Q?", "best": "yes", "worst": "no", "b": 90, "w": "30"}
    folder = imported(
        "trl", save([record], tmp_path / "x.csv.jsonl"), prompt="ask", chosen="best", rejected="worst",
        chosen_score="b", rejected_score="w", scale=[0, 100], score_judge="grader",
    )  # fmt: skip
    assert scores(folder, "grader") == {"yes": 0.9, "no": 0.3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chosen_score": "b"}, "name both or none"),
        ({"chosen": "b"}, "chosen and rejected: name both or none"),
        ({"chosen_score": "b", "rejected_score": "w"}, "say the lowest and highest"),
        ({"scale": [5, 1]}, "must be below"),
        ({"colour": "x"}, "unknown key 'colour'"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: Record, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        imported("trl", tmp_path, **options)


def test_scores_are_a_second_judge_whatever_they_say(tmp_path: Path) -> None:
    pair = SAMPLES["tulu3"][0]
    against = pair | {"chosen": said("R?", "good"), "rejected": said("R?", "bad"), "prompt": "R?"}
    against |= {"chosen_rating": 1.0, "rejected_rating": 5.0}
    huge = against | {"chosen": said("S?", "good"), "rejected": said("S?", "bad"), "chosen_rating": 10**307}
    folder = imported("tulu3", save([pair, against, huge], tmp_path / "x.jsonl"))
    assert list(verdicts(folder).values()) == [1.0]  # the texts are the same for all three prompts
    assert folder.comparisons()["p_a"].to_list() == [1.0, 1.0, 1.0]
    assert folder.judgements()["score"].to_list() == [0.875, 0.25, 0.0, 1.0, None, 1.0]
    assert folder.counts["pairs_with_scores_against_the_label"] == 1
    assert set(folder.names.values()) == {"gpt-4o", "yi-34b"}


def test_no_pair_of_a_prompt_is_lost(tmp_path: Path) -> None:
    records = [
        {"prompt": "Q?", "chosen": a, "rejected": b}
        for a, b in (("best", "worst"), ("best", "middle"), ("middle", "worst"), ("best", "worst"))
    ]
    folder = imported("trl", save(records, tmp_path / "x.jsonl"))
    assert len(verdicts(folder)) == 3 and folder.judges["label"]["repeated"] == 1
    assert folder.responses().select("model", "sample", "text").rows() == [
        ("chosen", 0, "best"), ("rejected", 0, "worst"), ("rejected", 1, "middle"),
    ]  # fmt: skip
    written(folder, tmp_path / "out")


def test_what_the_trl_export_writes_comes_back(tmp_path: Path) -> None:
    from karma_plugins.contracts import Tables
    from karma_plugins.exporters.layouts import trl
    from karma_plugins.testing import ExporterContract

    pairs = ExporterContract().tables().read("pairs")
    assert pairs.schema == PAIRS.columns
    for layout in ("preference", "implicit-prompt"):
        trl.write(Tables({"pairs": pairs}.__getitem__), tmp_path / layout, trl.TrlOptions(layout=layout))
        folder = imported("trl", tmp_path / layout / "data")
        assert len(verdicts(folder)) == pairs.height
    trl.write(Tables({"pairs": pairs}.__getitem__), tmp_path / "kto", trl.TrlOptions(layout="unpaired"))
    folder = imported("unpaired", tmp_path / "kto" / "data")
    assert sorted(scores(folder, "label").values()) == [0.0] * 3 + [1.0] * 3


# --- the others ---------------------------------------------------------------------------------------------


def test_helpsteer_preferences_are_probabilities(tmp_path: Path) -> None:
    third = SAMPLES["helpsteer3"][0]
    records = [third | {"overall_preference": value} for value in (-3, -1, 0, 2, 9, None)]
    for i, record in enumerate(records):
        record["context"] = said(f"{i}?")
    folder = imported("helpsteer3", save(records, tmp_path / "x.jsonl"))
    assert folder.comparisons()["p_a"].to_list() == [
        1.0,
        pytest.approx(2 / 3),
        0.5,
        pytest.approx(1 / 6),
        None,
        None,
    ]
    assert folder.comparisons()["status"].to_list() == ["ok", "ok", "tie", "ok", "failed", "failed"]
    assert folder.prompts[0]["source"] == "code"


def test_helpsteer2_ratings_and_turns(tmp_path: Path) -> None:
    long = "Q?\n<extra_id_1>Assistant\nA\n<extra_id_1>User\nSure?"
    records = [*SAMPLES["helpsteer2"], SAMPLES["helpsteer2"][0] | {"prompt": long, "helpfulness": 7}]
    records.append({"prompt": "P?", "response_1": "x", "response_2": "y", "preference_strength": -3})
    folder = imported("helpsteer2", save(records, tmp_path / "x.jsonl"))
    assert scores(folder, "correctness") == {"good": 1.0, "bad": 0.25}
    assert folder.prompts[1]["messages"] == said("Q?", "A", "Sure?")
    assert folder.judges["helpfulness"] == {"ok": 2, "failed": 1}
    assert verdicts(folder) == {("preference", "x", "y"): 1.0}


def test_nectar_ranks_become_all_pairs(tmp_path: Path) -> None:
    folder = imported("nectar", save(SAMPLES["nectar"], tmp_path / "x.jsonl"))
    said_of = verdicts(folder)
    assert len(said_of) == 21 and len(folder.names) == 7
    assert said_of["rank", "says 0", "says 1"] == 0.0 and said_of["rank", "says 3", "says 4"] == 0.5
    assert folder.judges["rank"] == {"ok": 20, "tie": 1}


def test_nectar_dirt(tmp_path: Path) -> None:
    good = {"answer": "x", "model": "m", "rank": 1}
    records = [
        {"prompt": "Plain?", "answers": [good, {"answer": "y", "model": "m", "rank": 2}]},
        {"prompt": "\n\nHuman: A\n\nHuman: B", "answers": [good]},
        {"prompt": "Nobody?", "answers": []},
        {"prompt": "Unranked?", "answers": [good | {"rank": None}, good | {"model": ""}, "junk"]},
    ]
    folder = imported("nectar", save(records, tmp_path / "x.jsonl"))
    assert verdicts(folder) == {("rank", "x", "y"): 1.0}
    assert folder.counts["records_without_prompt"] == 1
    assert folder.counts["records_without_answers"] == 2
    assert folder.counts["answers_without_text_model_or_rank"] == 3


def test_shp_answers_are_shared_by_pairs(tmp_path: Path) -> None:
    wrong = SAMPLES["shp"][0] | {"history": "Why not?", "labels": 0}
    unlabelled = SAMPLES["shp"][0] | {"history": "How?", "labels": None}
    folder = imported("shp", save([*SAMPLES["shp"], wrong, unlabelled], tmp_path / "x.jsonl"))
    assert verdicts(folder) == {
        ("approval", "A", "B"): 1.0, ("approval", "B", "C"): 1.0, ("approval", "B", "A"): 1.0,
    }  # fmt: skip
    assert folder.counts["labels_against_the_votes"] == 1
    assert folder.counts["pairs_without_label"] == 1


def flat(tree: Record) -> list[Record]:
    """A tree's messages one by one, children first."""
    messages = []
    waiting = [(tree["prompt"], None)]
    while waiting:
        message, parent = waiting.pop()
        rest = {k: v for k, v in message.items() if k != "replies"}
        messages.append(rest | {"parent_id": parent, "message_tree_id": tree["message_tree_id"]})
        waiting += [(reply, message["message_id"]) for reply in message["replies"]]
    return messages[::-1]


def test_open_assistant_trees_and_messages_say_the_same(tmp_path: Path) -> None:
    expected = {("rank", "Red", "Blue, like the sky"): 0.0, ("rank", "Green", "No"): 1.0}
    trees = imported("open-assistant", save([TREE], tmp_path / "trees.jsonl.gz"))
    messages = imported("open-assistant", save(flat(TREE), tmp_path / "messages.jsonl"))
    assert verdicts(trees) == expected
    assert {frozenset(k): p == (k[1] < k[2]) for k, p in verdicts(messages).items()} == {
        frozenset(k): p == (k[1] < k[2]) for k, p in expected.items()
    }
    assert scores(trees, "quality") == {"Red": 0.25}
    assert trees.prompts[1]["messages"] == said("Name a colour.", "Blue, like the sky", "And another?")


def test_open_assistant_dirt(tmp_path: Path) -> None:
    base = {"message_tree_id": "t", "role": "assistant", "text": "x", "parent_id": "p"}
    records = [
        {"message_tree_id": "t", "message_id": "p", "role": "prompter", "text": "Q?", "parent_id": None},
        base | {"message_id": "a", "rank": 0},
        base | {"message_id": "b", "rank": None, "text": "y"},
        base | {"message_id": "c", "rank": 1, "parent_id": "gone", "text": "z"},
        base | {"message_id": "d", "parent_id": "e"},
        base | {"message_id": "e", "parent_id": "d"},
        base | {"message_id": None},
    ]
    folder = imported("open-assistant", save(records, tmp_path / "x.jsonl"))
    assert folder.counts["replies_without_rank"] == 1
    assert folder.counts["messages_without_parent"] == 1
    assert folder.counts["messages_in_a_circle"] == 2
    assert folder.counts["messages_without_id"] == 1
    with pytest.raises(TableError, match="line 1: message 'a' is its own parent"):
        imported("open-assistant", save([base | {"message_id": "a", "parent_id": "a"}], tmp_path / "y.jsonl"))


def test_arena_winners(tmp_path: Path) -> None:
    battle = SAMPLES["arena"][0]
    records = [
        battle
        | {"winner": winner, "conversation_a": said(f"{i}?", "a"), "conversation_b": said(f"{i}?", "b")}
        for i, winner in enumerate(("model_a", "model_b", "tie", "tie (bothbad)", "nobody"))
    ]
    kaggle = {
        "id": 1, "model_a": "x", "model_b": "x", "prompt": '["Q?", "Sure?"]', "response_a": '["A", "yes"]',
        "response_b": '["A", "no"]', "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0,
    }  # fmt: skip
    apart = kaggle | {"response_b": '["B", "no"]'}
    folder = imported("arena", save([*records, kaggle, apart], tmp_path / "x.jsonl"))
    assert folder.comparisons()["p_a"].to_list() == [1.0, 0.0, 0.5, 0.5, None, 1.0]
    assert folder.counts["pairs_with_different_prompts"] == 1
    assert folder.responses().filter(model="x").select("sample", "text").rows() == [(0, "yes"), (1, "no")]


# --- sources ------------------------------------------------------------------------------------------------


def test_two_halves_are_imported_as_one(tmp_path: Path) -> None:
    records = [{"prompt": f"{i}?", "chosen": "yes", "rejected": "no"} for i in range(10)]
    halves = [save(records[:5], tmp_path / "a.jsonl"), save(records[5:], tmp_path / "b.parquet")]
    whole = imported("trl", save(records, tmp_path / "c.json"))
    assert imported("trl", *halves).responses().equals(whole.responses())


def test_names_of_the_source_can_t_write_into_params(tmp_path: Path) -> None:
    evil = "x\n    path: /etc\n  evil: {path: /etc}\u2028y: 1\x85z"
    record = SAMPLES["tulu3"][0] | {"chosen_model": evil, "rejected_model": "--help"}
    folder = imported("tulu3", save([record], tmp_path / "x.jsonl"))
    folder.write(tmp_path / "out")
    block = (tmp_path / "out/models.yaml").read_text(encoding="utf-8")
    import yaml

    models = yaml.safe_load(block)["models"]
    assert len(block.splitlines()) == 8 and list(models) == [
        "_-help",
        "x-----path---etc---evil---path---etc--y--1-z",
    ]
    assert all(set(model) == {"path", "generator"} for model in models.values())
    assert json.loads((tmp_path / "out/report.json").read_text())["models"]["_-help"]["name"] == "--help"


def test_a_long_name_is_cut_and_stays_unique(tmp_path: Path) -> None:
    records = [
        SAMPLES["tulu3"][0] | {"prompt": f"{c}?", "chosen": said(f"{c}?", "a"),
                               "rejected": said(f"{c}?", "b"),
                               "chosen_model": "m" * 399 + c}
        for c in "xy"
    ]  # fmt: skip
    folder = imported("tulu3", save(records, tmp_path / "x.jsonl"))
    folder.write(tmp_path / "out")
    assert len(folder.names) == 3 and max(map(len, folder.names)) < 120


def test_every_layout_is_documented(repository: Path) -> None:
    text = (repository / "docs" / "data_sets.md").read_text(encoding="utf-8")
    registry = manager.load([])
    for kind in ("importers", "exporters"):
        for name in registry.names(kind):
            assert f"`{name}`" in text or f" {name} " in text or name in ("hub", "jsonl"), (
                f"{name} is in no table"
            )
