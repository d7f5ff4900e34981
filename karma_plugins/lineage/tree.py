"""A tree of lineage as text and as JSON, and the commands that bring data back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from karma_plugins.lineage.git import git
from karma_plugins.lineage.graph import Datum, Made, ModelEntry, Origin, StageRun

#: Params of one section of a run, above which the text tells their number alone.
FOLDED: Final = 8
#: Says in a few words what a piece of data is (a model's id and revision), or nothing.
Note = Callable[[Datum], str]


@dataclass(slots=True)
class Lineage:
    """What a piece of data or a run came from (`root`) and what it became (`runs` and `models`)."""

    what: str
    root: Origin | Made
    models: list[ModelEntry] = field(default_factory=list)
    became_runs: list[StageRun] = field(default_factory=list)
    became_models: list[ModelEntry] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def runs(self) -> list[StageRun]:
        """Every run of the tree, the nearest first."""
        return [made.run for made in walk(self.root)]

    def libraries(self) -> dict[str, list[str]]:
        """Versions of libraries by name, over all runs of the tree; several where they differ."""
        by_library: dict[str, set[str]] = {}
        for run in self.runs():
            for key, value in run.tags.items():
                if key.startswith("version."):
                    by_library.setdefault(key.removeprefix("version."), set()).add(value)
        return {name: sorted(versions) for name, versions in sorted(by_library.items())}


def walk(node: Origin | Made) -> Iterator[Made]:
    """The runs of a tree, from the root up."""
    if isinstance(node, Made):
        yield node
    for below in node.inputs if isinstance(node, Made) else node.made:
        yield from walk(below)


def text(lineage: Lineage, note: Note) -> str:
    """The tree, then libraries, what it became, and how to bring it back.

    Leaves out options of plugins that a run did not use, and of a section with many params tells their
    number; `as_json` tells them all.
    """
    lines = [f"{model.name} ({model.id}) {' '.join(model.versions)}".rstrip() for model in lineage.models]
    lines += _lines(lineage.root, note)
    if lineage.runs():
        known = ", ".join(f"{name} {' and '.join(numbers)}" for name, numbers in lineage.libraries().items())
        lines += ["", f"Libraries: {known or 'not known, for every run was completed from dvc.lock'}"]
    if lineage.became_runs:
        lines += ["", "Read by: " + ", ".join(f"{run.name} ({run.id[:8]})" for run in lineage.became_runs)]
    for model in lineage.became_models:
        weights = f"{model.weights.path} {model.weights.digest}"
        lines.append(f"Trained from it: {model.name} ({model.id}) {' '.join(model.versions)} {weights}")
    lines += ["", "To bring it back:", *(f"  {command}" for command in lineage.commands)]
    return "\n".join(lines)


def _lines(node: Origin | Made, note: Note) -> list[str]:
    """A node and those above it, drawn as a tree."""
    head, details = (
        (_run(node.run), _details(node.run)) if isinstance(node, Made) else (_data(node, note), [])
    )
    above: Sequence[Origin | Made] = node.inputs if isinstance(node, Made) else node.made
    lines = [head, *(f"{'│' if above else ' '}    {detail}" for detail in details)]
    for place, child in enumerate(above):
        last = place == len(above) - 1
        first, *rest = _lines(child, note)
        lines.append(f"{'└─' if last else '├─'} {first}")
        lines += [f"{'  ' if last else '│ '} {line}" for line in rest]
    return lines


def _data(node: Origin, note: Note) -> str:
    words = [f"{node.datum.path}  {node.datum.digest}", note(node.datum)]
    if node.within:
        words.append(f"in {node.within.path} {node.within.digest}")
    if node.seen:
        words.append("see above")
    return " · ".join(part for part in words if part)


def _run(run: StageRun) -> str:
    sha = run.tags.get("mlflow.source.git.commit", "")[:10]
    dirty = " with changes" if run.tags.get("git.dirty") == "true" else ""
    words = [f"{run.name}  run {run.id}", f"commit {sha}{dirty}" if sha else ""]
    words.append(f"experiment {run.tags['dvc.experiment']}" if "dvc.experiment" in run.tags else "")
    if run.tags.get("karma.from") == "dvc.lock":
        maker = run.tags.get("karma.made_by")
        words.append(f"restored, made by run {maker}" if maker else "known from dvc.lock")
    return " · ".join(part for part in words if part)


def _details(run: StageRun) -> list[str]:
    plugins = {k.removeprefix("plugin."): v for k, v in sorted(run.params.items()) if k.startswith("plugin.")}
    params = {k: value for k, value in sorted(run.params.items()) if not k.startswith("plugin.")}
    families = {key[: key.index(f".{name}.")] for key in params for name in plugins if f".{name}." in key}
    listed = [key for key in params if not any(_of_others(key, family, plugins) for family in families)]
    firsts = {key.partition(".")[0] for key in listed}
    place = 1 if len(firsts) == 1 else 0  # all of them are of the stage's own section
    section = {key: [*key.split("."), ""][place] for key in listed}
    sections = Counter(section.values())
    shown = [f"{key}={params[key]}" for key in listed if sections[section[key]] <= FOLDED]
    shown += [f"{name}: {count} params" for name, count in sections.items() if count > FOLDED]
    lines = {"plugins": ", ".join(plugins.values()), "params": ", ".join(shown)}
    return [f"{name}: {values}" for name, values in lines.items() if values]


def _of_others(key: str, family: str, plugins: Mapping[str, str]) -> bool:
    """Whether a param is an option of a plugin beside the ones that were used."""
    start = f"{family}." if family else ""
    rest = key.removeprefix(start)
    return key.startswith(start) and "." in rest and rest.partition(".")[0] not in plugins


def as_json(lineage: Lineage, note: Note) -> dict[str, Any]:
    """The same as nested mappings and lists."""
    return {
        "what": lineage.what,
        "models": [_model_json(model) for model in lineage.models],
        "from": _json(lineage.root, note),
        "libraries": lineage.libraries(),
        "read_by": [{"stage": run.name, "run": run.id} for run in lineage.became_runs],
        "trained_from_it": [_model_json(model) for model in lineage.became_models],
        "restore": lineage.commands,
    }


def _model_json(model: ModelEntry) -> dict[str, Any]:
    weights = {"path": model.weights.path, "digest": model.weights.digest}
    return {"name": model.name, "id": model.id, "run": model.run_id, "versions": model.versions, **weights}


def _json(node: Origin | Made, note: Note) -> dict[str, Any]:
    if isinstance(node, Made):
        run = node.run
        fields: dict[str, Any] = {"stage": run.name, "run": run.id, "params": dict(run.params)}
        fields |= {"metrics": dict(run.metrics), "tags": dict(run.tags)}
        return {**fields, "inputs": [_json(child, note) for child in node.inputs]}
    fields = {"path": node.datum.path, "digest": node.datum.digest}
    if remark := note(node.datum):
        fields["note"] = remark
    if node.within:
        fields["within"] = {"path": node.within.path, "digest": node.within.digest}
    return {**fields, "seen": node.seen, "made_by": [_json(child, note) for child in node.made]}


def commands(datum: Datum, workspace: Path) -> list[str]:
    """The commands that bring the bytes beside the workspace: by hash, or from the commit that had them."""
    aside = f"lineage.restore('{datum.path}', '{datum.digest}')"
    lines = [f'python -c "from karma_plugins import lineage; print({aside})"']
    history = git(workspace, "log", "--all", "--format=%H", f"-S{datum.digest}", "--", ":(glob)**/dvc.lock")
    if shas := history.split():
        lines.append(f"dvc get . {datum.path} --rev {shas[-1][:12]} -o restored-{datum.digest[:8]}")
    return lines
