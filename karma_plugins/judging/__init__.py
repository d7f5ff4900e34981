"""Judge: have every judge of the jury speak about the answers, and turn their votes into rewards.

A judge only ever sees answers that hold text; every other answer is a row with status `skipped` and a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from karma_plugins.contracts import Report, Verdicts
from karma_plugins.errors import ParamsError, TableError
from karma_plugins.judging import bias, nepotism
from karma_plugins.judging.hearing import IDENTICAL, Hearing, compared, recalled, scored
from karma_plugins.judging.jury import ballot, rewards, settle
from karma_plugins.params import JudgeSection
from karma_plugins.registry import Juror
from karma_plugins.runtime.shards import NoShards, Shards
from karma_plugins.schemas import COMPARISONS, JUDGEMENTS

MISSING, EMPTY = "no answer", "empty answer"


@dataclass(frozen=True, slots=True)
class Judged:
    """Tables `judgements`, `comparisons`, `rewards` and `bias`, and what they come to in numbers by name."""

    judgements: pl.DataFrame
    comparisons: pl.DataFrame
    rewards: pl.DataFrame
    bias: pl.DataFrame
    counts: dict[str, float]


def judge(
    prompts: pl.DataFrame,
    responses: pl.DataFrame,
    kinship: pl.DataFrame | None,
    jury: Sequence[Juror],
    settings: JudgeSection,
    *,
    recorded: Verdicts | None = None,
    shards: Shards | None = None,
    report: Report | None = None,
) -> Judged:
    """Judge the answers in table `responses` and turn the votes into rewards.

    `kinship` says whose answers a pairwise judge compares (null: all answers to a prompt). A judge's failure
    ends as a row with status `failed` and a reason. Raises ParamsError for a jury without weight, TableError
    where a response belongs to no prompt, and whatever KarmaError a judge raises about its options.
    """
    jurors = _seated(jury)
    answers = _answers(prompts, responses)
    pairs = _pairs(answers, kinship, settings) if any(j.judge.plugin.compare for j in jurors) else None
    hearing = Hearing(answers, settings.shard, shards or NoShards(), report)
    judgements, comparisons = [JUDGEMENTS.empty()], [COMPARISONS.empty()]
    for juror in jurors:
        plugin = juror.judge.plugin
        if plugin.score is not None:
            judgements.append(scored(juror.judge, plugin.score, hearing))
        if plugin.compare is not None and pairs is not None:
            comparisons.append(compared(juror.judge, plugin.compare, pairs, hearing))
        if plugin.recall is not None:
            found = recalled(juror.judge, plugin.recall, answers, recorded)
            judgements.append(found.judgements)
            comparisons.append(found.comparisons)
    said = Verdicts(pl.concat(judgements).sort(JUDGEMENTS.key), pl.concat(comparisons).sort(COMPARISONS.key))
    return _counted(said, answers, kinship, jurors, settings)


def _counted(
    said: Verdicts,
    answers: pl.DataFrame,
    kinship: pl.DataFrame | None,
    jurors: Sequence[Juror],
    settings: JudgeSection,
) -> Judged:
    """From what was said to rewards and the bias report; without kinship, nepotism is not measured."""
    names = [juror.judge.name for juror in jurors]
    settled = {name: settle(said.comparisons.filter(pl.col("judge") == name)) for name in names}
    votes = ballot(answers, said.judgements, settled, names, settings)
    kin_to = {} if kinship is None else {j.judge.name: j.kin_to for j in jurors if j.kin_to is not None}
    near = nepotism.closeness(votes, kinship, kin_to)
    favours, counted = nepotism.favours(votes, near, kin_to), votes
    if settings.nepotism_correction:
        counted = nepotism.corrected(votes, near, favours)
        favours = favours + nepotism.favours(counted, near, kin_to, "nepotism_after_correction")
    rewarded = rewards(counted, {juror.judge.name: juror.weight for juror in jurors}, settings.missing)
    habits = bias.report(votes, said, settled, rewarded, favours)
    counts = _counts(answers, said, rewarded) | bias.metrics(habits)
    return Judged(said.judgements, said.comparisons, rewarded, habits, counts)


def _seated(jury: Sequence[Juror]) -> list[Juror]:
    """The jurors by name; ParamsError where two share a name or none has a weight."""
    jurors = sorted(jury, key=lambda juror: juror.judge.name)
    names = [juror.judge.name for juror in jurors]
    if len(set(names)) < len(names):
        raise ParamsError(f"judge.judges: two judges have the same name ({', '.join(names)}). Rename one.")
    if not any(juror.weight > 0 for juror in jurors):
        raise ParamsError("judge.judges: no judge has a weight above 0. Give at least one a weight.")
    return jurors


def _answers(prompts: pl.DataFrame, responses: pl.DataFrame) -> pl.DataFrame:
    """All answers with what a judge sees, sorted; `unfit` says why one can't be judged, null where it can."""
    answers = responses.select("response_id", "prompt_id", "model", "sample", "text").join(
        prompts.select("prompt_id", "messages", "competency", "reference", "constraints"),
        on="prompt_id",
        how="left",
    )
    strangers = answers.filter(pl.col("messages").is_null())
    if strangers.height:
        model, prompt = strangers.select("model", "prompt_id").row(0)
        raise TableError(
            f"responses: {strangers.height} answers belong to no prompt in table prompts (first: '{prompt}' "
            f"by '{model}'). Run generate again, or correct the recorded answers."
        )
    empty = pl.col("text").str.strip_chars() == ""
    unfit = pl.when(pl.col("text").is_null()).then(pl.lit(MISSING)).when(empty).then(pl.lit(EMPTY))
    return answers.with_columns(unfit.alias("unfit")).sort("prompt_id", "response_id")


