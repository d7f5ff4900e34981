"""A picture of lineage: sources on the left, what was asked for on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from karma_plugins.lineage.graph import Datum, Made, Origin
from karma_plugins.lineage.tree import Lineage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Width and height of a box and of the place it has, in inches.
BOX, PLACE = (2.1, 0.42), (2.7, 0.62)
#: Letters of a path that a box has room for, beside a hash.
LETTERS = 30
COLOURS = {"source": "#e8eaed", "run": "#dbe8f6", "asked": "#f8dcc2"}
Key = str | Datum


@dataclass(frozen=True, slots=True)
class Passage:
    """An empty place in a column, where edges of a source go by."""

    source: Key
    column: int


Place = Key | Passage


def draw(lineage: Lineage) -> Figure:
    """Each run is a box with its stage and its outs' first digits, each source a grey one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    labels, edges, kinds = _boxes(lineage)
    columns, ways = _columns(labels, edges)
    height = max(len(column) for column in columns) * PLACE[1] + 0.3
    figure = Figure(figsize=(len(columns) * PLACE[0] + 0.3, height), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, len(columns) * PLACE[0] + 0.3), ylim=(0, height))
    axes.axis("off")
    at: dict[Place, tuple[float, float]] = {}
    for number, column in enumerate(columns):
        gap = height / len(column)
        for row, place in enumerate(column):
            at[place] = (0.3 + number * PLACE[0], height - (row + 0.5) * gap - BOX[1] / 2)
    for way in ways:
        _draw_way(axes, [at[place] for place in way])
    for key, (x, y) in at.items():
        if isinstance(key, Passage):
            continue
        style = "round,pad=0.02,rounding_size=0.06"
        axes.add_patch(
            FancyBboxPatch(
                (x, y), *BOX, boxstyle=style, fc=COLOURS[kinds[key]], ec="#8a929c", lw=0.6, zorder=2
            )
        )
        axes.text(
            x + BOX[0] / 2, y + BOX[1] / 2, labels[key], ha="center", va="center", fontsize=6.5, zorder=3
        )
    return figure


def _boxes(lineage: Lineage) -> tuple[dict[Key, str], list[tuple[Key, Key]], dict[Key, str]]:
    """Labels, edges (above, below) and kinds of the boxes."""
    labels: dict[Key, str] = {}
    kinds: dict[Key, str] = {}
    edges: dict[tuple[Key, Key], None] = {}
    makers: dict[Datum, list[Key]] = {}

    def visit(node: Origin | Made, below: Key | None) -> None:
        if isinstance(node, Made):
            outs = ", ".join(f"{_short(out.path)} {out.digest[:6]}" for out in node.run.outs[:1])
            labels[node.run.id], kinds[node.run.id] = f"{node.run.name}\n{outs}", "run" if below else "asked"
            for child in node.inputs:
                visit(child, node.run.id)
            return
        place = node.within or node.datum
        if node.made:
            makers[node.datum] = makers[place] = [made.run.id for made in node.made]
        elif not node.seen:
            labels[node.datum], kinds[node.datum] = (
                f"{_short(node.datum.path)}\n{node.datum.digest[:6]}",
                "source",
            )
            makers[node.datum] = [node.datum]
        for key in makers.setdefault(node.datum, makers.get(place, [])):
            if below:
                edges[key, below] = None
        for made in node.made:
            visit(made, below)
            if below is None:
                kinds[made.run.id] = "asked"

    visit(lineage.root, None)
    return labels, list(edges), kinds


def _short(path: str) -> str:
    """The end of a path, as much as a box has room for."""
    return path if len(path) <= LETTERS else f"…{path[-LETTERS + 1 :]}"


def _draw_way(axes: Axes, places: Sequence[tuple[float, float]]) -> None:
    """A line from the first place to an arrow at the last, straight across those between, which are empty."""
    middle = BOX[1] / 2
    points = [(places[0][0] + BOX[0], places[0][1] + middle)]
    for x, y in places[1:-1]:
        points += [(x, y + middle), (x + BOX[0], y + middle)]
    line = {"color": "#8a929c", "lw": 0.8}
    axes.plot(*zip(*points, strict=True), zorder=1, solid_joinstyle="round", **line)
    arrow = {"arrowstyle": "->", "shrinkA": 0, "shrinkB": 0, **line}
    end = (places[-1][0], places[-1][1] + middle)
    axes.annotate("", end, points[-1], arrowprops=arrow, zorder=1)


def _columns(
    labels: dict[Key, str], edges: list[tuple[Key, Key]]
) -> tuple[list[list[Place]], list[list[Place]]]:
    """Boxes by their longest way from a source, and the places that each edge leads over.

    An edge over more than one column has an empty place in each between, which the edges of one source share
    (Sugiyama's layers): so no line runs through a box. Each column stands in the order of what is before it.
    """
    above: dict[Key, list[Key]] = {key: [] for key in labels}
    for start, end in edges:
        above[end].append(start)
    depth: dict[Key, int] = {}

    def deep(key: Key) -> int:
        if key not in depth:
            depth[key] = 1 + max((deep(other) for other in above[key]), default=-1)
        return depth[key]

    columns: list[list[Place]] = [[] for _ in range(1 + max(map(deep, labels), default=0))]
    for key in labels:
        columns[depth[key]].append(key)
    ways: list[list[Place]] = []
    before: dict[Place, list[Place]] = {}
    for start, end in edges:
        between = [Passage(start, column) for column in range(depth[start] + 1, depth[end])]
        way: list[Place] = [start, *between, end]
        for passage in between:
            if passage not in columns[passage.column]:
                columns[passage.column].append(passage)
        for one, other in pairwise(way):
            before.setdefault(other, []).append(one)
        ways.append(way)
    for previous, column in pairwise(columns):
        row = {place: number / len(previous) for number, place in enumerate(previous)}

        def centre(place: Place, row: dict[Place, float] = row) -> float:
            rows = [row[one] for one in before.get(place, []) if one in row]
            return sum(rows) / len(rows) if rows else 1.0

        column.sort(key=centre)
    return columns, ways
