"""The house in numbers: rooms, floors and arrows between rooms, from the import graph; `make lint` runs it.

A room is a module or package at the top of `karma_plugins`, or the folder `stages`. An arrow is drawn where
any module of a room imports one of another, also inside a function or for type checkers alone. The floor of a
room is the longest way down from it. An arrow runs back up where it closes a circle.

usage: python scripts/rooms.py [FOLDER]    (another checkout; exit status 1 beyond the limits)
"""

from __future__ import annotations

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

#: What a newcomer can hold in mind.
LIMITS = {"rooms": 36, "arrows": 180, "arrows back up": 0, "circles": 0, "entries at the top": 34}


def modules(folder: Path) -> dict[str, Path]:
    """Every module of the package and of the stages, by its dotted name."""
    named = {}
    for top in ("karma_plugins", "stages"):
        for path in sorted((folder / top).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def imported(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of ours that a file imports anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {
                whole if (whole := f"{node.module}.{a.name}") in known else node.module for a in node.names
            }
    return names & set(known)


def room(module: str) -> str:
    """The room that a module belongs to."""
    return ".".join(module.split(".")[:2]) if module.startswith("karma_plugins.") else module.split(".")[0]


def arrows(folder: Path) -> dict[str, set[str]]:
    """Which rooms each room imports. The package's own front door (`karma_plugins`) counts as a room."""
    known = modules(folder)
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        targets = {room(target) for target in imported(path, known)}
        graph.setdefault(room(name), set()).update(targets - {room(name)})
    return graph


def floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """The longest way down from each room; the ground floor is 1. CycleError where there is a circle."""
    height: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        height[name] = 1 + max((height[below] for below in graph[name]), default=0)
    return height


def without_circles(graph: dict[str, set[str]]) -> tuple[dict[str, set[str]], list[tuple[str, str]]]:
    """The graph without the arrows that close circles, and those arrows."""
    graph, closing = {name: set(below) for name, below in graph.items()}, []
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as circle:
            below, above = (
                circle.args[1][0],
                circle.args[1][1],
            )  # graphlib lists a node before what depends on it
            graph[above].discard(below)
            closing.append((above, below))
        else:
            return graph, closing


def main() -> int:
    """Print the table; 1 where a limit is passed."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent
    graph = arrows(folder)
    acyclic, closing = without_circles(graph)
    height = floors(acyclic)
    entries = [
        p for p in (folder / "karma_plugins").iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()
    ]
    figures = {
        "rooms": len(graph),
        "floors": max(height.values()),
        "arrows": sum(map(len, graph.values())),
        "arrows back up": len(closing),
        "circles": len({frozenset(pair) for pair in closing}),
        "entries at the top": len(entries),
    }
    for name, figure in figures.items():
        limit = f"  (at most {LIMITS[name]})" if name in LIMITS else ""
        print(f"{name:20}{figure:5}{limit}")
    for above, below in closing:
        print(f"back up: {above} -> {below}")
    if "--floors" in sys.argv:
        for floor in range(max(height.values()), 0, -1):
            print(f"{floor:3}  {', '.join(sorted(name for name, at in height.items() if at == floor))}")
    return int(any(figures[name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
