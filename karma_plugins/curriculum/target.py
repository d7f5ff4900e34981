"""How the pairs of a curriculum stand to the model that will be trained: whose answers it is to imitate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from karma_plugins.errors import ParamsError, did_you_mean
from karma_plugins.families import members, relative

#: Metrics that look at answers, the first that is measured tells.
OF_ANSWERS = ("style", "answers")
#: Share of chosen answers from strangers above which the user is warned: with half of them training has been
#: seen to ruin a model as much as with more, and pairs of one family have none (docs/evidence.md).
BEARABLE = 0.25


def check(target: str | None, kinship: pl.DataFrame) -> None:
    """Raise ParamsError where the target is none of the candidates, by table kinship."""
    known = {*kinship["model_a"], *kinship["model_b"]}
    if target is not None and known and target not in known:
        raise ParamsError(
            f"params.yaml, curriculum.target: no candidate is called '{target}'."
            f"{did_you_mean(target, known)} Name one of section models: {', '.join(sorted(known))}."
        )


def standing(pairs: pl.DataFrame, kinship: pl.DataFrame, target: str | None) -> dict[str, Any] | None:
    """Whose the chosen answers are, by the first metric of answers that is measured; null where none tells.

    `family` are the target's kin by that metric with itself, `chosen` the part of chosen answers that they
    gave and `pairs` that of pairs within them; `relative` the mean relative kinship of the chosen answers'
    models with the target.
    """
    overall = kinship.filter(pl.col("competency").is_null())
    metric = next((name for name in OF_ANSWERS if (overall["metric"] == name).any()), None)
    if metric is None or target is None or not pairs.height:
        return None
    rows = overall.filter(pl.col("metric") == metric)
    family = next((names for names in members(rows) if target in names), None)
    if family is None:
        return None
    near = rows.with_columns(near=relative(rows)).filter(
        (pl.col("model_a") == target) | (pl.col("model_b") == target)
    )
    likeness: dict[str, float | None] = {target: 1.0}
    for a, b, value in near.select("model_a", "model_b", "near").iter_rows():
        likeness[b if a == target else a] = value
    chosen, rejected = (pl.col(f"{side}_model").is_in(family) for side in ("chosen", "rejected"))
    of_chosen = pairs["chosen_model"].replace_strict(likeness, default=None, return_dtype=pl.Float64)
    return {
        "model": target,
        "metric": metric,
        "family": family,
        "chosen": pairs.select(chosen.mean()).item(),
        "pairs": pairs.select((chosen & rejected).mean()).item(),
        "relative": of_chosen.mean(),
    }


def warning(part: Mapping[str, Any] | None) -> str | None:
    """What to tell the user where many chosen answers come from models unlike the target."""
    if part is None or 1.0 - part["chosen"] <= BEARABLE:
        return None
    return (
        f"karma: {1.0 - part['chosen']:.0%} of the chosen answers come from models that answer unlike "
        f"'{part['model']}', which will be trained (not of its family by metric '{part['metric']}': "
        f"{', '.join(part['family'])}; mean relative kinship {part['relative'] or 0.0:.2f}). Such pairs can "
        "ruin it. See docs/evidence.md, or set curriculum.pairing: target-kin with `family: true`."
    )


def sentence(part: Mapping[str, Any]) -> str:
    """The standing in words, for the card."""
    family = ", ".join(f"`{name}`" for name in part["family"])
    return (
        f"To be trained: `{part['model']}`. By metric `{part['metric']}` its family is {family}. They gave "
        f"{part['chosen']:.1%} of the chosen answers, {part['pairs']:.1%} of the pairs are theirs alone."
    )
