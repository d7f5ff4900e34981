"""A pipeline's run on one page that needs nothing but itself: `karma report`.

`collecting` knows where a run's files lie, `findings` what they say, `charts` draws, `browsing` takes rows
to filter, `first` and `sections` write what is seen, `against` compares two runs.
"""

from __future__ import annotations

from pathlib import Path

from karma_plugins.errors import installed, needs
from karma_plugins.study.reporting import against as comparison
from karma_plugins.study.reporting import first, sections
from karma_plugins.study.reporting.collecting import SUMMARY, ReportError, Run, collect, read
from karma_plugins.study.reporting.findings import PLOTS, headline, points
from karma_plugins.study.reporting.markup import Child, Html, join, tag

__all__ = [
    "PLOTS",
    "SUMMARY",
    "ReportError",
    "Run",
    "collect",
    "headline",
    "lacking",
    "page",
    "points",
    "read",
]

PARTS = {
    "comparison": "Comparison", "results": "Results", "answers": "Held-out answers", "pool": "Pool",
    "data": "Data",
    "pairs": "Pairs", "judges": "Judges", "training": "Training", "lineage": "Lineage",
}  # fmt: skip


def lacking() -> str | None:
    """What a page needs that is not installed, in one line."""
    return None if installed("vl_convert") else str(needs("vl_convert", "karma: the page report.html"))


def page(run: Run, against: Run | None = None) -> str:
    """The report as HTML; NotInstalledError without the package that draws charts."""
    pairs, heldout = sections.browsers(run)
    parts = {
        "comparison": comparison.section(run, against) if against else None,
        "results": sections.results(run),
        "answers": sections.browse_heldout(heldout),
        "pool": sections.pool(run),
        "data": sections.made(run),
        "pairs": sections.browse_pairs(pairs),
        "judges": sections.judges(run),
        "training": sections.training(run),
        "lineage": sections.lineage(run),
    }
    screen = first.screen(run)
    links = [tag("a", PARTS[name], href=f"#{name}") for name, part in parts.items() if part is not None]
    body = [
        tag(
            "header",
            tag("h1", _title(run)),
            tag("p", _asked(run), class_="soft"),
            tag("nav", links, aria_label="Parts"),
        ),
        tag("main", screen, [part for part in parts.values() if part is not None]),
        tag(
            "footer",
            tag(
                "p",
                "Made by karma report (karma-plugins); the page loads nothing from elsewhere.",
                class_="soft",
            ),
        ),
    ]
    return "<!doctype html>\n" + _document(f"karma report: {_title(run)}", body)


def _document(title: str, body: Child) -> Html:
    here = Path(__file__).parent
    style, script = ((here / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("title", title),
        tag("style", Html(style)),
    ]
    return tag("html", tag("head", head), tag("body", join(body), tag("script", Html(script))), lang="en")


def _title(run: Run) -> str:
    name = run.rev or "the workspace"
    return f"{run.folder.resolve().name}, {name}"


def _asked(run: Run) -> str:
    """What was asked, in one line."""
    curriculum, train = (run.params.get(name) or {} for name in ("curriculum", "train"))
    words = [
        f"{len(run.models)} models",
        f"judges: {', '.join(run.judges) or 'none'}",
        f"pairing {curriculum['pairing']}" if "pairing" in curriculum else "",
        f"objective {train['objective']} on {train['base']}" if "objective" in train else "",
    ]
    return " · ".join(part for part in words if part)
