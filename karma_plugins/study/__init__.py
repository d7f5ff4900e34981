"""Pairings and objectives compared over seeds: what each arm gained, and which differences are real.

An arm is a pairing under an objective, in one of the study's conditions. All arms of a seed on a zoo start
from the same answers and are evaluated with the same noise, so that arms are compared seed by seed; with
several zoos also zoo by zoo, as seeds of one zoo are no sample of zoos.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from karma_plugins.runtime import statistics
from karma_plugins.schemas import STUDY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The difference of accuracy that a study is to show.
TELLING = 0.02
ALL = "all"
MEASURES = ("difference", "win_rate")
ARM = ("objective", "pairing")


def rows(
    objective: str,
    pairing: str,
    seed: int,
    evaluation: Mapping[str, Any],
    pairs: int,
    steps: int,
    *,
    condition: str = "",
    zoo: int | None = None,
) -> pl.DataFrame:
    """One run as rows of table `study`: competency `all` and each of them, from what evaluate measured."""
    blocks = [(ALL, evaluation), *evaluation["competency"].items()]
    return pl.DataFrame(
        [
            {
                "objective": objective,
                "pairing": pairing,
                "condition": condition,
                "zoo": zoo,
                "seed": seed,
                "competency": competency,
                "pairs": pairs,
                "steps": steps,
                "base": block["accuracy"]["base"]["mean"],
                "aligned": block["accuracy"]["aligned"]["mean"],
                "difference": block["accuracy"]["difference"]["mean"],
                "win_rate": block["win_rate"]["mean"],
            }
            for competency, block in blocks
        ],
        schema=STUDY.columns,
    )


def arms(runs: pl.DataFrame) -> pl.DataFrame:
    """What each arm gained: mean over seeds and its 95% t-interval, from table `study`.

    Columns objective, pairing, condition, competency, seeds (over all zoos), pairs and steps (least over
    seeds), and for the difference of accuracy to the base and for the win rate: mean, sd, low, high. sd, low
    and high are null for one seed.
    """
    rows_ = []
    for (objective, pairing, condition, competency), part in _groups(runs, [*ARM, "condition", "competency"]):
        row = {"objective": objective, "pairing": pairing, "condition": condition, "competency": competency}
        row |= {"seeds": part.height}
        row |= {"pairs": part["pairs"].min(), "steps": part["steps"].min()}
        for measure in MEASURES:
            row |= {f"{measure}_{k}": v for k, v in _interval(part[measure].to_list()).items()}
        rows_.append(row)
    return pl.DataFrame(rows_, infer_schema_length=None).sort(*ARM, "condition", "competency")


def comparisons(runs: pl.DataFrame) -> pl.DataFrame:
    """Every two arms that differ in pairing or in objective alone, compared seed by seed in each condition.

    Columns measure, competency, condition, objective_a, pairing_a, objective_b, pairing_b, seeds (that both
    have), mean of a minus b, its 95% t-interval low and high, p of the paired t-test, p_holm (Holm 1979, over
    all comparisons of that measure and competency), detectable (the difference that so many seeds show with a
    power of 0.8), seeds_needed (to show 0.02 so). With several zoos mean, low, high and p are those of all
    seeds, zoos being a fixed effect: each zoo's own difference is taken out of the spread. zoos, zoo_low and
    zoo_high are the number of zoos and the t-interval of the mean with a zoo as the unit, zoo_least the least
    lower bound of any zoo's own interval. Null where fewer than two seeds or no spread leave it undefined.
    """
    rows_ = []
    for measure in MEASURES:
        for (competency,), every in _groups(runs, ["competency"]):
            tests = []
            for (condition,), part in _groups(every, ["condition"]):
                wide = {
                    arm: {
                        (zoo, seed): value
                        for zoo, seed, value in r.select("zoo", "seed", measure).iter_rows()
                    }
                    for arm, r in _groups(part, [*ARM])
                }
                tests += [
                    {"condition": condition, **_paired(a, b, wide[a], wide[b])}
                    for a, b in _comparable(sorted(wide))
                ]
            corrected = statistics.holm([test["p"] for test in tests])
            for test, p_holm in zip(tests, corrected, strict=True):
                rows_.append({"measure": measure, "competency": competency, **test, "p_holm": p_holm})
    return pl.DataFrame(rows_, schema=COMPARISONS)


COMPARISONS = pl.Schema(
    {
        "measure": pl.String, "competency": pl.String, "condition": pl.String,
        "objective_a": pl.String, "pairing_a": pl.String,
        "objective_b": pl.String, "pairing_b": pl.String, "seeds": pl.Int64, "mean": pl.Float64,
        "low": pl.Float64, "high": pl.Float64, "p": pl.Float64, "p_holm": pl.Float64,
        "detectable": pl.Float64, "seeds_needed": pl.Int64, "zoos": pl.Int64, "zoo_low": pl.Float64,
        "zoo_high": pl.Float64, "zoo_least": pl.Float64,
    }
)  # fmt: skip


def seeds_needed(sd: float, telling: float = TELLING) -> int | None:
    """Seeds with which a paired t-test at 0.05 shows a difference of `telling` with a power of 0.8.

    `sd` is that of the differences between two arms, seed by seed; null where no spread is known.
    """
    if not sd > 0:
        return None
    return next(n for n in range(2, 1_000_000) if statistics.detectable(sd, n) <= telling)


def report(runs: pl.DataFrame) -> str:
    """The study as Markdown: a table of arms, a table of comparisons, and what they say in words."""
    table, tests = arms(runs), comparisons(runs)
    several, conditions = runs["objective"].n_unique() > 1, runs["condition"].n_unique() > 1

    def arm(objective: str, pairing: str, condition: str = "") -> str:
        name = f"{pairing}, {objective}" if several else pairing
        return f"{condition}: {name}" if conditions and condition else name

    lines = [
        "| arm | seeds | pairs | steps | competency | accuracy, aligned minus base | win rate |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {arm(r['objective'], r['pairing'], r['condition'])} | {r['seeds']} | {r['pairs']} | {r['steps']} "
        f"| {r['competency']} | {_told(r, 'difference_', '+')} | {_told(r, 'win_rate_')} |"
        for r in table.iter_rows(named=True)
    ]
    lines += [
        "",
        "| a minus b, over all prompts | accuracy | p | p (Holm) | seeds for 0.02 | win rate | p (Holm) |",
        "|---|---|---|---|---|---|---|",
    ]
    overall = tests.filter(competency=ALL)
    wins = {_arms_of(r): r for r in overall.filter(measure="win_rate").iter_rows(named=True)}
    rows_ = overall.filter(measure="difference").to_dicts()
    for r in rows_:
        a, b = (arm(r[f"objective_{s}"], r[f"pairing_{s}"], r["condition"]) for s in "ab")
        win = wins[_arms_of(r)]
        lines.append(
            f"| {a} - {b} | {_told(r, '', '+')} | {_p(r['p'])} | {_p(r['p_holm'])} "
            f"| {r['seeds_needed'] or '?'} | {_told(win, '', '+')} | {_p(win['p_holm'])} |"
        )
    if runs["zoo"].n_unique() > 1:
        lines += [
            "",
            "| a minus b, accuracy | zoos | mean, a zoo as the unit | least lower bound of a zoo |",
            "|---|---|---|---|",
        ]
        for r in rows_:
            a, b = (arm(r[f"objective_{s}"], r[f"pairing_{s}"], r["condition"]) for s in "ab")
            bounds = {"mean": r["mean"], "low": r["zoo_low"], "high": r["zoo_high"]}
            least = "?" if r["zoo_least"] is None else f"{r['zoo_least']:+.3f}"
            lines.append(f"| {a} - {b} | {r['zoos']} | {_told(bounds, '', '+')} | {least} |")
    lines += ["", *(_words(r, arm) for r in rows_)]
    return "\n".join(lines) + "\n"


def picture(runs: pl.DataFrame) -> Figure:
    """Each arm's gain in accuracy, over all prompts and by competency, and its win rate; a dot a seed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = arms(runs)
    names = table.filter(competency=ALL).select(*ARM, "condition").rows()
    competencies = [ALL, *sorted(set(runs["competency"]) - {ALL})]
    panels = [("difference", c) for c in competencies] + [("win_rate", ALL)]
    figure = Figure(figsize=(2.0 + 2.3 * len(panels), 1.3 + 0.45 * len(names)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (measure, competency) in zip(grid, panels, strict=True):
        axes.axvline(0.0 if measure == "difference" else 0.5, color="#c8ccd2", lw=1)
        for row, (objective, pairing, condition) in enumerate(names):
            mine = {"objective": objective, "pairing": pairing, "condition": condition}
            mine |= {"competency": competency}
            dots = runs.filter(**mine)[measure].to_list()
            axes.plot(dots, [row + 0.18] * len(dots), ".", color="#8a929c", ms=4)
            for row_of_arm in table.filter(**mine).iter_rows(named=True):
                mean, low, high = (row_of_arm[f"{measure}_{k}"] for k in ("mean", "low", "high"))
                if low is not None:
                    axes.plot([low, high], [row, row], color="#2563a8", lw=2)
                axes.plot(mean, row, "o", color="#2563a8", ms=5)
        axes.set_title("win rate" if measure == "win_rate" else f"accuracy, {competency}", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=7)
    one = runs["objective"].n_unique() == 1
    grid[0].set_yticks(
        range(len(names)), [" ".join(filter(None, (c, p if one else f"{p}, {o}"))) for o, p, c in names]
    )
    grid[0].invert_yaxis()
    figure.supxlabel(
        "aligned minus base (win rate: against the base); mean and 95% interval over seeds", size=8
    )
    return figure


def _groups(runs: pl.DataFrame, by: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], pl.DataFrame]]:
    """The groups of runs in the order of their keys, rows by seed."""
    yield from sorted(runs.sort("zoo", "seed").group_by(by, maintain_order=True), key=lambda group: group[0])


