"""What lies below the first screen: results, pool, data, judges, training, lineage; a section each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from karma_plugins.study.reporting import browsing, charts, findings, first
from karma_plugins.study.reporting.browsing import Rows
from karma_plugins.study.reporting.collecting import Run
from karma_plugins.study.reporting.markup import Child, Html, data, grid, interval, number, tag

#: A heatmap of more models is no picture any more: then the pairs are listed.
HEATMAP, LISTED = 40, 60
#: The colour of a full cell, on which dark text can still be read.
FULL = (110, 170, 215)
#: Curves of the training that come first; the rest follows by name.
FIRST_CURVES = ("loss", "rewards/accuracies", "rewards/margins", "reward", "kl")
CURVES = 9


def section(name: str, title: str, *children: Child) -> Html:
    """A section that the navigation leads to."""
    return tag(
        "section", tag("h2", title, id=f"{name}-title"), *children, id=name, aria_labelledby=f"{name}-title"
    )


def figure(spec: charts.Spec, caption: str) -> Html:
    """A chart with its caption."""
    return tag("figure", Html(charts.svg(spec, caption)), tag("figcaption", caption))


# --- results ------------------------------------------------------------------------------------------------


def results(run: Run) -> Html | None:
    """Held-out prompts and benchmarks, each with its interval and a word."""
    evaluation = run.metrics("evaluate")
    changes = findings.changes(evaluation)
    if not changes:
        return None
    rows = [
        [
            f"{change.kind}: {change.competency}",
            "unknown" if change.n is None else f"{change.n:,}",
            number(change.before),
            number(change.after),
            interval(change.difference, change.low, change.high),
            "" if change.win_rate is None else number(change.win_rate),
            first.word(change),
        ]
        for change in changes
    ]
    prompts = evaluation["prompts"]
    left = (
        f"{prompts['left_out']} of {prompts['asked']} held-out prompts are left out: missing or "
        f"not judged answers (base {prompts['unrewarded']['base']}, "
        f"aligned {prompts['unrewarded']['aligned']})."
    )
    return section(
        "results",
        "Results: the aligned model against its base",
        grid(
            ("measure", "n", "base", "aligned", "difference [95%]", "win rate", "in a word"),
            rows,
            "Worse and better: the interval of the difference leaves out zero",
        ),
        tag("p", left),
    )


# --- pool ---------------------------------------------------------------------------------------------------


def pool(run: Run) -> Html | None:
    """Profiles, and kinship with families, cuts and doubt, by every metric."""
    kinship, families = run.table("kinship"), run.table("families")
    parts: list[Child] = [_profiles(run.scores)]
    if kinship is not None:
        acting = findings.acting_metric(kinship)
        metrics = sorted(kinship["metric"].unique(), key=lambda name: (name != acting, name))
        for metric in metrics:
            rows = kinship.filter(pl.col("competency").is_null(), metric=metric)
            parts += _kinship(metric, rows, families, run.points("kinship"), acts=metric == acting)
    return section("pool", "The pool: what the models can do, and who is kin", *parts) if any(parts) else None


def _profiles(scores: pl.DataFrame) -> Child:
    if scores.is_empty():
        return None
    means = scores.group_by("model", "competency").agg(
        pl.col("score").mean(), pl.col("score").null_count().alias("missing")
    )
    values = {(model, competency): score for model, competency, score, _ in means.iter_rows()}
    competencies = sorted(scores["competency"].unique())
    models = list(dict.fromkeys(scores["model"]))
    rows = [[model, *(number(values.get((model, c))) for c in competencies)] for model in models]
    return grid(("model", *competencies), rows, "Profiles: mean benchmark score by competency")


def _kinship(
    metric: str, rows: pl.DataFrame, families: pl.DataFrame | None, points: pl.DataFrame | None, *, acts: bool
) -> Iterator[Child]:
    yield tag("h3", f"Kinship by {metric}", " (pairing and judging act on it)" if acts else "")
    own = families.filter(metric=metric) if families is not None else None
    if own is not None and not own.is_empty():
        names = dict(own.select("model", "family").iter_rows())
        cut = (
            f"Families are cut at a relative kinship of {own['cut'][0]:.2f}; a star marks a pair in doubt, "
            "a frame one family."
        )
    else:
        names, cut = {}, "No families are known by this metric; a star marks a pair in doubt."
    models = sorted({*rows["model_a"], *rows["model_b"]})
    if points is not None:
        cells = points.filter(metric=metric, competency="overall").unique("model_a").sort("order_a")
        models = [*cells["model_a"], *(m for m in models if m not in set(cells["model_a"]))]
    yield tag("p", cut)
    yield _heatmap(metric, models, rows, names) if len(models) <= HEATMAP else _nearest(rows)
    unknown = rows.filter(pl.col("kinship").is_null())
    for reason, count in unknown["reason"].value_counts(sort=True).iter_rows():
        yield tag("p", f"Unknown: {count} pairs ({reason}).")


def _heatmap(
    metric: str, models: Sequence[str], rows: pl.DataFrame, families: Mapping[str, str | None]
) -> Html:
    known: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows.iter_rows(named=True):
        known[row["model_a"], row["model_b"]] = known[row["model_b"], row["model_a"]] = row

    def cell(a: str, b: str) -> Html:
        row = known.get((a, b))
        if a == b or row is None or row["kinship"] is None:
            return tag("td", "·" if a == b else "?")
        share = float(row["kinship"])
        back = "".join(f"{round(255 + (full - 255) * share):02x}" for full in FULL)
        mates = families.get(a) is not None and families.get(a) == families.get(b)
        return tag(
            "td",
            f"{share:.2f}",
            "*" if row["uncertain"] else "",
            style=f"background:#{back}",
            class_="kept" if mates else None,
            title=f"{a}, {b}: {interval(share, row['low'], row['high'], '')}"
            + (", uncertain" if row["uncertain"] else ""),
        )

    head = tag("tr", tag("td"), [tag("th", name, scope="col") for name in models])
    body = [tag("tr", tag("th", a, scope="row"), [cell(a, b) for b in models]) for a in models]
    caption = f"Kinship by {metric}, models in the order of clustering"
    whole = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", body), class_="heat")
    return tag("div", whole, class_="scroll", tabindex="0", role="group", aria_label=caption)


def _nearest(rows: pl.DataFrame) -> Html:
    near = (
        rows.drop_nulls("kinship")
        .sort("kinship", "model_a", "model_b", descending=[True, False, False])
        .head(LISTED)
    )
    listed = [
        [
            f"{r['model_a']} and {r['model_b']}",
            interval(r["kinship"], r["low"], r["high"], ""),
            "in doubt" if r["uncertain"] else "",
        ]
        for r in near.iter_rows(named=True)
    ]
    return grid(("models", "kinship [95%]", ""), listed, f"The nearest {near.height} of {rows.height} pairs")


# --- data ---------------------------------------------------------------------------------------------------


def made(run: Run) -> Html | None:
    """The funnel, and what the kept pairs are like."""
    curriculum, pairs = run.metrics("curriculum"), run.table("pairs")
    funnel = findings.funnel(curriculum)
    parts: list[Child] = []
    if funnel is not None:
        rows = [*funnel.dropped, ("kept", funnel.kept)]
        parts.append(
            first.bars(rows, funnel.possible, f"From {funnel.possible:,} possible pairs to {funnel.kept:,}")
        )
    if pairs is not None and pairs.height:
        shown = [
            figure(charts.curriculum(pairs), "Difficulty in training order"),
            figure(charts.histogram(pairs["margin"], "margin of rewards"), "Margins"),
            figure(charts.lengths(pairs), "Lengths of chosen and rejected answers"),
        ]
        if pairs["kinship"].null_count() < pairs.height:
            shown.append(
                figure(
                    charts.histogram(pairs["kinship"], "kinship of the two models"), "Kinship of the pairs"
                )
            )
        parts += [tag("div", shown, class_="charts"), _winners(pairs)]
    return section("data", "The data: which pairs were kept", *parts) if parts else None


def _winners(pairs: pl.DataFrame) -> Html:
    chosen, rejected = (
        dict(pairs[f"{side}_model"].value_counts().iter_rows()) for side in ("chosen", "rejected")
    )
    models = sorted({*chosen, *rejected}, key=lambda name: (-chosen.get(name, 0), name))
    rows = []
    for model in models:
        won, lost = chosen.get(model, 0), rejected.get(model, 0)
        rows.append([model, f"{won:,}", f"{lost:,}", f"{won / (won + lost):.1%}"])
    return grid(("model", "chosen", "rejected", "share chosen"), rows, "Which models' answers win")


# --- browsers -----------------------------------------------------------------------------------------------


def browse_pairs(rows: Rows | None) -> Html | None:
    """Pairs to filter, with what every judge said."""
    if rows is None:
        return None
    fields = [
        _select("competency", "competency"),
        _select("chosen model", "chosen_model"),
        _select("rejected model", "rejected_model"),
        _select("phase", "phase"),
        *_range("margin", "margin"),
        *_range("kinship", "kinship"),
        _sorting(
            {
                "": "training order",
                "margin": "least margin first",
                "margin down": "greatest margin first",
                "kinship": "least kinship first",
                "kinship down": "greatest kinship first",
            }
        ),
    ]
    return section("pairs", "Pairs", *_browser("pairs", rows, fields))


def browse_heldout(rows: Rows | None) -> Html | None:
    """Held-out answers of both models, those that got worse first."""
    if rows is None:
        return None
    fields = [_select("outcome", "outcome"), _select("competency", "competency")]
    return section(
        "answers", "Held-out answers, those that got worse first", *_browser("heldout", rows, fields)
    )


def _browser(kind: str, rows: Rows, fields: Sequence[Child]) -> Iterator[Child]:
    if rows.how:
        yield tag(
            "p",
            tag("strong", f"A sample: {len(rows.rows):,} of {rows.whole:,} rows"),
            f" ({rows.how}); `karma show` has all.",
        )
    words = tag("label", "text contains", tag("input", type="search"))
    yield tag("form", words, fields, tag("button", "Clear", type="reset"), data_browser=kind)
    yield tag("p", id=f"count-{kind}", aria_live="polite")
    yield tag("noscript", tag("p", "Filtering needs JavaScript; `karma show` prints the same in a terminal."))
    yield tag("div", id=f"list-{kind}")
    turn = [
        tag("button", name, type="button", aria_label=f"{name} page of {kind}")
        for name in ("previous", "next")
    ]
    yield tag("p", turn[0], " ", turn[1], id=f"turn-{kind}")
    yield data({"columns": rows.columns, "rows": rows.rows}, f"data-{kind}")


def _select(label: str, column: str) -> Html:
    return tag("label", label, tag("select", tag("option", "any", value=""), data_column=column))


def _range(label: str, column: str) -> Iterator[Html]:
    for bound, words in (("least", "at least"), ("most", "at most")):
        yield tag(
            "label",
            f"{label} {words}",
            tag("input", type="number", step="any", data_column=column, data_bound=bound),
        )


def _sorting(orders: Mapping[str, str]) -> Html:
    options = [tag("option", words, value=value) for value, words in orders.items()]
    return tag("label", "sorted by", tag("select", options, data_sort=True))


# --- judges, training ---------------------------------------------------------------------------------------


def judges(run: Run) -> Html | None:
    """Who judged, how they agree, and what their habits are."""
    table, bias = run.table("judges"), run.table("bias")
    parts: list[Child] = []
    if table is not None:
        rows = [
            [
                r["judge"],
                r["version"],
                number(r["weight"], 2),
                f"{r['verdicts']:,}",
                f"{r['skipped']:,}",
                f"{r['failed']:,}",
            ]
            for r in table.iter_rows(named=True)
        ]
        parts.append(
            grid(("judge", "version", "weight", "verdicts", "skipped", "failed"), rows, "Who judged")
        )
    habits = findings.habits(bias)
    charted = [
        h for h in habits if h.measure in findings.HABITS and None not in (h.value, h.low, h.high, h.fair)
    ]
    if charted:
        rows_ = [
            {
                "label": f"{h.judge}: {h.measure.replace('_', ' ')}{f' ({h.detail})' if h.detail else ''}",
                "value": round((h.value or 0) - (h.fair or 0), 4),
                "low": round((h.low or 0) - (h.fair or 0), 4),
                "high": round((h.high or 0) - (h.fair or 0), 4),
                "bad": bool(h.says),
            }
            for h in charted[:HEATMAP]
        ]
        parts.append(
            figure(
                charts.intervals(rows_, "value minus what is fair, 95% interval"),
                "Habits of the judges; red triangles leave out what is fair",
            )
        )
    if habits:
        rows = [
            [
                h.measure.replace("_", " "),
                h.judge,
                h.detail,
                interval(h.value, h.low, h.high, ""),
                number(h.fair, 1) if h.fair is not None else "",
                f"{h.n:,}",
                tag("span", h.says, class_="bad") if h.says else h.reason,
            ]
            for h in habits
        ]
        parts.append(
            grid(
                ("measure", "judge", "with", "value [95%]", "fair", "n", "in words"),
                rows,
                "Agreement, flips, bias and failures (docs/judges.md says what each measures)",
            )
        )
    return section("judges", "The judges", *parts) if parts else None


def training(run: Run) -> Html | None:
    """Curves of the training, loss first."""
    points = run.points("train")
    if points is None or points.is_empty():
        return None
    names = set(points["metric"].unique())
    order = [*(name for name in FIRST_CURVES if name in names), *sorted(names - set(FIRST_CURVES))]
    shown = [figure(charts.curve(points, name), name) for name in order[:CURVES]]
    final = run.metrics("train")
    rows = [
        [name, number(float(value), 4)]
        for name, value in sorted(final.items())
        if isinstance(value, int | float)
    ]
    return section(
        "training",
        "The training",
        tag("div", shown, class_="charts"),
        grid(("metric", "at the end"), rows, "Final values"),
    )


# --- lineage ------------------------------------------------------------------------------------------------


def lineage(run: Run) -> Html:
    """Every out with its hash, what was asked, and the commands that bring it back."""
    rows = [
        [out.stage, out.path, tag("code", out.digest), "" if out.size is None else f"{out.size:,}"]
        for out in run.outs
    ]
    commands = first.restoring(run)
    return section(
        "lineage",
        "Lineage: what made this, and how to bring it back",
        [tag("pre", "\n".join(commands), tabindex="0", aria_label="Commands")]
        if commands
        else tag("p", "Nothing is committed, so no command brings this back."),
        grid(("stage", "out", "hash in dvc.lock", "bytes"), rows, "What each stage made")
        if rows
        else tag("p", "There is no dvc.lock."),
        tag("h3", "What was asked"),
        tag(
            "pre",
            json.dumps(run.params, indent=1, ensure_ascii=False, default=str),
            tabindex="0",
            aria_label="Params",
        ),
        [tag("p", f"Not read: {lacking}", class_="bad") for lacking in run.lacks],
    )


def browsers(run: Run) -> tuple[Rows | None, Rows | None]:
    """The rows of both browsers."""
    return browsing.pairs(run), browsing.heldout(run)
