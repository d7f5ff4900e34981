"""Two runs compared: headline figures, params and data that differ, and the same prompts answered by both."""

from __future__ import annotations

import math
from collections.abc import Iterator

import polars as pl

from karma_plugins import lineage
from karma_plugins.study.reporting import findings, sections
from karma_plugins.study.reporting.collecting import Run
from karma_plugins.study.reporting.markup import Child, Html, grid, interval, number, tag

#: Figures that are worse when they rise.
WORSE_ABOVE = ("answers_worse", "verdicts_failed")
#: Figures of which more is neither better nor worse.
NEUTRAL = ("pairs", "pairs_kept", "families", "accuracy_base")
Z = 1.959963984540054


def section(run: Run, other: Run) -> Html:
    """This run against another."""
    name = other.rev or "the workspace"
    return sections.section(
        "comparison",
        f"Compared with {name}",
        _prompts(run, other),
        _figures(run, other, name),
        _pairs(run, other),
        _params(run, other, name),
        _data(run, other, name),
    )


def _prompts(run: Run, other: Run) -> Iterator[Child]:
    """The aligned models of both, on the held-out prompts that count in both."""
    mine, theirs = (_aligned(r.table("heldout")) for r in (run, other))
    if mine is None or theirs is None:
        yield tag(
            "p",
            "One of the two has no table of held-out answers, so they can't be compared prompt by prompt.",
        )
        return
    both = mine.join(theirs, on=["prompt_id", "competency"], suffix="_other").sort("prompt_id")
    if both.is_empty():
        yield tag("p", "No held-out prompt counts in both.")
        return
    rows = []
    whole = [
        ("all", both),
        *(
            (str(name), part)
            for (name,), part in sorted(both.group_by("competency"), key=lambda g: str(g[0][0]))
        ),
    ]
    for name, part in whole:
        change = findings.Change("held-out prompts", name, part.height, *paired(part))
        rows.append(
            [
                name,
                f"{change.n}",
                number(change.before),
                number(change.after),
                interval(change.difference, change.low, change.high),
                tag("span", change.word, class_="bad" if change.is_lower else None),
            ]
        )
    yield grid(
        (
            "competency",
            "prompts",
            "aligned model there",
            "aligned model here",
            "difference [95%]",
            "in a word",
        ),
        rows,
        "Accuracy of both aligned models on the same held-out prompts, paired by prompt",
    )


def _aligned(heldout: pl.DataFrame | None) -> pl.DataFrame | None:
    if heldout is None:
        return None
    return heldout.filter("counted").group_by("prompt_id", "competency").agg(pl.col("aligned_reward").mean())


def paired(both: pl.DataFrame) -> tuple[float, float, float, float | None, float | None]:
    """Mean there, here, their difference and its 95% interval, with the prompt as the unit."""
    change = both["aligned_reward"] - both["aligned_reward_other"]
    mean = float(change.mean())  # type: ignore[arg-type]
    there, here = (float(both[name].mean()) for name in ("aligned_reward_other", "aligned_reward"))  # type: ignore[arg-type]
    if both.height < 2:
        return there, here, mean, None, None
    half = Z * float(change.std()) / math.sqrt(both.height)  # type: ignore[arg-type]
    return there, here, mean, mean - half, mean + half


def _figures(run: Run, other: Run, name: str) -> Html:
    here, there = findings.headline(run), findings.headline(other)
    rows: list[list[Child]] = []
    for key in dict.fromkeys([*here, *there]):
        mine, theirs = here.get(key), there.get(key)
        rows.append([key.replace("_", " "), number(theirs), number(mine), _change(key, theirs, mine)])
    return grid(("figure", name, "here", "difference"), rows, "Headline figures")


def _change(key: str, before: float | None, after: float | None) -> Child:
    if before is None or after is None:
        return "unknown"
    change = after - before
    worse = key not in NEUTRAL and change * (-1 if key in WORSE_ABOVE else 1) < 0
    return tag("span", f"{change:+.3f} worse", class_="bad") if worse else f"{change:+.3f}"


def _pairs(run: Run, other: Run) -> Child:
    mine, theirs = run.table("pairs"), other.table("pairs")
    if mine is None or theirs is None:
        return None
    keys = ["chosen_id", "rejected_id"]
    shared = mine.select(keys).join(theirs.select(keys), on=keys, how="semi").height
    return tag("p", f"{shared:,} pairs are in both: {mine.height:,} here, {theirs.height:,} there.")


def _params(run: Run, other: Run, name: str) -> Child:
    here, there = lineage.flatten(run.params), lineage.flatten(other.params)
    differing = [key for key in sorted(here.keys() | there.keys()) if here.get(key) != there.get(key)]
    if not differing:
        return tag("p", "No param differs.")
    rows = [[key, str(there.get(key, "")), str(here.get(key, ""))] for key in differing]
    return grid(("param", name, "here"), rows, "Params that differ")


def _data(run: Run, other: Run, name: str) -> Child:
    here, there = ({out.path: out.digest for out in r.outs} for r in (run, other))
    differing = [
        path for path in [*here, *(p for p in there if p not in here)] if here.get(path) != there.get(path)
    ]
    if not differing:
        return tag("p", "All outs have the same bytes.")
    rows = [
        [path, tag("code", there.get(path, "")[:12]), tag("code", here.get(path, "")[:12])]
        for path in differing
    ]
    return grid(("out", name, "here"), rows, "Data that differs")
