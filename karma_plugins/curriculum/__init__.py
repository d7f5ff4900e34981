"""From judged answers to an ordered curriculum of preference pairs."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from karma_plugins.contracts import Pairing, PairingContext
from karma_plugins.curriculum import candidates, caps, target
from karma_plugins.curriculum.answers import Answers, Bools, Floats, Ints, judged
from karma_plugins.curriculum.candidates import KinshipLookup, Pairs
from karma_plugins.curriculum.difficulty import arrange, difficulty
from karma_plugins.curriculum.report import chance_order, report, why_empty
from karma_plugins.errors import EmptyResultError, ParamsError, PluginError
from karma_plugins.params import CurriculumSection
from karma_plugins.registry import Bound
from karma_plugins.runtime.noise import mixed
from karma_plugins.schemas import JUDGEMENTS, PAIRS

Judgements: TypeAlias = pl.DataFrame | pl.LazyFrame | None


@dataclass(frozen=True)
class Curriculum:
    """Pairs in training order (table `pairs`), and a report of what was kept, what was dropped and why."""

    pairs: pl.DataFrame
    report: dict[str, Any]


@dataclass(frozen=True)
class Chosen:
    """Pairs that a pairing found eligible, with what decides which of them are kept."""

    pairs: Pairs
    kinship: Floats
    priority: Floats
    noise: Floats

    def only(self, mask: Bools) -> Chosen:
        """The pairs where the mask is true, in order."""
        return Chosen(self.pairs.only(mask), self.kinship[mask], self.priority[mask], self.noise[mask])


def build(
    prompts: pl.DataFrame,
    responses: pl.DataFrame | pl.LazyFrame,
    rewards: pl.DataFrame | pl.LazyFrame,
    kinship: pl.DataFrame,
    pairing: Bound[Pairing],
    settings: CurriculumSection,
    judgements: pl.DataFrame | pl.LazyFrame | None = None,
    scores: pl.DataFrame | None = None,
) -> Curriculum:
    """Pair the answers to each training prompt and order the pairs.

    All tables in their schemas, rows in any order; responses and rewards may be lazy, their texts are then
    read only where they are needed; of judgements only those of `settings.perplexity` and of
    `settings.likelihood` count; `scores` are the profiles, for pairings that look at them. Candidates are
    formed some prompts at a time; texts are joined last, for kept pairs only. Raises EmptyResultError where
    the settings leave no pair; it says which rule dropped how many.
    """
    target.check(settings.target, kinship)
    dropped: Counter[str] = Counter()
    answers = judged(
        prompts,
        responses,
        rewards,
        signatures=settings.similarity < 1,
        perplexities=_perplexities(judgements, settings),
        likelihoods=_likelihoods(judgements, settings),
    )
    metric = getattr(pairing.options, "metric", None)
    acting = candidates.acting(kinship, settings.kinship, metric)
    lookup = candidates.lookup(acting, answers, settings.kinship)
    context = PairingContext(acting, settings.seed, settings.target, kinship, scores)
    chosen = [
        _eligible(pairs, lookup, pairing, context, settings, dropped)
        for pairs in candidates.chunks(answers, settings, dropped)
    ]
    kept = _capped(_concatenated(chosen, answers), settings, dropped)
    if not len(kept.pairs):
        raise EmptyResultError(why_empty(answers, dropped))
    pairs = _with_texts(_ordered(kept, settings), responses)
    if settings.order != "shuffled" and (remark := chance_order(pairs)) is not None:
        warnings.warn(f"curriculum: {remark}", stacklevel=2)
    card = report(pairs, answers, dropped)
    if (stands := target.standing(pairs, kinship, settings.target)) is not None:
        card["target"] = stands
    return Curriculum(pairs, card)


def scoring_judges(settings: CurriculumSection, judges: pl.DataFrame) -> list[str]:
    """The judges whose judgements `build` needs, by name: those of `perplexity` and `likelihood`.

    ParamsError where the jury (table `judges`) did not hear one.
    """
    named = {"perplexity": settings.perplexity, "likelihood": settings.likelihood}
    for key, judge in named.items():
        if judge is not None and judge not in judges["judge"]:
            raise ParamsError(_unheard(judge, key))
    return sorted({judge for judge in named.values() if judge is not None})


def points(pairs: pl.DataFrame) -> pl.DataFrame:
    """What a plot shows of each pair: order, phase, difficulty, margin, kinship."""
    return pairs.sort("order").select("order", "phase", "difficulty", "margin", "kinship")


def _perplexities(judgements: Judgements, settings: CurriculumSection) -> pl.DataFrame | None:
    """The perplexity of every answer that the judge named in `settings.perplexity` scored."""
    if settings.perplexity is None:
        return None
    mine = _scored(judgements, settings.perplexity, "perplexity")
    return mine.select("response_id", perplexity=1.0 / pl.col("score"))


def _likelihoods(judgements: Judgements, settings: CurriculumSection) -> pl.DataFrame | None:
    """The likelihood of every answer that the judge named in `settings.likelihood` scored."""
    if settings.likelihood is None:
        if settings.likelier < 1 or settings.difficulty.get("likelihood", 0.0) > 0:
            raise ParamsError(
                "params.yaml, curriculum: `likelier` and `difficulty.likelihood` go by a judge that "
                "`likelihood` names. Name one of judge.judges whose plugin is 'likelihood'."
            )
        return None
    mine = _scored(judgements, settings.likelihood, "likelihood")
    return mine.select("response_id", likelihood="score")


def _scored(judgements: Judgements, judge: str, key: str) -> pl.DataFrame:
    known = JUDGEMENTS.empty() if judgements is None else judgements
    mine = known.lazy().filter(pl.col("judge") == judge, pl.col("score") > 0).collect()
    if mine.is_empty():
        raise ParamsError(_unheard(judge, key))
    return mine


def _unheard(judge: str, key: str) -> str:
    return (
        f"params.yaml, curriculum.{key}: no answer was scored by a judge '{judge}'. "
        "Name one of judge.judges whose plugin is 'likelihood'."
    )


def _eligible(
    pairs: Pairs,
    lookup: KinshipLookup,
    pairing: Bound[Pairing],
    context: PairingContext,
    settings: CurriculumSection,
    dropped: Counter[str],
) -> Chosen:
    """Ask the pairing about some prompts' candidates; drop repeated texts and what is over per_prompt."""
    kinship, noise = lookup.of(pairs), pairs.noise(settings.seed)
    table = candidates.frame(pairs, kinship, noise)
    answer = pairing.plugin.pair(table, context, pairing.options)
    _check(answer, table, pairing)
    reasons = answer["dropped"]
    for reason, count in reasons.drop_nulls().value_counts(sort=False).sort("dropped").iter_rows():
        dropped[f"{pairing.name}: {reason}"] += count
    priority = answer["priority"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    mask = reasons.is_null().to_numpy()
    chosen = Chosen(pairs, kinship, priority, noise).only(mask)
    if np.isnan(chosen.priority).any():
        raise PluginError(
            f"Pairing '{pairing.version}' gave an eligible pair no priority. Report it to its author."
        )
    if settings.repeats == "drop":
        first = _first_of_its_texts(chosen)
        dropped["repeated texts"] += int((~first).sum())
        chosen = chosen.only(first)
    if settings.per_prompt is not None:
        prompt = chosen.pairs.answers.prompt[chosen.pairs.a]
        within = caps.rank(prompt, chosen.priority, chosen.noise) < settings.per_prompt
        dropped["over per_prompt"] += int((~within).sum())
        chosen = chosen.only(within)
    return chosen


def _first_of_its_texts(chosen: Chosen) -> Bools:
    """Of pairs of the same prompt and the same two texts, whichever was chosen, the one that comes first."""
    answers = chosen.pairs.answers
    one, other = answers.digest[chosen.pairs.a], answers.digest[chosen.pairs.b]
    texts = mixed(mixed(np.minimum(one, other) + answers.prompt[chosen.pairs.a]) + np.maximum(one, other))
    first = np.ones(len(texts), dtype=bool)
    shared = np.flatnonzero(pl.Series(texts).is_duplicated().to_numpy())
    first[shared] = caps.rank(texts[shared], chosen.priority[shared], chosen.noise[shared]) == 0
    return first


def _check(answer: pl.DataFrame, given: pl.DataFrame, pairing: Bound[Pairing]) -> None:
    """PluginError where a pairing did not give its candidates back in order, with the columns it owes."""
    missing = [column for column in ("dropped", "priority") if column not in answer.columns]
    if missing:
        raise PluginError(
            f"Pairing '{pairing.version}' gave no column '{missing[0]}'. Report it to its author."
        )
    ids = ["response_a", "response_b"]
    if answer.height != given.height or not answer.select(ids).equals(given.select(ids)):
        raise PluginError(
            f"Pairing '{pairing.version}' changed the rows of its candidates: it must give them all back in "
            "order and "
            "say in column 'dropped' why a pair is not eligible. Report it to its author."
        )


def _concatenated(parts: list[Chosen], answers: Answers) -> Chosen:
    none = np.empty(0)
    whole = [Chosen(Pairs(answers, none.astype(int), none.astype(int)), none, none, none), *parts]
    pairs = Pairs(
        answers, np.concatenate([c.pairs.a for c in whole]), np.concatenate([c.pairs.b for c in whole])
    )
    return Chosen(
        pairs,
        np.concatenate([c.kinship for c in whole]),
        np.concatenate([c.priority for c in whole]),
        np.concatenate([c.noise for c in whole]),
    )


def _capped(chosen: Chosen, settings: CurriculumSection, dropped: Counter[str]) -> Chosen:
    """Apply the caps per pair of models, per model and in all, one after another."""
    if settings.per_model_pair is not None:
        one, other = _models(chosen.pairs)
        group = np.minimum(one, other) * (len(chosen.pairs.answers.models) + 1) + np.maximum(one, other)
        within = caps.rank(group, chosen.priority, chosen.noise) < settings.per_model_pair
        dropped["over per_model_pair"] += int((~within).sum())
        chosen = chosen.only(within)
    if settings.per_model is not None:
        order = caps.ranked(chosen.priority, chosen.noise)
        within = caps.per_member(order, *_models(chosen.pairs), settings.per_model)
        dropped["over per_model"] += int((~within).sum())
        chosen = chosen.only(within)
    if settings.budget is not None and len(chosen.pairs) > settings.budget:
        within = np.zeros(len(chosen.pairs), dtype=bool)
        within[caps.ranked(chosen.priority, chosen.noise)[: settings.budget]] = True
        dropped["over budget"] += int((~within).sum())
        chosen = chosen.only(within)
    return chosen


def _models(pairs: Pairs) -> tuple[Ints, Ints]:
    model = pairs.answers.model.astype(np.int64)
    return model[pairs.a], model[pairs.b]


def _ordered(kept: Chosen, settings: CurriculumSection) -> pl.DataFrame:
    """The kept pairs in training order, columns as in table `pairs` but without texts."""
    pairs, answers = kept.pairs, kept.pairs.answers
    prompt = answers.prompt[pairs.a]
    parts = {
        "margin": pairs.margin,
        "kinship": kept.kinship,
        "disagreement": pairs.disagreement,
        "complexity": answers.complexity[prompt],
        "likelihood": pairs.likelihood,
    }
    level = difficulty(parts, settings.difficulty)
    order, phase = arrange(level, parts, prompt, kept.noise, settings)
    a, b, prompt = pairs.a[order], pairs.b[order], prompt[order]
    return pl.DataFrame(
        {
            "order": np.arange(len(order)),
            "phase": phase,
            "prompt": answers.prompts["messages"].gather(prompt),
            "prompt_id": answers.prompts["prompt_id"].gather(prompt),
            "competency": answers.prompts["competency"].gather(prompt),
            "chosen_id": answers.ids.gather(a),
            "rejected_id": answers.ids.gather(b),
            "chosen_model": answers.models.gather(answers.model[a]),
            "rejected_model": answers.models.gather(answers.model[b]),
            "chosen_reward": answers.reward[a],
            "rejected_reward": answers.reward[b],
            **{
                name: pl.Series(part[order], nan_to_null=True)
                for name, part in parts.items()
                if name != "likelihood"
            },
            "chosen_likelihood": pl.Series(answers.likelihood[a], nan_to_null=True),
            "rejected_likelihood": pl.Series(answers.likelihood[b], nan_to_null=True),
            "difficulty": level[order],
        },
        schema_overrides={k: v for k, v in PAIRS.columns.items() if k not in ("chosen", "rejected")},
    )


def _with_texts(pairs: pl.DataFrame, responses: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    """Join the texts of kept answers, each as a conversation of one assistant message."""
    wanted = pl.concat([pairs["chosen_id"], pairs["rejected_id"]]).unique().alias("response_id")
    message = pl.struct(role=pl.lit("assistant"), content=pl.col("text"))
    texts = (
        responses.lazy()
        .select("response_id", "text")
        .join(pl.LazyFrame(wanted), on="response_id", how="semi")
        .select("response_id", message=pl.concat_list(message))
        .collect(engine="streaming")
    )
    for side in ("chosen", "rejected"):
        pairs = pairs.join(
            texts.rename({"response_id": f"{side}_id", "message": side}),
            on=f"{side}_id",
            how="left",
            maintain_order="left",
        )
    return pairs.select(PAIRS.columns.names())
