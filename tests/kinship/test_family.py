"""The lineage benchmark, and the two commands that need no pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from karma_plugins import cli, schemas, tables
from karma_plugins.errors import EmptyResultError, TableError
from karma_plugins.kinship import family

PAIRS = {
    ("a", "b"): 0.9, ("a", "c"): 0.5, ("a", "d"): None, ("b", "c"): 0.9, ("b", "d"): 0.1, ("c", "d"): 0.3,
}  # fmt: skip


def table(metric: str = "m") -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"metric": metric, "competency": None, "model_a": a, "model_b": b, "kinship": k}
            for (a, b), k in PAIRS.items()
        ],
        schema=schemas.KINSHIP.columns,
    )


def test_ranks_among_all_other_models() -> None:
    found = family.ranks(table(), {"b": "a", "c": "d", "a": "d", "d": "c"})
    rank = dict(found.select("model", "rank").iter_rows())
    assert rank == {"a": 3.0, "b": 1.5, "c": 3.0, "d": 1.0}  # null last; two at 0.9 share ranks 1 and 2
    assert found["others"].to_list() == [3] * 4
    assert found.filter(model="c")["nearest"].item() == "b"
    margin = dict(found.select("model", "margin").iter_rows())
    assert margin == {"a": None, "b": 0.0, "c": pytest.approx(-0.6), "d": pytest.approx(0.2)}


def test_recall_reciprocal_rank_and_chance() -> None:
    found = family.ranks(pl.concat([table("m"), table("n")]), {"d": "c", "c": "d"})
    result = family.benchmark(found)
    assert result["m"]["children"] == 2
    assert result["m"]["recall_at_1"]["mean"] == 0.5
    assert result["m"]["mrr"] == {"mean": pytest.approx(2 / 3), "low": pytest.approx(1 / 3), "high": 1.0}
    assert result["m"]["parent_minus_nearest"]["mean"] == pytest.approx((0.2 - 0.6) / 2)
    assert result["m"]["same_family"] == 0.0
    assert result["m"]["chance"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert result["m"]["mrr_minus"]["n"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_no_child_stops() -> None:
    with pytest.raises(EmptyResultError, match="Models: a, b, c, d"):
        family.ranks(table(), {"x": "y", "a": "z"})


def test_parents_are_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "parents.csv"
    path.write_text("model,direct_parent\na,\nb,a\n")
    assert family.read_parents(path) == {"b": "a"}
    path.write_text("model,parent\nb,a\n")
    with pytest.raises(TableError, match="no column 'direct_parent'"):
        family.read_parents(path)
    path.write_text("model,direct_parent\nb,a\nb,c\n")
    with pytest.raises(TableError, match="'b' is there twice"):
        family.read_parents(path)
    with pytest.raises(TableError, match="not readable"):
        family.read_parents(tmp_path / "none.csv")


# Ten questions with option A right; `child` errs as `parent` does, `other` and `third` on their own.
QUIZ = "question_id,n_options,answer,child,other,parent,third\n" + "".join(
    f"{i},5,A,{c},{o},{p},{t}\n"
    for i, (c, o, p, t) in enumerate(zip("BCDEBCDEAA", "EDCBEDAABC", "BCDEBCDACD", "CAABADBBDE", strict=True))
)


@pytest.fixture
def quiz(tmp_path: Path) -> Path:
    path = tmp_path / "quiz.csv"
    path.write_text(QUIZ)
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


def test_kinship_writes_a_table_and_a_picture(quiz: Path, tmp_path: Path) -> None:
    out = tmp_path / "kinship.parquet"
    done = run(
        "kinship",
        quiz,
        "--metric",
        "capa",
        "--metric",
        "rare-errors",
        "--option",
        "capa.kind=hard",
        "--out",
        out,
    )
    assert done.exit_code == 0, done.output
    found = tables.read(out, schemas.KINSHIP)
    assert found.filter("primary")["metric"].unique().to_list() == ["capa"]
    assert found.filter(metric="rare-errors", model_a="child", model_b="parent")["kinship"][0] > 0.5
    assert out.with_suffix(".png").stat().st_size > 1000
    assert "replies 40" in done.output
    assert "child - parent" in done.output


def test_kinship_as_csv_has_the_same_columns(quiz: Path, tmp_path: Path) -> None:
    done = run("kinship", quiz, "--out", tmp_path / "kinship.csv")
    assert done.exit_code == 0, done.output
    found = pl.read_csv(tmp_path / "kinship.csv")
    assert found.columns == schemas.KINSHIP.columns.names()
    assert sorted(set(found["metric"])) == ["capa", "capability", "error-consistency", "rare-errors"]


def test_scores_alone_give_capability(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("model,x,y\na,0.1,0.2\nb,0.2,0.3\nc,0.9,0.8\n")
    done = run("kinship", path)
    assert done.exit_code == 0, done.output
    assert "capability: 3 pairs" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "cappa"], "Did you mean 'capa'"),
        (["--option", "capa.knd=hard", "--metric", "capa"], "unknown key 'knd'"),
        (["--option", "weights.base=x"], "no metric that is measured"),
        (["--out", "x.txt"], "name a .parquet or .csv"),
        (["--competency", "nonsense"], "must be NAME=VALUE"),
    ],
)
def test_wrong_arguments_end_in_one_line(quiz: Path, arguments: list[str], message: str) -> None:
    done = run("kinship", quiz, *arguments)
    assert done.exit_code == 1
    assert message in done.output
    assert "Traceback" not in done.output


def test_one_model_alone_ends_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "quiz.csv"
    path.write_text("question_id,answer,lonely\n1,A,B\n2,B,B\n")
    done = run("kinship", path, "--out", tmp_path / "kinship.csv")
    assert done.exit_code == 1
    assert "only one model is profiled ('lonely')" in done.output
    assert "Kinship needs two." in done.output
    assert not (tmp_path / "kinship.csv").exists()


def test_family_ranks_parents(quiz: Path, tmp_path: Path) -> None:
    parents = tmp_path / "parents.csv"
    parents.write_text("model,direct_parent\nchild,parent\nparent,\nfar,away\n")
    done = run("family", quiz, "--parents", parents)
    assert done.exit_code == 0, done.output
    assert "Left out: 1 children" in done.output
    assert "Fewer than 10 children" in done.output
    shown = json.loads(run("family", quiz, "--parents", parents, "--json").output)
    assert shown["children"] == 1
    assert shown["metrics"]["rare-errors"]["mrr"]["mean"] == 1.0
    assert shown["children_left_out"] == ["far"]
    assert {row["metric"] for row in shown["ranks"]} == set(shown["metrics"])


def test_real_family(shared_data: Path, tmp_path: Path) -> None:
    """Our metric finds the three known parents at least as well as CAPA does."""
    parents = tmp_path / "parents.csv"
    parents.write_text(
        "model,direct_parent\nMistral-7B-Instruct-v0.1,Mistral-7B-v0.1\n"
        "Mixtral-8x7B-Instruct-v0.1,Mixtral-8x7B-v0.1\nYi-6b-Chat,Yi-6B\n"
    )
    quiz = shared_data / "mmlu_pro_items" / "predictions.csv"
    shown = json.loads(run("family", quiz, "--parents", parents, "--json").output)
    ours, capa = (shown["metrics"][name]["mrr"]["mean"] for name in ("rare-errors", "capa"))
    assert ours >= capa > shown["metrics"]["capa"]["chance"]
    assert not shown["enough_to_compare"]


def answered(folder: Path) -> Path:
    """Answers of four models in two forms, as records."""
    said = {"a1": "{}", "a2": "{}", "b1": "= {} !", "b2": "= {} !"}
    words = ["river", "mill", "salt", "wool", "honey", "glass", "paper", "iron", "silk", "baker", "tailor"]
    path = folder / "answers.jsonl"
    rows = [
        {"prompt": f"Say {i}.", "model": model, "answer": form.format(words[(i * 7 + n) % 11] * (1 + i % 2))}
        for n, (model, form) in enumerate(said.items())
        for i in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_answers_alone_give_style_and_families(tmp_path: Path) -> None:
    result = run("kinship", answered(tmp_path), "--out", tmp_path / "kin.csv")
    assert result.exit_code == 0, result.output
    assert "Read: answers 240." in result.output
    for family_ in ("a1, a2", "b1, b2"):
        assert f": {family_} (in " in result.output.partition("answers: ")[0].partition("style: ")[2]
    kin = pl.read_csv(tmp_path / "kin_families.csv").filter(metric="style")
    assert kin["family"].n_unique() == 2
    assert (tmp_path / "kin.png").is_file()


@pytest.mark.parametrize("kind", ["csv", "parquet", "json", "alpaca", "folder"])
def test_answers_are_read_in_any_of_their_forms(tmp_path: Path, kind: str) -> None:
    rows = [json.loads(line) for line in answered(tmp_path).read_text().splitlines()]
    frame = pl.DataFrame(rows)
    where = tmp_path / f"given.{kind}"
    if kind == "csv":
        frame.rename({"model": "generator", "answer": "output", "prompt": "instruction"}).write_csv(where)
    elif kind == "parquet":
        frame.write_parquet(where)
    elif kind == "json":
        where.write_text(json.dumps(rows))
    else:
        for (model,), part in frame.group_by("model"):
            home = where / str(model)
            home.mkdir(parents=True)
            records = part.select(instruction="prompt", output="answer").to_dicts()
            (home / "model_outputs.json").write_text(json.dumps(records))
            if kind == "folder":
                part.write_parquet(where / f"{model}.parquet")
                (home / "model_outputs.json").unlink()
    results = [
        run("kinship", path, "--metric", "style", "--option", "style.bootstrap=0")
        for path in (tmp_path / "answers.jsonl", where)
    ]
    assert results[1].exit_code == 0, results[1].output
    assert results[1].output == results[0].output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": "p", "answer": "a"}', "names no model"),
        ('{"prompt": "p", "model": "m"}', "names no answer"),
        ('{"prompt": "p", "model": 7, "answer": "a"}', "must be the model's name"),
        ("no json", "not JSON"),
    ],
)
def test_broken_answers_end_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(text + "\n")
    result = run("kinship", path)
    assert result.exit_code == 1
    assert message in result.output and "line 1" in result.output and "Traceback" not in result.output