def _comparable(keys: Sequence[tuple[Any, ...]]) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    for i, a in enumerate(keys):
        yield from ((a, b) for b in keys[i + 1 :] if (a[0] == b[0]) != (a[1] == b[1]))


def _interval(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, standard deviation and t-interval of the mean."""
    interval = statistics.t_interval([values])
    return {key: interval[key] for key in ("mean", "sd", "low", "high")}


Runs = Mapping[tuple[int | None, int], float]


def _paired(a: tuple[Any, ...], b: tuple[Any, ...], of_a: Runs, of_b: Runs) -> dict[str, Any]:
    shared = sorted(of_a.keys() & of_b.keys(), key=lambda run: (run[0] is not None, run))
    row = {"objective_a": a[0], "pairing_a": a[1], "objective_b": b[0], "pairing_b": b[1]}
    row |= {"seeds": len(shared), "mean": None, "low": None, "high": None}
    row |= {"p": None, "detectable": None, "seeds_needed": None}
    if not shared:
        return row
    zoos: dict[int | None, list[float]] = {}
    for run in shared:
        zoos.setdefault(run[0], []).append(of_a[run] - of_b[run])
    return row | _fixed(list(zoos.values())) | _by_zoo(list(zoos.values()))


def _fixed(zoos: Sequence[Sequence[float]]) -> dict[str, Any]:
    """The mean of all differences with its t-interval, each zoo's own mean taken out of their spread."""
    interval = statistics.t_interval(zoos)
    sd = interval.pop("sd")
    if interval["p"] is None or sd is None:
        return {**interval}
    n = sum(len(zoo) for zoo in zoos)
    return {**interval, "detectable": statistics.detectable(sd, n), "seeds_needed": seeds_needed(sd)}


def _by_zoo(zoos: Sequence[Sequence[float]]) -> dict[str, Any]:
    """The interval of the mean with a zoo as the unit, and the least lower bound of a zoo's own interval."""
    if len(zoos) < 2:
        return {"zoos": len(zoos), "zoo_low": None, "zoo_high": None, "zoo_least": None}
    between = _interval([float(np.mean(zoo)) for zoo in zoos])
    lows = [_interval(zoo)["low"] for zoo in zoos]
    known = [low for low in lows if low is not None]
    least = min(known) if len(known) == len(lows) else None
    return {
        "zoos": len(zoos), "zoo_low": between["low"], "zoo_high": between["high"], "zoo_least": least,
    }  # fmt: skip


def _arms_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["condition"], *(row[f"{key}_{side}"] for side in "ab" for key in ARM)


def _told(row: Mapping[str, Any], prefix: str, sign: str = "") -> str:
    mean, low, high = (row[f"{prefix}{key}"] for key in ("mean", "low", "high"))
    if mean is None:
        return "unknown"
    interval = "" if low is None else f" [{low:{sign}.3f}, {high:{sign}.3f}]"
    return f"{mean:{sign}.3f}{interval}"


def _p(value: float | None) -> str:
    return "?" if value is None else ("<0.001" if value < 0.001 else f"{value:.3f}")


def _words(row: Mapping[str, Any], arm: Any) -> str:
    """What one comparison says."""
    a, b = (arm(row[f"objective_{s}"], row[f"pairing_{s}"], row["condition"]) for s in "ab")
    if row["p"] is None:
        return f"- {a} against {b}: nothing can be said from {row['seeds']} seeds without spread."
    if row["p_holm"] < 1 - statistics.LEVEL:
        better, worse = (a, b) if row["mean"] > 0 else (b, a)
        return f"- {better} is better than {worse} by {abs(row['mean']):.3f} of accuracy."
    return (
        f"- {a} and {b} do not differ measurably ({row['mean']:+.3f}); a difference of "
        f"{row['detectable']:.3f} would have shown in four of five such studies."
    )
