"""Charts in the grammar of Vega-Lite, drawn as SVG where the page is made, so that the page needs no network.

Each function takes plain rows and gives a chart that fits a narrow screen. Every mark has its values as an
`aria-label`, which the page shows under the pointer.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from karma_plugins.errors import require

WIDTH = 250
#: Told apart by the colour-blind (Okabe and Ito 2008), and dark enough on white.
BLUE, RED, GREY, ORANGE = "#0072b2", "#b3261e", "#5f6670", "#b45309"
CONFIG = {
    "font": "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif",
    "axis": {
        "labelColor": "#30343a",
        "titleColor": "#30343a",
        "gridColor": "#e3e6ea",
        "labelLimit": 150,
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 11,
        # Numbers that would nearly touch are left out, each second one.
        "labelOverlap": "parity",
        "labelSeparation": 10,
    },
    "legend": {"labelFontSize": 11, "titleFontSize": 11, "orient": "top"},
    "header": {"labelFontSize": 11, "titleFontSize": 11},
    "view": {"stroke": None},
}
_NUMBERS = itertools.count()
Spec = dict[str, Any]


def svg(spec: Spec, label: str) -> str:
    """A chart as SVG with a name; NotInstalledError without the renderer."""
    require("A report", "vl_convert")
    import vl_convert

    drawn = str(vl_convert.vegalite_to_svg({"background": None, "config": CONFIG, **spec}))
    return _named(drawn, label)


def _named(drawn: str, label: str) -> str:
    """The SVG with a name, and with ids that no other chart of a page has."""
    from html import escape

    mark = f"c{next(_NUMBERS)}-"
    drawn = re.sub(r"<\w+ [^>]*>", _only_named, drawn)
    drawn = re.sub(r'\bid="', f'id="{mark}', drawn)
    drawn = drawn.replace("url(#", f"url(#{mark}").replace('xlink:href="#', f'xlink:href="#{mark}')
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)


def _only_named(element: re.Match[str]) -> str:
    """A tag without the role of a mark where it has no name that could be read out."""
    text = element[0]
    if "aria-label=" in text:
        return text
    return re.sub(r' role="graphics-symbol"| aria-roledescription="[^"]*"', "", text)


def intervals(rows: Sequence[Mapping[str, Any]], title: str, *, fair: float = 0.0) -> Spec:
    """Values with intervals (label, value, low, high, bad) around what is no change; bad ones in red."""
    order = list(dict.fromkeys(row["label"] for row in rows))
    colour = {"condition": {"test": "datum.bad", "value": RED}, "value": BLUE}
    return {
        "width": WIDTH,
        "height": {"step": 22},
        "data": {"values": list(rows)},
        "encoding": {"y": {"field": "label", "type": "nominal", "sort": order, "title": None}},
        "layer": [
            {
                "mark": {"type": "rule", "color": GREY, "strokeDash": [3, 3]},
                "encoding": {"x": {"datum": fair}, "y": None},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {
                    "x": {"field": "low", "type": "quantitative", "title": title},
                    "x2": {"field": "high"},
                    "color": colour,
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                "encoding": {
                    "x": {"field": "value", "type": "quantitative", "title": title},
                    "color": colour,
                    "shape": {
                        "condition": {"test": "datum.bad", "value": "triangle-down"},
                        "value": "circle",
                    },
                },
            },
        ],
    }


def curriculum(pairs: pl.DataFrame) -> Spec:
    """Mean and range of difficulty in bins of the training order, from table pairs."""
    width = max(20, -(-pairs.height // 50))
    bins = (
        pairs.sort("order")
        .with_row_index("row")
        .group_by((pl.col("row") // width).alias("bin"), maintain_order=True)
        .agg(
            (pl.col("row").first()).alias("pair"),
            pl.col("difficulty").mean().alias("mean"),
            pl.col("difficulty").min().alias("least"),
            pl.col("difficulty").max().alias("greatest"),
        )
    )
    x = {"field": "pair", "type": "quantitative", "title": "pairs, in training order"}
    return {
        "width": WIDTH,
        "height": 150,
        "data": {"values": bins.to_dicts()},
        "layer": [
            {
                "mark": {"type": "area", "color": "#c6d9e8", "aria": False},
                "encoding": {
                    "x": x,
                    "y": {"field": "least", "type": "quantitative", "title": "difficulty: mean, range"},
                    "y2": {"field": "greatest"},
                },
            },
            {
                "mark": {"type": "line", "color": BLUE, "point": {"size": 14, "color": BLUE}},
                "encoding": {"x": x, "y": {"field": "mean", "type": "quantitative"}},
            },
        ],
    }


def histogram(values: pl.Series, title: str, bins: int = 20) -> Spec:
    """How many pairs have which value."""
    known = values.drop_nulls().cast(pl.Float64)
    least, greatest = float(known.min() or 0), float(known.max() or 0)  # type: ignore[arg-type]
    step = (greatest - least) / bins or 1.0
    counted = (
        known.to_frame("value")
        .group_by(((pl.col("value") - least) / step).floor().clip(0, bins - 1).alias("bin"))
        .len()
        .sort("bin")
        .select(
            (pl.col("bin") * step + least).alias("from"),
            ((pl.col("bin") + 1) * step + least).alias("to"),
            pl.col("len").alias("pairs"),
        )
    )
    return {
        "width": WIDTH,
        "height": 120,
        "data": {"values": counted.to_dicts()},
        "mark": {"type": "bar", "color": BLUE, "stroke": "white", "strokeWidth": 0.5},
        "encoding": {
            "x": {
                "field": "from",
                "type": "quantitative",
                "bin": {"binned": True, "step": step},
                "title": title,
            },
            "x2": {"field": "to"},
            "y": {"field": "pairs", "type": "quantitative"},
        },
    }


def lengths(pairs: pl.DataFrame, bins: int = 20) -> Spec:
    """How long chosen and rejected answers are, in characters, as lines."""
    length = {
        side: pairs[side].list.eval(pl.element().struct.field("content").str.len_chars()).list.sum()
        for side in ("chosen", "rejected")
    }
    top = max(1, *(int(values.quantile(0.99) or 0) for values in length.values()))
    step = max(1, -(-top // bins))
    rows = []
    for side, values in length.items():
        place = (values.clip(0, top) // step * step).alias("characters")
        counted = place.value_counts().sort("characters")
        rows += [{"answer": side, "characters": c, "pairs": n} for c, n in counted.iter_rows()]
    return {
        "width": WIDTH,
        "height": 120,
        "data": {"values": rows},
        "mark": {"type": "line", "point": {"size": 16}},
        "encoding": {
            "x": {
                "field": "characters",
                "type": "quantitative",
                "title": f"characters (at most {top} shown)",
            },
            "y": {"field": "pairs", "type": "quantitative"},
            "color": {
                "field": "answer",
                "type": "nominal",
                "title": None,
                "scale": {"domain": ["chosen", "rejected"], "range": [BLUE, ORANGE]},
            },
            "strokeDash": {"field": "answer", "type": "nominal", "title": None, "legend": None},
        },
    }


def curve(points: pl.DataFrame, metric: str) -> Spec:
    """A metric of the training over its steps, a line for each phase."""
    rows = points.filter(metric=metric).select("step", "phase", "value").sort("phase", "step")
    several = rows["phase"].n_unique() > 1
    phase = {
        "color": {"field": "phase", "type": "ordinal", "scale": {"range": [BLUE, ORANGE, "#5b2a86", GREY]}}
    }
    return {
        "width": WIDTH,
        "height": 110,
        "data": {"values": rows.to_dicts()},
        "mark": {"type": "line", "color": BLUE, "point": {"size": 14}},
        "encoding": {
            "x": {"field": "step", "type": "quantitative"},
            "y": {"field": "value", "type": "quantitative", "title": metric, "scale": {"zero": False}},
            **(phase if several else {}),
        },
    }