def _pairs(answers: pl.DataFrame, kinship: pl.DataFrame | None, settings: JudgeSection) -> pl.DataFrame:
    """The pairs of kin answers to one prompt, once for each order shown; `unfit` as for answers.

    Columns prompt_id, response_a, response_b (a < b), order, row_a, row_b (places in `answers`), unfit.
    """
    rows = answers.select("prompt_id", "response_id", "model", "competency", "text", "unfit").with_row_index(
        "row"
    )
    pairs = rows.join(rows.drop("competency"), on="prompt_id", suffix="_b").filter(
        pl.col("row") < pl.col("row_b")
    )
    if kinship is not None and settings.kin_radius < 1:
        pairs = _only_kin(pairs, kinship, 1 - settings.kin_radius)
    same = pl.when(pl.col("text") == pl.col("text_b")).then(pl.lit(IDENTICAL))
    pairs = pairs.select(
        "prompt_id",
        response_a="response_id",
        response_b="response_id_b",
        row_a="row",
        row_b="row_b",
        unfit=pl.coalesce("unfit", "unfit_b", same),
    )
    if settings.both_orders:
        pairs = pairs.join(pl.DataFrame({"order": ["ab", "ba"]}), how="cross")
    else:
        # The ids are hashes, so that the lesser one is any of the two models' answers by chance.
        pairs = pairs.with_columns(order=pl.lit("ab"))
    return pairs.sort("prompt_id", "response_a", "response_b", "order")


def _only_kin(pairs: pl.DataFrame, kinship: pl.DataFrame, least: float) -> pl.DataFrame:
    """The pairs whose models are one, or kin by the acting metric: overall, or in the prompt's competency."""
    acting = kinship.filter(pl.col("primary") & (pl.col("kinship") >= least)).select(
        "competency", "model_a", "model_b"
    )
    both = pl.concat([acting, acting.select("competency", model_a="model_b", model_b="model_a")])
    kin = pl.concat(
        [
            pairs.join(both.filter(pl.col("competency").is_null()).drop("competency"),
                       left_on=["model", "model_b"], right_on=["model_a", "model_b"], how="semi"),
            pairs.join(both, left_on=["competency", "model", "model_b"],
                       right_on=["competency", "model_a", "model_b"], how="semi"),
            pairs.filter(pl.col("model") == pl.col("model_b")),
        ]
    )  # fmt: skip
    return kin.unique(["row", "row_b"])


def _counts(answers: pl.DataFrame, said: Verdicts, rewarded: pl.DataFrame) -> dict[str, float]:
    """How many answers, verdicts by judge and status, and rewards there are; reasons are in table `bias`."""
    found: dict[str, float] = {
        "answers.all": answers.height,
        "answers.missing": answers.filter(pl.col("unfit") == MISSING).height,
        "answers.empty": answers.filter(pl.col("unfit") == EMPTY).height,
        "rewards.all": rewarded.height,
        "rewards.none": answers.height - rewarded.height,
    }
    for name, table in (("judgements", said.judgements), ("comparisons", said.comparisons)):
        for judge, status, count in (
            table.group_by("judge", "status").len().sort("judge", "status").iter_rows()
        ):
            found[f"{name}.{judge}.{status}"] = count
    return found
