"""The card of a preference dataset: what a stranger needs to judge the data by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from karma_plugins.curriculum import Curriculum, target
from karma_plugins.curriculum.report import chance_order
from karma_plugins.params import CurriculumSection, yaml
from karma_plugins.texts.filters import QUANTILES

COLUMNS: Mapping[str, str] = {
    "order": "place in the curriculum, from 0; training sees the rows in this order",
    "phase": "phase of the curriculum, from 0; the reference model of a phase is the model of the phase "
    "before",
    "prompt": "the conversation that was asked, as messages (table prompts)",
    "chosen": "the answer with the higher reward, as one assistant message (table responses)",
    "rejected": "the answer with the lower reward, as one assistant message (table responses)",
    "prompt_id": "hash of the prompt's messages",
    "competency": "what the prompt asks for, as its source says (table prompts)",
    "chosen_id": "id of the chosen answer (table responses)",
    "rejected_id": "id of the rejected answer (table responses)",
    "chosen_model": "candidate model that gave the chosen answer",
    "rejected_model": "candidate model that gave the rejected answer",
    "chosen_reward": "reward of the chosen answer: the judges' votes together (table rewards)",
    "rejected_reward": "reward of the rejected answer, by the same judges",
    "margin": "chosen_reward - rejected_reward, always above 0",
    "disagreement": "quadratic mean of the judges' standard deviations on the two answers; null for a "
    "single judge",
    "kinship": "how alike the two models are, in [0,1], by the acting metric; 1 for two samples of one model",
    "complexity": "standard deviation of the rewards of all judged answers to the prompt",
    "chosen_likelihood": "likelihood of the chosen answer under the model to be trained: geometric mean of a "
    "token's probability; null where no judge told",
    "rejected_likelihood": "the same of the rejected answer",
    "difficulty": "in [0,1], 0 = easiest: weighted mean of the parts named below, each spread over [0,1]",
}  # fmt: skip

PRETTY_NAME = "Kinship-aware preference pairs"
#: The share of the commonest language's texts from which on another counts as the data set's, too.
FEWEST = 0.1
#: Letters of an example's text.
SHOWN = 400
#: Upper bounds that the hub's card vocabulary knows.
SIZES = {
    "n<1K": 1_000, "1K<n<10K": 10_000, "10K<n<100K": 100_000, "100K<n<1M": 1_000_000, "1M<n<10M": 10_000_000,
    "10M<n<100M": 100_000_000,
}  # fmt: skip


@dataclass(frozen=True)
class Provenance:
    """What a caller knows about a dataset's origin, all of it optional.

    `hashes` maps inputs to the hashes that dvc.lock holds, `judges` names to versions (see `judge_versions`),
    `bias` is the judges' report (table `bias`), `licences` maps sources (prompts, models) to their licences,
    `languages` counts detected languages of prompts, `named` are those that were named instead; `notes` are
    sentences to add.
    """

    hashes: Mapping[str, str] = field(default_factory=dict)
    judges: Mapping[str, str] = field(default_factory=dict)
    bias: pl.DataFrame | None = None
    licences: Mapping[str, str] = field(default_factory=dict)
    named: Sequence[str] = ()
    languages: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


def judge_versions(judges: pl.DataFrame) -> dict[str, str]:
    """Which version of which judge voted: name to version(s), from table `judges`."""
    return dict(judges.select("judge", "version").sort("judge").iter_rows())


def card(
    curriculum: Curriculum,
    settings: CurriculumSection,
    provenance: Provenance,
    *,
    data_files: str = "data/train.parquet",
) -> str:
    """The text of README.md: YAML front matter that `datasets` and the hub read, then sections."""
    pairs, report = curriculum.pairs, curriculum.report
    sections = [
        front_matter(pairs.height, settings.licence, _spoken(provenance), data_files),
        "# Kinship-aware preference pairs\n\n" + _summary(report, settings),
        "## An example\n\n" + _example(pairs),
        "## Columns\n\n" + _table(["column", "meaning"], [[f"`{k}`", v] for k, v in COLUMNS.items()]),
        "## What was kept and dropped\n\n" + _kept(report),
        "## Models\n\n" + _models(pairs),
        "## Distributions\n\n" + _quantiles(report) + "\n" + _histograms(pairs),
        "## Texts\n\n" + _texts(report, provenance),
        "## Order\n\n" + _order(pairs, report, settings),
        "## Judges\n\n" + _judges(provenance),
        "## Licences\n\n" + _licences(settings, provenance),
        "## Hashes\n\n" + _hashes(provenance),
    ]
    if "target" in report:
        sections.insert(5, "## Whose answers\n\n" + target.sentence(report["target"]) + "\n")
    if provenance.notes:
        sections.append("## Notes\n\n" + "".join(f"- {note}\n" for note in provenance.notes))
    return "\n".join(sections)


def front_matter(
    rows: int,
    licence: str | None,
    languages: Sequence[str] = (),
    data_files: str = "data/train.parquet",
) -> str:
    """The YAML that the hub reads of so many rows in the files of split `train`."""
    head: dict[str, Any] = {
        "pretty_name": PRETTY_NAME,
        "task_categories": ["text-generation"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": data_files}]}],
        "size_categories": [next((name for name, most in SIZES.items() if rows < most), "n>1T")],
        "tags": ["preference", "dpo", "trl", "karma-plugins"],
    }
    if licence:
        head["license"] = licence
    if languages:
        head["language"] = list(languages)
    return f"---\n{yaml.dump(head)}---\n"


def _spoken(provenance: Provenance) -> list[str]:
    """The languages that were named; else those of at least a tenth as many texts as the commonest.

    A detector is often wrong about a short text.
    """
    if provenance.named:
        return list(provenance.named)
    known = {name: count for name, count in provenance.languages.items() if name != "unknown"}
    most = max(known.values(), default=0)
    return sorted(name for name, count in known.items() if count >= FEWEST * most)


def _example(pairs: pl.DataFrame) -> str:
    """The first pair, its texts cut where they are long."""
    if pairs.is_empty():
        return "There is no pair.\n"
    row = pairs.sort("order").head(1)
    lines = []
    for side in ("prompt", "chosen", "rejected"):
        text = row[side].list.last().struct.field("content")[0] or ""
        shown = " ".join(text.split())
        lines.append([side, f"{shown[:SHOWN]}…" if len(shown) > SHOWN else shown])
    return _table(["", "text"], [[side, _plain(text)] for side, text in lines])


def _summary(report: Mapping[str, Any], settings: CurriculumSection) -> str:
    pairs, prompts = report["pairs"], report["prompts"]
    return (
        f"{pairs['kept']} pairs of answers to {prompts['used']} of {prompts['all']} training prompts, "
        "chosen from "
        f"{pairs['possible']} possible pairs of {report['answers']['judged']} judged answers by pairing "
        f"`{settings.pairing}`. Made by karma-plugins. Each row holds conversations as TRL's DPO, ORPO and "
        "reward trainers "
        "take them:\n\n"
        "```python\nfrom datasets import load_dataset\n\n"
        'pairs = load_dataset("path/to/this/folder", split="train")\n```\n'
    )


def _kept(report: Mapping[str, Any]) -> str:
    answers, pairs = report["answers"], report["pairs"]
    text = (
        f"Of {answers['all']} answers {answers['failed']} are missing (their generation failed) and "
        f"{answers['judged']} have "
        "a reward. Rules drop pairs in this order; each pair is counted under the first rule that drops "
        "it.\n\n"
    )
    rows = [["possible", pairs["possible"]], *([reason, -n] for reason, n in pairs["dropped"].items())]
    same = f"\nOf the pairs kept, {pairs['same_model']} hold two samples of one model (kinship 1).\n"
    return text + _table(["pairs", "number"], [*rows, ["kept", pairs["kept"]]]) + same


def _models(pairs: pl.DataFrame) -> str:
    chosen = pairs.group_by(model="chosen_model").agg(chosen=pl.len())
    rejected = pairs.group_by(model="rejected_model").agg(rejected=pl.len())
    both = chosen.join(rejected, on="model", how="full", coalesce=True).fill_null(0).sort("model")
    return _table(["model", "chosen", "rejected"], [[_plain(name), *counts] for name, *counts in both.rows()])


def _quantiles(report: Mapping[str, Any]) -> str:
    names = ["margin", "kinship", "difficulty"]
    rows = [[name, *(_number(report[name].get(mark)) for mark in QUANTILES)] for name in names]
    return _table(["", "least", "quarter", "median", "three quarters", "greatest"], rows)


def _histograms(pairs: pl.DataFrame) -> str:
    """Counts of pairs in ten equal bins of [0,1] by margin and kinship; wider margins count in the last."""
    bins = [f"{i / 10:.1f} to {(i + 1) / 10:.1f}" for i in range(10)]
    counts = {}
    for name in ("margin", "kinship"):
        place = np.floor(pairs[name].drop_nulls().to_numpy() * 10 + 1e-9).clip(0, 9)
        counts[name] = np.bincount(place.astype(np.int64), minlength=10)
    rows = [[label, counts["margin"][i], counts["kinship"][i]] for i, label in enumerate(bins)]
    unknown = pairs["kinship"].null_count()
    return _table(["from … to", "pairs by margin", "pairs by kinship"], [*rows, ["unknown", 0, unknown]])


def _texts(report: Mapping[str, Any], provenance: Provenance) -> str:
    """Lengths, refusals and languages."""
    texts = report["texts"]
    rows = [
        [side, *(texts[side].get(mark, "–") for mark in QUANTILES), texts["refusals"][side]]
        for side in ("chosen", "rejected")
    ]
    head = ["characters", "least", "quarter", "median", "three quarters", "greatest", "refusals"]
    sentences = f"\nThe chosen answer is the longer one in {texts['chosen_longer']:.1%} of the pairs. "
    sentences += "Refusals are counted by English phrases at the start of an answer.\n"
    if provenance.languages:
        total = sum(provenance.languages.values())
        sentences += f"\nDetected languages of {total} prompts:\n\n"
        sentences += _table(["language", "prompts"], provenance.languages.items())
    return _table(head, rows) + sentences


def _order(pairs: pl.DataFrame, report: Mapping[str, Any], settings: CurriculumSection) -> str:
    weights = ", ".join(
        f"{name} {weight:g}" for name, weight in sorted(settings.difficulty.items()) if weight
    )
    text = (
        f"Order `{settings.order}`, schedule `{settings.schedule}`; difficulty weighs {weights}. A narrow "
        "margin, near kin, "
        "disagreeing judges and a complex prompt make a pair difficult.\n\n"
    )
    if (remark := chance_order(pairs)) is not None:
        text += f"{remark}\n\n"
    return text + _table(["phase", "pairs"], report["phases"].items())


def _judges(provenance: Provenance) -> str:
    if not provenance.judges:
        return "Whoever made this card did not name the judges; table judges holds them.\n"
    versions = [[_plain(name), _plain(known)] for name, known in sorted(provenance.judges.items())]
    text = _table(["judge", "version"], versions)
    if provenance.bias is not None and provenance.bias.height:
        rows = [[_plain(_number(value)) for value in row] for row in provenance.bias.rows()]
        text += _opposite(provenance.bias)
        text += "\nTheir measured biases:\n\n" + _table(provenance.bias.columns, rows)
    return text


def _opposite(bias: pl.DataFrame) -> str:
    """How often each two judges prefer the other of two answers, such as a label and a score."""
    if not {"measure", "judge", "detail", "value", "n"} <= set(bias.columns):
        return ""
    rows = bias.filter(pl.col("measure") == "opposite_order", pl.col("value").is_not_null())
    lines = [
        f"- `{_plain(row['judge'])}` and `{_plain(row['detail'])}` prefer opposite answers in "
        f"{row['value']:.1%} of {row['n']} pairs that both decide"
        for row in rows.iter_rows(named=True)
    ]
    return "\n" + "\n".join(lines) + "\n" if lines else ""


def _licences(settings: CurriculumSection, provenance: Provenance) -> str:
    own = (
        f"This dataset: {settings.licence}.\n"
        if settings.licence
        else "No licence was named for this dataset.\n"
    )
    rows = [[_plain(name), _plain(known)] for name, known in sorted(provenance.licences.items())]
    return own + ("\n" + _table(["source", "licence"], rows) if rows else "")


def _hashes(provenance: Provenance) -> str:
    if not provenance.hashes:
        return "dvc.lock, beside the pipeline that made this folder, holds the hashes of its inputs.\n"
    return _table(
        ["input", "hash in dvc.lock"], ([name, f"`{md5}`"] for name, md5 in sorted(provenance.hashes.items()))
    )


def _table(head: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """What others wrote, in one line that is text and nothing else wherever the card is shown."""
    return "".join(f"&#{ord(c)};" if c in "&<>|[]`" else c for c in " ".join(text.split()))


def _number(value: object) -> str:
    """A number with four decimals at most; a dash for null."""
    if value is None:
        return "–"
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
