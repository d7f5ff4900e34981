"""What MLflow holds of a synced repository, counted against what DVC itself says is there.

    python -m tests.tracking.table [FOLDER…]

prints a line for each repository (none: for one of each shape in `tests.lineage.shapes`).
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lineage import shapes
from tests.lineage.projects import Project, artifacts, quiet

KINDS = ("stages", "params", "metrics", "plots", "datasets", "models")


@dataclass
class Count:
    """How many of a kind are there, and which of them MLflow lacks or has otherwise."""

    there: int = 0
    lacking: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.there - len(self.lacking)}/{self.there}"


class Table:
    """The counts of one repository, by kind."""

    def __init__(self, project: Project) -> None:
        self.counts = {kind: Count() for kind in KINDS}
        self._runs = {(r.data.tags.get("dvc.folder", "."), r.info.run_name): r for r in project.runs()}
        self._all = [*project.runs(), *project.runs("pipeline")]
        self._models = {(m.tags["dvc.path"], m.tags["dvc.md5"]) for m in project.models()}
        self._root = project.root
        with chdir(project.root), quiet():
            from dvc.repo import Repo

            with Repo() as repo:
                self._read(repo)

    @property
    def lacking(self) -> list[str]:
        return [f"{kind}: {what}" for kind, count in self.counts.items() for what in count.lacking]

    def _have(self, kind: str, what: str, held: bool) -> None:
        self.counts[kind].there += 1
        if not held:
            self.counts[kind].lacking.append(what)

    def _read(self, repo: Any) -> None:
        for stage in repo.index.stages:
            if stage.cmd:
                self._stage(stage)
            self._annotated(stage)
        tracked = {out.fs_path: out for stage in repo.index.stages if not stage.cmd for out in stage.outs}
        for file, entries in repo.index._artifacts.items():
            for entry in entries.values():
                out = tracked.get(str((Path(file).parent / entry["path"]).absolute()))
                if out:
                    known = [
                        (d.dataset.name, d.dataset.digest) for r in self._all for d in r.inputs.dataset_inputs
                    ]
                    told = (self._place(out.fs_path), out.hash_info.value)
                    self._have("datasets", str(told), told in known)
                if entry.get("type") == "model":
                    place = self._place(Path(file).parent / entry["path"])
                    self._have("models", place, any(path == place for path, _ in self._models))
        self._metrics(repo)
        self._plots(repo)

    def _place(self, path: Path | str) -> str:
        from os.path import relpath

        return Path(relpath(Path(self._root) / path, self._root)).as_posix()

    def _stage(self, stage: Any) -> None:
        lock = Path(stage.path).with_suffix(".lock")
        if stage.name:
            from ruamel.yaml import YAML

            entry = YAML(typ="safe").load(lock.read_text())["stages"].get(stage.name)
        else:
            entry = {"deps": [d.dumpd() for d in stage.deps], "outs": [o.dumpd() for o in stage.outs]}
        folder = Path(stage.path).parent
        name = stage.name or Path(stage.path).name
        run = self._runs.get((self._place(folder), name))
        self._have("stages", name, run is not None and run.info.status == "FINISHED")
        for file, values in ((entry or {}).get("params") or {}).items():
            shown = Path(self._place(Path(stage.wdir) / file)).as_posix()
            within = Path(shown)
            if self._place(folder) != ".":
                from os.path import relpath

                within = Path(relpath(shown, self._place(folder)))
            prefix = "" if str(within) == "params.yaml" else f"{within.as_posix()}:"
            for key, value in flat(values):
                text = value if isinstance(value, str) else json.dumps(value, default=str)
                self._have(
                    "params", f"{name} {prefix}{key}", run is not None and held(run, f"{prefix}{key}", text)
                )
        for side, context in (("deps", "input"), ("outs", "output")):
            for data in (entry or {}).get(side) or []:
                digest = data.get("md5") or data.get("etag") or data.get("checksum")
                path = data["path"] if "://" in data["path"] else self._place(Path(stage.wdir) / data["path"])
                if path.startswith("../"):
                    path = data["path"]
                known = {
                    (
                        d.dataset.name,
                        d.dataset.digest,
                        next(t.value for t in d.tags if t.key.endswith("context")),
                    )
                    for d in (run.inputs.dataset_inputs if run else [])
                }
                told = (path, (digest or "").strip('"'), context)
                if digest is None:
                    self._have("datasets", f"{name} {path}", any(n == path for n, _, _ in known))
                else:
                    self._have("datasets", f"{name} {told}", told in known)

    def _annotated(self, stage: Any) -> None:
        for out in stage.outs:
            if out.annot.type == "model":
                place = self._place(out.fs_path)
                self._have("models", place, (place, out.hash_info.value) in self._models)

    def _metrics(self, repo: Any) -> None:
        from dvc.repo.metrics.show import show

        for file, said in show(repo)[""].get("data", {}).items():
            values = said.get("data")
            assert not said.get("error"), said
            if not isinstance(values, dict):
                values = {Path(file).stem: values}
            for key, value in flat(values):
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    keys = (key, f"{self._place(file)}:{key}")
                    hits = [r for r in self._all for k in keys if held(r, k, float(value), metrics=True)]
                    self._have("metrics", f"{file}:{key}={value}", bool(hits))

    def _plots(self, repo: Any) -> None:
        folders = [artifacts(run) for run in self._all]
        for said in repo.plots.collect():
            for sources in said.values():
                files = sources.get("sources", {}).get("data", {})
                for file, one in files.items():
                    assert "error" not in one, (file, one)
                    here = Path(self._root) / file
                    copies = [f / "plots" / self._place(file) for f in folders]
                    data = here.read_bytes()
                    self._have("plots", file, any(c.is_file() and c.read_bytes() == data for c in copies))


def flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of a nested mapping by dotted keys."""
    for key, value in (values or {}).items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def held(run: Any, name: str, value: Any, *, metrics: bool = False) -> bool:
    """Whether a run has a param or metric of this original name and value."""
    values = run.data.metrics if metrics else run.data.params
    aliases = [k.removeprefix("karma.name.") for k, v in run.data.tags.items() if v == name]
    return any(values.get(key) == value for key in (name, *aliases))


def main() -> None:
    """Print the table; exit status 1 where MLflow lacks anything."""
    folders = [Project.at(Path(name).resolve()) for name in sys.argv[1:]]
    _line("", KINDS)
    whole = True
    with tempfile.TemporaryDirectory() as scratch, shapes.web({"data.xml": b"<a/>\n"}) as address:
        if not folders:
            for name in shapes.SHAPES:
                folders.append(shapes.make(name, Path(scratch), None, address))
                folders[-1].karma("sync")
        for project in folders:
            table = Table(project)
            _line(project.root.name, table.counts.values())
            for what in table.lacking:
                _line(f"    lacks {what}", ())
            whole &= not table.lacking
    sys.exit(0 if whole else 1)


def _line(name: str, cells: Iterable[object]) -> None:
    sys.stdout.write(f"{name:14}{''.join(f'{cell!s:>10}' for cell in cells)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
