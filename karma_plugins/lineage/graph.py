"""What was made from what, over all known stage runs: up to where data comes from, down to what it became."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True, order=True)
class Datum:
    """A file or folder: its path from the root of the repository and its hash in dvc.lock."""

    path: str
    digest: str


@dataclass(frozen=True, slots=True)
class StageRun:
    """One finished run of a stage (`generate@trunk`), in the pipeline run of its `state`."""

    id: str
    name: str
    state: str
    started: int
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    inputs: tuple[Datum, ...]
    outs: tuple[Datum, ...]


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A logged model: its weights, the run that made it, its versions in the model registry (`name/1`)."""

    id: str
    name: str
    weights: Datum
    run_id: str
    versions: tuple[str, ...] = ()


@dataclass(slots=True)
class Made:
    """A run and what it read, each with what made that in turn."""

    run: StageRun
    inputs: list[Origin] = field(default_factory=list)


@dataclass(slots=True)
class Origin:
    """A piece of data and the runs that made it: one, several for a folder of their outs, none for a source.

    `within` is the folder that holds the piece, where that is the out. A piece met before is `seen`, and has
    no runs here.
    """

    datum: Datum
    made: list[Made] = field(default_factory=list)
    within: Datum | None = None
    seen: bool = False


class Graph:
    """Stage runs and models, linked by paths and hashes; only runs of one state are linked by paths alone."""

    def __init__(self, runs: Iterable[StageRun], models: Iterable[ModelEntry] = ()) -> None:
        self.runs = sorted(runs, key=lambda run: (run.started, run.id))
        self.models = sorted(models, key=lambda model: model.id)
        self._by_state: dict[str, dict[str, StageRun]] = {}
        for run in self.runs:  # of several runs of a stage in one state the last counts
            self._by_state.setdefault(run.state, {})[run.name] = run

    @property
    def data(self) -> set[Datum]:
        """Every piece of data that a run read or wrote."""
        return {datum for run in self.runs for datum in (*run.inputs, *run.outs)}

    def makers(self, datum: Datum, state: str | None) -> list[tuple[StageRun, Datum]]:
        """The runs that made a piece of data, each with its out: that very one, or one around or inside it.

        Runs of the same state come first; failing that, the first run that made these bytes at this path.
        """
        here = list(self._by_state.get(state or "", {}).values())
        for runs in (here, self.runs):
            if exact := [(run, out) for run in runs for out in run.outs if out == datum]:
                return exact[:1]
        overlapping = [(run, out) for run in here for out in run.outs if overlap(out.path, datum.path)]
        holding = [(run, out) for run, out in overlapping if inside(datum.path, out.path)]
        return holding[:1] or sorted(overlapping, key=lambda pair: pair[1].path)

    def origin(self, datum: Datum, state: str | None = None, seen: set[Datum] | None = None) -> Origin:
        """The tree above a piece of data; by default as it is in the last state that knows it."""
        seen = set() if seen is None else seen
        if datum in seen:
            return Origin(datum, seen=True)
        seen.add(datum)
        state = state if state is not None else self.last_state(datum)
        node = Origin(datum)
        for run, out in self.makers(datum, state):
            if out != datum and inside(datum.path, out.path):
                node.within = out
                if out in seen:
                    node.seen = True
                    continue
                seen.add(out)
            node.made.append(self.made(run, seen))
        return node

    def made(self, run: StageRun, seen: set[Datum] | None = None) -> Made:
        """A run and the tree above it."""
        seen = set() if seen is None else seen
        return Made(run, [self.origin(datum, run.state, seen) for datum in run.inputs])

    def last_state(self, datum: Datum) -> str | None:
        """The state of the last run that read or wrote a piece of data."""
        states = [run.state for run in self.runs if datum in (*run.outs, *run.inputs)]
        return states[-1] if states else None

    def users(self, datum: Datum) -> list[StageRun]:
        """The runs that read a piece of data, a folder that it lies in, or a part of it; oldest first."""
        states = {run.state for run in self.runs if datum in (*run.outs, *run.inputs)}
        return [
            run
            for run in self.runs
            if any(
                read == datum or (run.state in states and overlap(read.path, datum.path))
                for read in run.inputs
            )
        ]

    def descendants(self, datum: Datum) -> list[StageRun]:
        """Every run that has this piece of data above it, oldest first."""
        runs: dict[str, StageRun] = {}
        waiting = [datum]
        while waiting:
            for run in self.users(waiting.pop()):
                if run.id not in runs:
                    runs[run.id] = run
                    waiting += run.outs
        return sorted(runs.values(), key=lambda run: (run.started, run.id))

    def models_of(self, runs: Iterable[StageRun]) -> list[ModelEntry]:
        """The models that these runs made, each hash once: one run's, however often it was restored."""
        ids = {run.id for run in runs}
        models: dict[Datum, ModelEntry] = {}
        for model in sorted(self.models, key=lambda model: (not model.versions, model.id)):
            if model.run_id in ids:
                models.setdefault(model.weights, model)
        return sorted(models.values(), key=lambda model: (model.name, model.id))


def inside(path: str, folder: str) -> bool:
    """Whether a path lies in a folder (or is it)."""
    return PurePosixPath(path).is_relative_to(folder)


def overlap(one: str, other: str) -> bool:
    """Whether one of two paths is the other or lies in it."""
    return inside(one, other) or inside(other, one)
