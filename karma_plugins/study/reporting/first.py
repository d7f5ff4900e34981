"""The first screen: six questions with their answers, before anything is scrolled."""

from __future__ import annotations

from collections.abc import Sequence

from karma_plugins.study.reporting import charts, findings
from karma_plugins.study.reporting.collecting import Out, Run
from karma_plugins.study.reporting.findings import Change
from karma_plugins.study.reporting.markup import Child, Html, interval, number, tag

#: Reasons of dropped pairs, and models of a family, that the first screen names.
REASONS, MODELS = 6, 8
#: What it says of data: the outs that matter most.
TELLING = ("data/prompts.parquet", "data/kinship.parquet", "data/pairs", "data/model", "data/heldout.parquet")


def screen(run: Run) -> Html:
    """The six questions."""
    changes = findings.changes(run.metrics("evaluate"))
    cards = [
        _card("Who is kin to whom?", _kin(run), "pool"),
        _card("What was dropped?", _dropped(run), "data"),
        _card("Did it help, and where?", _helped(changes), "results"),
        _card("What got worse?", _worse(run, changes), "answers"),
        _card("Is a judge biased?", _biased(run), "judges"),
        _card("Which bytes made this?", _bytes(run), "lineage"),
    ]
    return tag("section", cards, class_="cards", aria_label="Six questions, answered")


def _card(question: str, answer: Child, more: str) -> Html:
    link = tag("a", "more", href=f"#{more}", aria_label=f"more: {question}")
    return tag("article", tag("h2", question), answer, tag("p", link, class_="more"), class_="card")


def _kin(run: Run) -> Child:
    kin = findings.kin(run)
    if kin is None:
        return tag("p", "Kinship was not measured.")
    families: list[Child] = [
        tag(
            "li",
            tag("strong", f"{family.name}: "),
            _named(family.models),
            f" (in {family.sure:.0%} of resampled tables)",
        )
        for family in kin.families
    ]
    if kin.alone:
        families.append(tag("li", tag("strong", "alone: "), _named(kin.alone)))
    doubt = f"{kin.uncertain} of {kin.pairs} pairs are uncertain"
    if kin.unknown:
        doubt += f", {kin.unknown} unknown"
    if kin.cut is None:
        return [tag("p", f"By metric {kin.metric}; no table of families."), tag("p", f"{doubt}.")]
    if kin.one:
        return [
            tag("p", f"Nothing tells the models apart by metric {kin.metric}: all are one family."),
            tag("p", f"{doubt}."),
        ]
    head = f"By metric {kin.metric}, families cut at a relative kinship of {kin.cut:.2f}; {doubt}."
    return [tag("p", head), tag("ul", families)]


def _named(models: Sequence[str]) -> str:
    more = f" and {len(models) - MODELS} more" if len(models) > MODELS else ""
    return ", ".join(models[:MODELS]) + more


def _dropped(run: Run) -> Child:
    funnel = findings.funnel(run.metrics("curriculum"))
    if funnel is None:
        return tag("p", "No pairs were made.")
    share = funnel.kept / funnel.possible if funnel.possible else 0.0
    head = tag(
        "p",
        tag("strong", f"{funnel.kept:,} of {funnel.possible:,}"),
        f" possible pairs are kept ({share:.1%}).",
    )
    return [
        head,
        bars(funnel.dropped[:REASONS], funnel.possible, "Pairs dropped, by reason"),
        _rest(len(funnel.dropped) - REASONS),
    ]


def _rest(count: int) -> Child:
    return tag("p", f"and {count} more reasons") if count > 0 else None


def bars(rows: Sequence[tuple[str, int]], whole: int, caption: str) -> Html:
    """Counts with bars, each a share of the whole."""
    body = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            tag("td", f"{count:,}", class_="count"),
            tag(
                "td",
                tag("span", style=f"width:{100 * count / max(whole, 1):.1f}%"),
                class_="bar",
                aria_hidden="true",
            ),
        )
        for name, count in rows
    ]
    head = tag(
        "tr", [tag("th", name, scope="col") for name in ("reason", "pairs")], tag("td", aria_hidden="true")
    )
    return tag("table", tag("caption", caption), tag("thead", head), tag("tbody", body), class_="bars")


def _helped(changes: Sequence[Change]) -> Child:
    if not changes:
        return tag("p", "Nothing was evaluated.")
    overall = changes[0]
    return [
        tag(
            "p",
            tag("strong", word(overall), ": "),
            f"held-out accuracy {overall.before:.3f} → {overall.after:.3f}, ",
            f"{interval(overall.difference, overall.low, overall.high)}; ",
            f"it wins {number(overall.win_rate)} of {overall.n} prompts.",
        ),
        chart(changes),
    ]


def chart(changes: Sequence[Change]) -> Html:
    """The differences with their intervals, those that fell in red."""
    rows = [
        {
            "label": f"{'benchmark: ' if change.kind == 'benchmark' else 'held-out: '}{change.competency}",
            "value": round(change.difference, 4),
            "low": change.difference if change.low is None else round(change.low, 4),
            "high": change.difference if change.high is None else round(change.high, 4),
            "bad": change.is_lower,
        }
        for change in changes
    ]
    title = "aligned minus base, 95% interval; red triangles fell"
    return Html(charts.svg(charts.intervals(rows, title), "Difference of aligned and base model"))


