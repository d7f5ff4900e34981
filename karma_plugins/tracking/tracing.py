"""The lineage of one thing, from what MLflow, DVC and git hold."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from karma_plugins import lineage
from karma_plugins.lineage import Datum, LineageError, Settings, StageRun
from karma_plugins.lineage.tree import Lineage, Note, commands
from karma_plugins.params import yaml
from karma_plugins.tracking import history
from karma_plugins.tracking.finding import find
from karma_plugins.tracking.store import Store


def trace(store: Store, what: str, root: Path) -> Lineage:
    """What `what` came from and what it became; TrackingError where nothing or several things fit it."""
    graph = history.graph(store)
    origin = find(store, graph, what, root)
    place = origin.place
    if isinstance(place, StageRun):
        later: dict[str, StageRun] = {}
        for out in place.outs:
            later |= {run.id: run for run in graph.descendants(out)}
        tree = Lineage(what, graph.made(place), graph.models_of([place]), list(later.values()))
        outs = place.outs
    else:
        models = [model for model in graph.models if model.weights == place]
        models = sorted(models, key=lambda model: not model.versions)[:1]
        tree = Lineage(what, graph.origin(place, origin.state), models, graph.descendants(place))
        outs = (place,)
    tree.became_models = graph.models_of(tree.became_runs)
    tree.commands = [command for out in outs for command in commands(out, root)]
    return tree


def notes(root: Path, settings: Settings = lineage.ANY) -> Note:
    """Says of a small YAML file that stands for a model which one it is, by the settings' describing keys."""
    describing = settings.describing

    @cache
    def note(datum: Datum) -> str:
        if not describing or not datum.path.endswith((".yaml", ".yml")):
            return ""
        try:
            document = yaml.read(lineage.restore(datum.path, datum.digest, root))
        except (LineageError, yaml.YamlError):
            return ""
        if not isinstance(document, dict) or not set(describing[:3]) & document.keys():
            return ""
        return ", ".join(f"{key} {document[key]}" for key in describing if key in document)

    return note
