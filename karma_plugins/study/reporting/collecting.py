"""What a report is made of: where a run's files lie, in the workspace or brought back from a commit.

A run is the pipeline of one folder. Its files are known by their paths beside dvc.yaml; their hashes are
those of dvc.lock, and what differs from it is said. Nothing is read before it is needed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from karma_plugins import lineage, tables
from karma_plugins.errors import KarmaError, ParamsError, installed, require
from karma_plugins.lineage.git import git
from karma_plugins.schemas import (
    BIAS,
    COMPARISONS,
    FAMILIES,
    HELDOUT,
    JUDGEMENTS,
    JUDGES,
    KINSHIP,
    PAIRS,
    PROMPTS,
    RESPONSES,
    SCORES,
    Schema,
)  # fmt: skip

#: The tables of which a pipeline has one, by the name of their schema, and where they lie.
TABLES: Mapping[str, tuple[str, Schema]] = {
    "prompts": ("data/prompts.parquet", PROMPTS),
    "kinship": ("data/kinship.parquet", KINSHIP),
    "families": ("data/families.parquet", FAMILIES),
    "bias": ("data/jury/bias.parquet", BIAS),
    "judges": ("data/jury/judges.parquet", JUDGES),
    "pairs": ("data/pairs/data/train.parquet", PAIRS),
    "heldout": ("data/heldout.parquet", HELDOUT),
}
#: What stages measured, by stage.
METRICS = ("kinship", "jury", "curriculum", "train", "evaluate")
SUMMARY = "metrics/summary.json"


class ReportError(KarmaError):
    """A report that can't be made of what is there."""


@dataclass(frozen=True, slots=True)
class Out:
    """A file or folder that a stage made, by its path beside dvc.yaml, with its hash in dvc.lock."""

    stage: str
    path: str
    digest: str
    size: int | None = None