def word(change: Change) -> Html:
    """What became of a figure in a word, red where it fell."""
    return tag("span", change.word, class_="bad" if change.is_lower else None)


def _worse(run: Run, changes: Sequence[Change]) -> Child:
    lower = sorted((change for change in changes if change.is_lower), key=lambda change: change.difference)
    if not changes:
        return tag("p", "Nothing was evaluated, so nothing is known to be worse.")
    words: list[Child] = [
        tag(
            "li",
            tag("strong", f"{change.kind}, {change.competency}: ", class_="bad"),
            f"{change.before:.3f} → {change.after:.3f}, ",
            tag(
                "span", f"{interval(change.difference, change.low, change.high)} {change.word}", class_="bad"
            ),
        )
        for change in lower
    ]
    head: Child = tag("ul", words) if words else tag("p", "No competency and no benchmark fell.")
    counts = findings.outcomes(run.table("heldout"))
    if not counts:
        return head
    return [
        head,
        tag(
            "p",
            f"Of {sum(counts.values())} held-out prompts ",
            tag("strong", f"{counts['worse']} got worse", class_="bad"),
            f", {counts['better']} better, {counts['unchanged']} are unchanged.",
        ),
    ]


def _biased(run: Run) -> Child:
    habits = findings.habits(run.table("bias"))
    if not habits:
        return tag("p", "No jury's bias report is there.")
    judged = [habit for habit in habits if habit.measure in findings.HABITS]
    shown = [habit for habit in judged if habit.says and habit.judge != "the rewards"]
    words: list[Child] = [
        tag(
            "li",
            tag("strong", f"{habit.judge}: {habit.says}", class_="bad"),
            f" {habit.detail} ".replace("  ", " "),
            f"({interval(habit.value, habit.low, habit.high, '')}, fair {number(habit.fair, 1)})",
        )
        for habit in shown
    ]
    clear = [
        habit
        for habit in judged
        if not habit.says and habit.value is not None and habit.judge != "the rewards"
    ]
    parts: list[Child] = [tag("ul", words)] if words else [tag("p", "No habit is found.")]
    if clear:
        names = ", ".join(
            sorted({f"{habit.judge} ({habit.measure.replace('_', ' ')})" for habit in clear})[:4]
        )
        parts.append(tag("p", f"Nothing found: {names}."))
    parts.append(tag("p", _unmeasured(habits)))
    return [*parts, _failed(run)]


def _unmeasured(habits: Sequence[findings.Habit]) -> str:
    judges = {habit.judge for habit in habits} - {"the rewards"}
    nepotism = [habit for habit in habits if habit.measure == "nepotism"]
    if not nepotism:
        return "Nepotism is not measured: no judge says whom it is kin to (kin_to)."
    unknown = sorted({habit.reason for habit in nepotism if habit.value is None})
    if unknown:
        return f"Nepotism is not known: {'; '.join(unknown)}."
    return f"{len(judges)} judges, {len(nepotism)} relations of kin measured."


def _failed(run: Run) -> Child:
    judges = run.table("judges")
    if judges is None:
        return None
    failed = judges.filter(judges["failed"] > 0)
    if failed.is_empty():
        return tag("p", f"No verdict of {judges.height} judge{'s' * (judges.height != 1)} failed.")
    words = ", ".join(f"{row['judge']} {row['failed']:,}" for row in failed.iter_rows(named=True))
    return tag("p", tag("strong", "Failed verdicts: ", class_="bad"), f"{words}.")


def _bytes(run: Run) -> Child:
    by_path = {out.path: out for out in run.outs}
    rows = [
        tag(
            "tr",
            tag("th", path, scope="row"),
            tag("td", tag("code", out.digest[:12], title=out.digest)),
            tag("td", state(run, out)),
        )
        for path in TELLING
        if (out := by_path.get(path))
    ]
    head = tag("tr", [tag("th", name, scope="col") for name in ("data", "hash in dvc.lock", "here")])
    words = tag(
        "table", tag("caption", "What was made", class_="away"), tag("thead", head), tag("tbody", rows)
    )
    commit = run.commit
    where: Child = "no commit of git"
    if commit is not None:
        where = [
            "commit ",
            tag("code", commit.sha[:10]),
            " with changes that are not committed" if commit.dirty else "",
        ]
    restored = restoring(run)
    return [tag("p", "Made on ", where, "."), words, tag("p", tag("code", restored[0])) if restored else None]


def state(run: Run, out: Out) -> Html:
    """Whether the bytes that were read are those of dvc.lock."""
    if run.sha:
        return tag("span", "as committed")
    differs = run.differs(out)
    if differs is None:
        return tag("span", "not here" if not (run.folder / out.path).exists() else "not checked")
    return tag("span", "other bytes", class_="bad") if differs else tag("span", "same bytes")


def restoring(run: Run) -> list[str]:
    """Commands that bring the data back."""
    commit = run.commit
    if commit is None or not run.outs:
        return []
    commands = [f"git checkout {commit.sha[:10]} && dvc checkout"]
    if commit.dirty:
        commands = ["git commit -a  # first: a hash of dvc.lock leads nowhere before it is committed"]
    return [*commands, "karma lineage data/model", "karma verify"]
