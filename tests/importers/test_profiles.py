"""Recorded profiles: three formats with their dirt, each kind of it by a stated rule and counted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from karma_plugins import tables
from karma_plugins.errors import TableError
from karma_plugins.importers import profiles
from karma_plugins.schemas import ITEMS, SCORES

CHOICES = """\
question_id,category,note,n_options,answer,one,two
q1,maths,hello,4,A,A,b
q2,maths,hello,4,B,,B
q3,law,hello,3,C,D,MISSING
q4,law,hello,3,Z,A,A
q5,law,,3,A,what?,A
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def read(*paths: Path, **more: Any) -> profiles.Profiles:
    return profiles.read(paths, **more)


def item(found: profiles.Profiles, model: str, question: str) -> dict[str, Any]:
    return found.items.filter(model=model, item_id=question).row(0, named=True)


class TestChoices:
    @pytest.fixture
    def found(self, tmp_path: Path) -> profiles.Profiles:
        return read(write(tmp_path / "quiz.csv", CHOICES))

    def test_items_follow_the_rules(self, found: profiles.Profiles) -> None:
        assert [m.name for m in found.models] == ["one", "two"]
        assert item(found, "one", "q1") == {
            "model": "one", "competency": "maths", "task": "quiz", "item_id": "q1", "correct": 1.0,
            "choice": 0, "answer": 0, "n_choices": 4, "choice_probs": None,
        }  # fmt: skip
        assert item(found, "two", "q1")["choice"] == 1  # a small letter
        assert (item(found, "one", "q2")["choice"], item(found, "one", "q2")["correct"]) == (
            None,
            0.0,
        )  # unparsed
        assert item(found, "one", "q3")["choice"] is None  # beyond the options
        assert item(found, "one", "q5")["choice"] is None  # no option at all
        assert found.items.filter(model="two", item_id="q3").is_empty()  # never asked
        assert found.items.filter(item_id="q4").is_empty()  # no right option

    def test_everything_is_counted(self, found: profiles.Profiles) -> None:
        assert dict(found.counts) == {
            "questions": 5, "questions_without_a_right_option": 1, "columns_ignored": 1, "models": 2,
            "replies": 7, "replies_missing": 1, "replies_unparsed": 1, "replies_beyond_the_options": 1,
            "replies_unreadable": 1,
        }  # fmt: skip
        assert any("MISSING" in rule for rule in found.rules)

    def test_scores_count_unparsed_as_wrong_and_missing_not_at_all(self, found: profiles.Profiles) -> None:
        scores = {(r["model"], r["competency"]): (r["score"], r["n"]) for r in found.scores.to_dicts()}
        assert scores == {
            ("one", "maths"): (0.5, 2), ("two", "maths"): (0.5, 2), ("one", "law"): (0.0, 2),
            ("two", "law"): (1.0, 1),
        }  # fmt: skip

    def test_numbers_with_gaps_as_other_tools_write_them(self, tmp_path: Path) -> None:
        text = "id,n_options,answer,one,two\n1,4.0,1,1.0,3\n2,4.0,0,,0\n3,4.5,0,1.0,0\n"
        found = read(write(tmp_path / "quiz.csv", text))
        assert item(found, "one", "1")["choice"] == 1
        assert found.items["n_choices"].to_list() == [4] * 4
        assert found.counts["questions_without_a_right_option"] == 1  # 4.5 options
        assert found.counts["replies_unparsed"] == 1

    def test_other_separators(self, tmp_path: Path) -> None:
        for separator in (";", "\t"):
            text = "id,answer,one,two\n1,A,B,A\n2,B,B,C\n".replace(",", separator)
            assert [m.name for m in read(write(tmp_path / "quiz.csv", text)).models] == ["one", "two"]

    def test_options_are_counted_from_the_file_where_no_column_says(self, tmp_path: Path) -> None:
        found = read(write(tmp_path / "quiz.csv", "id,answer,one\n1,A,D\n2,0,1\n"))
        assert found.items["n_choices"].to_list() == [4, 4]
        assert found.items["choice"].to_list() == [3, 1]
        assert found.items["competency"].unique().to_list() == ["quiz"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("question_id,answer,one\nq1,A,A\nq1,A,B\n", "question 'q1' is there twice"),
            ("question_id,answer,one\n,A,A\n", "row 2: column 'question_id' is empty"),
            ("question_id,answer,one\nq1,A,yes\n", "no column holds options"),
            ("question_id,answer,one,one\nq1,A,A,B\n", "column 'one' is there twice"),
            ("question_id,answer,one\nq1,E1,A\n", "holds no score and no answer"),
        ],
    )
    def test_what_can_t_be_read_stops(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(TableError, match=message):
            read(write(tmp_path / "quiz.csv", text))

    def test_real_choices(self, shared_data: Path) -> None:
        found = read(shared_data / "mmlu_pro_items" / "predictions.csv")
        assert found.counts["models"] == 12
        assert found.counts["replies"] == found.items.height == 16_800
        assert found.counts["replies_unparsed"] == 2_256
        assert found.counts["replies_beyond_the_options"] == 1
        known = pl.read_csv(shared_data / "mmlu_pro_items" / "category_accuracy.csv")
        for row in found.scores.iter_rows(named=True):
            assert row["score"] == pytest.approx(known.filter(model=row["model"])[row["competency"]].item())


class TestScores:
    def test_scales_gaps_and_what_is_no_benchmark(self, tmp_path: Path) -> None:
        text = "model,MMLU,GSM8K,Elo,source,sizes\na,0.5,50,1200,x,\nb,,0.5,1100,y,\nc,n/a,100,900,z,7\n"
        found = read(write(tmp_path / "scores.csv", text))
        scores = {(r["model"], r["task"]): r["score"] for r in found.scores.to_dicts()}
        assert scores == {
            ("a", "MMLU"): 0.5, ("b", "MMLU"): None, ("c", "MMLU"): None,
            ("a", "GSM8K"): 0.5, ("b", "GSM8K"): 0.005, ("c", "GSM8K"): 1.0,
            ("a", "sizes"): None, ("b", "sizes"): None, ("c", "sizes"): 0.07,
        }  # fmt: skip
        counts = dict(found.counts)
        assert (counts["benchmarks_on_no_known_scale"], counts["columns_ignored"]) == (1, 1)
        assert (counts["benchmarks_in_percent"], counts["percent_scores_of_at_most_1"]) == (2, 1)
        assert (counts["scores"], counts["scores_missing"], counts["scores_unreadable"]) == (5, 4, 1)

    def test_tasks_may_be_grouped_into_competencies(self, tmp_path: Path) -> None:
        path = write(tmp_path / "scores.csv", "Model,x,y,z\na,0.1,0.2,0.3\nb,0.2,0.3,0.4\n")
        found = read(path, competencies={"both": ["x", "y"]})
        assert found.scores.select("competency", "task").unique().sort("task").rows() == [
            ("both", "x"), ("both", "y"),
        ]  # fmt: skip
        with pytest.raises(TableError, match=r"no task 'xx'"):
            read(path, competencies={"both": ["xx"]})

    def test_one_row_for_each_score(self, tmp_path: Path) -> None:
        text = "model,competency,task,score,stderr,n\na,k,x,40,2,100\nb,k,x,60,2,100\n"
        found = read(write(tmp_path / "scores.csv", text))
        assert found.scores.select("competency", "score", "stderr", "n").row(0) == ("k", 0.4, 0.02, 100)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("system,x\na,0.1\n", "no column of models"),
            ("model,x\na,0.1\na,0.2\n", "model 'a' is there twice"),
            ("model,x\na,high\n", "no column holds numbers"),
        ],
    )
    def test_what_can_t_be_read_stops(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(TableError, match=message):
            read(write(tmp_path / "scores.csv", text))

    def test_real_scores(self, shared_data: Path) -> None:
        found = read(shared_data / "alpaca_eval" / "capability_vectors.csv")
        assert (found.counts["models"], found.counts["benchmarks"]) == (14, 9)
        assert found.counts["scores"] + found.counts["scores_missing"] == 14 * 9
        assert found.scores["score"].drop_nulls().is_between(0.05, 1).all()


DATE = "2026-01-02T03-04-05.678"


def results(folder: Path, tasks: Mapping[str, Any], stamp: str = DATE, **more: Any) -> Path:
    """A results file, as `lm_eval --output_path FOLDER --log_samples` writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "results": {name: task["results"] for name, task in tasks.items()},
        "group_subtasks": {"stem": ["mc"], "mc": []},
        "configs": {name: task["config"] for name, task in tasks.items()},
        "n-samples": {name: {"effective": len(task["samples"])} for name, task in tasks.items()},
        "config": {"model_args": {"pretrained": "org/name"}},
        "model_name": "org/name",
        "date": 1.0,
        **more,
    }
    document["results"]["stem"] = {"acc,none": 0.5}
    path = folder / f"results_{stamp}.json"
    path.write_text(json.dumps(document))
    for name, task in tasks.items():
        if task["samples"]:
            lines = "".join(json.dumps(sample) + "\n" for sample in task["samples"])
            (folder / f"samples_{name}_{stamp}.jsonl").write_text(lines)
    return path


def sample(number: int, texts: list[str], likelihoods: list[float], target: str, **metrics: float) -> Any:
    return {
        "doc_id": number, "doc_hash": f"{number:064x}", "target": target, "filter": "none",
        "arguments": {f"gen_args_{i}": {"arg_0": "Q:", "arg_1": f" {t}"} for i, t in enumerate(texts)},
        "filtered_resps": [[str(value), "False"] for value in likelihoods],
        "metrics": list(metrics), **metrics,
    }  # fmt: skip


def choice_task(samples: list[Any], metric: str = "acc") -> dict[str, Any]:
    return {
        "results": {"alias": "mc", f"{metric},none": 0.5, f"{metric}_stderr,none": 0.1},
        "config": {"output_type": "multiple_choice", "target_delimiter": " "},
        "samples": samples,
    }


class TestLmEval:
    def test_options_scores_and_names(self, tmp_path: Path) -> None:
        samples = [
            sample(0, ["x", "y"], [-1.0, -2.0], "x", acc=1.0),
            sample(1, ["x", "y"], [-1.0, -1.5], "y", acc=0.0),
            sample(2, ["x", "y"], [-1.0, float("nan")], "y", acc=0.0),
            sample(3, ["x", "y"], [-1.0, -3.0], "neither", acc=0.0),
        ]
        found = read(results(tmp_path, {"mc": choice_task(samples)}))
        assert found.scores.row(0) == ("org/name", "stem", "mc", "acc", 0.5, 0.1, 4)
        first, second, third, fourth = found.items.sort("item_id").to_dicts()
        assert (first["choice"], first["answer"], first["n_choices"], first["correct"]) == (0, 0, 2, 1.0)
        assert first["choice_probs"] == pytest.approx([0.7310586, 0.2689414])
        assert (second["choice"], second["answer"]) == (0, 1)
        assert (third["choice"], third["n_choices"], third["correct"]) == (None, None, 0.0)
        assert fourth["answer"] is None
        assert (found.counts["items"], found.counts["items_with_options"]) == (4, 3)
        assert found.counts["items_without_a_right_option"] == 1

    def test_targets_that_are_numbers_are_read_as_what_agrees_with_the_scores(self, tmp_path: Path) -> None:
        """The options are numbers too: '1' may be the second option or the text 1."""
        numbered = [sample(i, ["1", "0", "2"], [-3.0, -1.0, -2.0], "1", acc=1.0) for i in range(3)]
        found = read(results(tmp_path / "a", {"mc": choice_task(numbered)}))
        assert found.items["answer"].to_list() == [1, 1, 1]
        named = [sample(i, ["1", "0", "2"], [-1.0, -3.0, -2.0], "1", acc=1.0) for i in range(3)]
        found = read(results(tmp_path / "b", {"mc": choice_task(named)}))
        assert found.items["answer"].to_list() == [0, 0, 0]

    def test_a_metric_normalised_by_length_chooses_by_it(self, tmp_path: Path) -> None:
        samples = [sample(0, ["a", "a long option"], [-1.0, -2.0], "1", acc_norm=1.0)]
        found = read(results(tmp_path, {"mc": choice_task(samples, "acc_norm")}))
        assert (found.scores["metric"].item(), found.items["choice"].item()) == ("acc_norm", 1)

    def test_a_filter_of_a_generated_task(self, tmp_path: Path) -> None:
        both = [
            {"doc_id": 0, "doc_hash": "f" * 64, "target": "1", "filter": f, "exact_match": value}
            for f, value in (("strict", 0.0), ("flexible", 1.0))
        ]
        task = {
            "results": {"exact_match,strict": 0.0, "exact_match,flexible": 1.0},
            "config": {"output_type": "generate_until"},
            "samples": both,
        }
        found = read(results(tmp_path, {"gen": task}))
        assert found.items.select("correct", "n_choices").rows() == [(0.0, None)]
        assert found.scores["competency"].item() == "gen"

    def test_scores_without_samples_and_metrics_that_are_no_share(self, tmp_path: Path) -> None:
        plain = {"results": {"acc,none": 0.25}, "config": {}, "samples": []}
        odd = {"results": {"perplexity,none": 12.0}, "config": {}, "samples": []}
        nothing = {"results": {"alias": "x"}, "config": {}, "samples": []}
        found = read(results(tmp_path, {"plain": plain, "odd": odd, "nothing": nothing}))
        assert found.scores.select("task", "score", "n").rows() == [("plain", 0.25, None)]
        assert found.counts["metrics_outside_0_1"] == found.counts["tasks_without_a_metric"] == 1
        assert found.counts["tasks_without_samples"] == 2

    def test_a_folder_holds_several_models_and_the_newest_result_counts(self, tmp_path: Path) -> None:
        old, new = (choice_task([sample(0, ["x", "y"], [-1, -2], "x", acc=value)]) for value in (0.0, 1.0))
        results(tmp_path / "one", {"mc": new}, stamp="a", date=10.0)
        results(tmp_path / "one", {"mc": old}, stamp="b", date=9.0)
        results(tmp_path / "two", {"mc": old}, model_name="/models/of/mine/two")
        found = read(tmp_path)
        assert found.items.select("model", "correct").sort("model").rows() == [
            ("org/name", 1.0),
            ("two", 0.0),
        ]
        assert found.counts["older_results"] == 1

    def test_what_can_t_be_read_stops(self, tmp_path: Path) -> None:
        with pytest.raises(TableError, match=r"holds no results_\*.json"):
            read(tmp_path)
        with pytest.raises(TableError, match="is no results file of lm-eval"):
            read(write(tmp_path / "results_x.json", "{}"))
        with pytest.raises(TableError, match="not JSON"):
            read(write(tmp_path / "results_x.json", "{"))
        path = results(tmp_path / "m", {"mc": choice_task([sample(0, ["x", "y"], [-1, -2], "x", acc=1.0)])})
        write(path.with_name(f"samples_mc_{DATE}.jsonl"), "{}\nnot json\n")
        with pytest.raises(TableError, match="line 2: not JSON"):
            read(path)


PLAIN = {"mc": {"results": {"acc,none": 0.25}, "config": {}, "samples": []}}


class TestIdentity:
    """Models that share a short name stay apart; what can't be compared is refused."""

    def models(self, folder: Path) -> list[str]:
        return sorted(set(read(folder).scores["model"]))

    def test_folders_of_one_name(self, tmp_path: Path) -> None:
        for run in "ab":
            results(tmp_path / run, PLAIN, model_name=f"/ckpt/run-{run}/checkpoint-500")
        results(tmp_path / "c", PLAIN, model_name="/ckpt/run-a/final")
        assert self.models(tmp_path) == ["final", "run-a/checkpoint-500", "run-b/checkpoint-500"]
        one, other = (next((tmp_path / run).glob("results_*.json")) for run in "ab")
        assert set(read(one, other).scores["model"]) == {"run-a/checkpoint-500", "run-b/checkpoint-500"}

    def test_revisions_adapters_and_chat_templates(self, tmp_path: Path) -> None:
        base = {"pretrained": "org/name"}
        runs: list[dict[str, Any]] = [
            {"config": {"model_args": base}},
            {"config": {"model_args": "pretrained=org/name,revision=step1000,dtype=float16"}},
            {"config": {"model_args": base | {"peft": "org/adapter"}}},
            {"config": {"model_args": base}, "chat_template_sha": "c0ffee0123456789"},
        ]
        for i, run in enumerate(runs):
            results(tmp_path / str(i), PLAIN, **run)
        assert self.models(tmp_path) == [
            "org/name", "org/name chat=c0ffee01", "org/name peft=org/adapter", "org/name@step1000",
        ]  # fmt: skip

    def test_how_a_model_was_run_is_no_other_model(self, tmp_path: Path) -> None:
        for i, device in enumerate(("cpu", "cuda:0")):
            arguments = {"pretrained": "org/name", "device": device, "batch_size": i + 1}
            results(tmp_path / device[:3], PLAIN, date=float(i), config={"model_args": arguments})
        profiles = read(tmp_path)
        assert set(profiles.scores["model"]) == {"org/name"} and profiles.counts["older_results"] == 1

    def test_mixed_shots_are_refused(self, tmp_path: Path) -> None:
        results(tmp_path / "zero", PLAIN, **{"n-shot": {"mc": 0}})
        results(tmp_path / "five", PLAIN, model_name="other/model", **{"n-shot": {"mc": 5}})
        with pytest.raises(TableError, match=r"task 'mc' was asked with 0 examples .* with 5"):
            read(tmp_path)

    def test_the_layout_of_version_0_3(self, tmp_path: Path) -> None:
        document = {
            "results": {"arc": {"acc": 0.5, "acc_stderr": 0.1, "acc_norm": 0.6, "acc_norm_stderr": 0.2}},
            "versions": {"arc": 0},
            "config": {
                "model": "hf-causal",
                "model_args": "pretrained=org/old,revision=v2",
                "num_fewshot": 25,
            },
        }
        profiles = read(write(tmp_path / "results_old.json", json.dumps(document)))
        assert profiles.scores.row(0) == ("org/old@v2", "arc", "arc", "acc_norm", 0.6, 0.2, None)

    def test_the_layout_of_lighteval(self, tmp_path: Path) -> None:
        document = {
            "config_general": {
                "model_name": "org/new",
                "model_sha": "0123456789abcdef",
                "model_dtype": "bf16",
            },
            "results": {"leaderboard|arc:challenge|25": {"acc": 0.5, "acc_stderr": 0.1}, "all": {"acc": 0.5}},
        }
        profiles = read(write(tmp_path / "results_new.json", json.dumps(document)))
        assert profiles.scores.row(0) == ("org/new", "arc:challenge", "arc:challenge", "acc", 0.5, 0.1, None)

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            ({"results": {"t": 5}}, "holds no score and no answer"),
            ({"results": {"t": {"acc,none": 10**400}}, "configs": {"t": {}}}, "400|401"),
            ({"results": [1]}, "no results file"),
            ([], "no results file"),
        ],
    )
    def test_odd_shapes_stop(self, tmp_path: Path, document: Any, message: str) -> None:
        with pytest.raises(TableError, match=message):
            read(write(tmp_path / "results_x.json", json.dumps(document)))

    def test_odd_shapes_beside_the_scores_are_ignored(self, tmp_path: Path) -> None:
        odd = {"group_subtasks": ["x"], "config": "a text", "n-samples": 3, "n-shot": [], "date": "today"}
        odd |= {"model_name": ["x"], "chat_template_sha": {}}
        profiles = read(results(tmp_path / "m", PLAIN, **odd))
        assert profiles.scores["score"].to_list() == [0.25] and set(profiles.scores["model"]) == {"m"}

    def test_odd_samples(self, tmp_path: Path) -> None:
        good = sample(0, ["x", "y"], [-1, -2], "x", acc=1.0)
        changes: list[dict[str, Any]] = [
            {"arguments": {"gen_args_0": {}}}, {"arguments": 5}, {"arguments": [[1], [2]]}, {"metrics": 3},
            {"filtered_resps": {"a": 1}}, {"filtered_resps": [{}, {}]}, {"acc": 10**307}, {"acc": "high"},
            {"target": "9" * 5000}, {"doc_hash": None},
        ]  # fmt: skip
        samples = [good, *(good | change | {"doc_id": i} for i, change in enumerate(changes))]
        profiles = read(results(tmp_path, {"mc": choice_task(samples)}))
        assert profiles.items.height == len(samples) and profiles.counts["items_without_correctness"] == 2


def test_our_own_tables_and_several_files(tmp_path: Path) -> None:
    found = read(write(tmp_path / "quiz.csv", CHOICES))
    tables.write(found.items, tmp_path / "items.parquet", ITEMS)
    tables.write(found.scores, tmp_path / "scores.parquet", SCORES)
    again = read(tmp_path / "items.parquet", tmp_path / "scores.parquet")
    assert again.items.sort(ITEMS.key).equals(found.items.sort(ITEMS.key))
    assert again.scores.height == found.scores.height
    with pytest.raises(TableError, match="same key"):
        read(tmp_path / "items.parquet", tmp_path / "quiz.csv")


@pytest.mark.parametrize("name", ["nothing.csv", "notes.txt"])
def test_files_of_no_known_kind_stop(tmp_path: Path, name: str) -> None:
    if name == "notes.txt":
        write(tmp_path / name, "hello")
    with pytest.raises(TableError, match=name):
        read(tmp_path / name)
