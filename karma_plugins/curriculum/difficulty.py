"""How difficult each pair is, and the order and phases in which a trainer sees the pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np

from karma_plugins.curriculum import caps
from karma_plugins.curriculum.answers import Floats, Ints
from karma_plugins.errors import ParamsError
from karma_plugins.params import CurriculumSection

Part: TypeAlias = Literal["margin", "kinship", "disagreement", "complexity", "likelihood"]
#: Of these less is harder.
EASIER = ("margin", "likelihood")


def difficulty(parts: Mapping[str, Floats], weights: Mapping[Part, float]) -> Floats:
    """The weighted mean in [0,1] of what makes pairs difficult, of the parts that are known of a pair.

    `parts` holds margin and likelihood under the model to be trained (less is harder), kinship, disagreement
    and complexity (more is harder), NaN = unknown. Each is spread over [0,1] from the least to the greatest
    value among these pairs; a part that all pairs share counts 0. Raises ParamsError where nothing that is
    weighed is known of some pair.
    """
    weighed = {name: weight for name, weight in sorted(weights.items()) if weight > 0}
    total = np.zeros(len(parts["margin"]))
    known = np.zeros(len(total))
    for name, weight in weighed.items():
        level = _spread(-parts[name] if name in EASIER else parts[name])
        there = ~np.isnan(level)
        total += np.where(there, weight * level, 0.0)
        known += np.where(there, weight, 0.0)
    if (unknown := int((known == 0).sum())) or not weighed:
        names = ", ".join(weighed) or "nothing"
        raise ParamsError(
            f"params.yaml, curriculum.difficulty: weighs {names}, which is unknown of {unknown} of "
            f"{len(total)} pairs. "
            "Give margin a weight."
        )
    return total / known


def arrange(
    level: Floats, parts: Mapping[str, Floats], prompt: Ints, noise: Floats, settings: CurriculumSection
) -> tuple[Ints, Ints]:
    """The positions of pairs in training order, and the phase (from 0, without gaps) of each in that order.

    Schedules: `quantiles` cuts the order into phases of equal size; `ranks` puts the i-th pair of every
    prompt into phase i (Curri-DPO); `grid` cuts prompt complexity and closeness of rewards into `phases`
    levels each and walks the cells by the sum of both levels, of equal sums the wider margin first
    (2D-Curri-DPO's S+PD).
    """
    sign = -1.0 if settings.order == "hard-to-easy" else 1.0
    key = noise if settings.order == "shuffled" else sign * level
    if settings.schedule == "quantiles":
        order = caps.ranked(key, noise)
        return order, np.arange(len(order)) * settings.phases // max(len(order), 1)
    if settings.schedule == "ranks":
        stage = np.minimum(caps.rank(prompt, key, noise), settings.phases - 1)
    else:
        closeness = _levels(-parts["margin"], settings.phases)
        complexity = _levels(parts["complexity"], settings.phases)
        stage = (sign * ((closeness + complexity) * settings.phases + closeness)).astype(np.int64)
    order = caps.ranked(stage, key, noise)
    _, phase = np.unique(stage[order], return_inverse=True)
    return order, phase


def _spread(values: Floats) -> Floats:
    """Values stretched over [0,1]; 0 where all are equal, NaN where unknown."""
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return values
    least, most = known.min(), known.max()
    return (values - least) / (most - least) if most > least else values * 0.0


def _levels(values: Floats, levels: int) -> Ints:
    """Each value's level, from 0: levels of equal size by rank; equal values share the lower level."""
    place = np.searchsorted(np.sort(values), values, side="left")
    return place * levels // max(len(values), 1)