@dataclass
class Run:
    """A pipeline's run: in the workspace of `folder`, or (`sha`) as a commit has it under the name `rev`."""

    folder: Path
    rev: str = ""
    sha: str = ""
    lacks: list[str] = field(default_factory=list)

    @cached_property
    def outs(self) -> list[Out]:
        """What stages made, as dvc.lock says, in its order; none where there is no dvc.lock."""
        stages = lineage.read_document(self._text("dvc.lock") or "", "dvc.lock").get("stages")
        return [
            Out(name, str(out["path"]), str(out.get("md5") or ""), out.get("size"))
            for name, stage in (stages or {}).items()
            for out in stage.get("outs", [])
        ]

    @cached_property
    def params(self) -> dict[str, Any]:
        """The sections of params.yaml; empty where there is none that can be read."""
        try:
            return lineage.read_document(self._text("params.yaml") or "", "params.yaml")
        except ParamsError as error:
            self.lacks.append(str(error))
            return {}

    @cached_property
    def commit(self) -> lineage.Commit | None:
        """The commit of the run, or that under the workspace."""
        return lineage.Commit(self.sha, "", dirty=False) if self.sha else lineage.commit(self.folder)

    @cached_property
    def models(self) -> list[str]:
        """The candidates, as params name them."""
        return list(self.params.get("models") or {})

    @cached_property
    def judges(self) -> list[str]:
        """The judges, as params name them."""
        return list((self.params.get("judge") or {}).get("judges") or {})

    def place(self, path: str) -> Path | None:
        """Where a file or folder of the run lies now; null where nobody has it, which `lacks` then says.

        Of a commit it is brought to `.karma/restored`, unless the workspace has the same bytes.
        """
        if not self.sha:
            return here if (here := self.folder / path).exists() else None
        out = next((o for o in self.outs if path == o.path or path.startswith(f"{o.path}/")), None)
        if out is None:
            return None
        within = os.path.relpath(self.folder.resolve() / out.path, lineage.workspace_root(self.folder))
        try:
            whole = lineage.restore(within, out.digest, self.folder)
        except lineage.LineageError as error:
            if str(error) not in self.lacks:
                self.lacks.append(str(error))
            return None
        below = whole / path.removeprefix(out.path).lstrip("/") if path != out.path else whole
        return below if below.exists() else None

    def table(self, name: str) -> pl.DataFrame | None:
        """A table of TABLES; null where the run has none. TableError where it is none of this version."""
        path, schema = TABLES[name]
        return tables.read(place, schema) if (place := self.place(path)) else None

    def metrics(self, stage: str) -> dict[str, Any]:
        """What a stage measured; empty where it has not run."""
        place = self.place(f"metrics/{stage}.json")
        return dict(json.loads(place.read_bytes())) if place else {}

    def points(self, name: str) -> pl.DataFrame | None:
        """The points of a plot (`plots/NAME.csv`)."""
        place = self.place(f"plots/{name}.csv")
        return pl.read_csv(place) if place else None

    @cached_property
    def scores(self) -> pl.DataFrame:
        """Table `scores` of all models that have one."""
        frames = [self.place(f"data/profile/{model}/scores.parquet") for model in self.models]
        return tables.read_all([place for place in frames if place], SCORES)

    def responses(self) -> pl.LazyFrame:
        """Table `responses` of all models that have one, to be read as far as it is needed."""
        frames = [self.place(f"data/responses/{model}.parquet") for model in self.models]
        return tables.scan_all([place for place in frames if place], RESPONSES)

    def verdicts(self) -> tuple[pl.LazyFrame, pl.LazyFrame]:
        """Tables `judgements` and `comparisons` of all judges that spoke."""
        folders = [place for judge in self.judges if (place := self.place(f"data/verdicts/{judge}"))]
        return (
            tables.scan_all([f / "judgements.parquet" for f in folders], JUDGEMENTS),
            tables.scan_all([f / "comparisons.parquet" for f in folders], COMPARISONS),
        )

    def differs(self, out: Out) -> bool | None:
        """Whether the workspace has other bytes than dvc.lock says; null where that can't be told."""
        here = self.folder / out.path
        if self.sha or not here.exists():
            return None
        if here.is_file():
            return lineage.file_hash(here) != out.digest
        return lineage.dvc_hash(here) != out.digest if installed("dvc") else None

    def _text(self, path: str) -> str:
        if self.sha:
            return git(self.folder, "show", f"{self.sha}:./{path}")
        here = self.folder / path
        return here.read_text(encoding="utf-8") if here.is_file() else ""


def collect(folder: Path, rev: str | None = None) -> Run:
    """The run in the workspace, or as a revision has it.

    Raises ReportError where no pipeline of ours has run there, LineageError where git knows no such revision.
    """
    if rev is None:
        run = Run(folder)
    else:
        require("Reading a commit", "dvc")
        (revision,) = lineage.revisions(folder, [rev])
        run = Run(folder, rev, str(revision.sha))
    if not any(run.place(path) for path in _signs()):
        where = f"{rev}: no stage had run there" if rev else f"{folder.resolve()}: no stage has run here"
        raise ReportError(f"{where}, so there is nothing to report. Run `dvc repro`, or name another --rev.")
    return run


def read(folder: Path) -> list[Path]:
    """The files and folders in a workspace that a report is made of, as far as they are there."""
    paths = [path for path, _ in TABLES.values() if "/pairs/" not in path and "/jury/" not in path]
    paths += ["data/profile", "data/responses", "data/verdicts", "data/jury", "data/pairs"]
    paths += [f"metrics/{stage}.json" for stage in METRICS] + ["plots/kinship.csv", "plots/train.csv"]
    return [folder / path for path in sorted(paths) if (folder / path).exists()]


def _signs() -> list[str]:
    return [path for path, _ in TABLES.values()] + [f"metrics/{stage}.json" for stage in METRICS]
