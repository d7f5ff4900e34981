"""MLflow's own plugins: dataset source `dvc`, `mlflow.data.from_dvc`, tags for runs in a DVC stage.

They serve any pipeline: nothing here needs a stage of ours.
"""
# No `from __future__ import annotations`: MLflow looks at the class that `from_dvc` says it returns.

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow.data.dataset import Dataset
from mlflow.data.dataset_source import DatasetSource
from mlflow.tracking.context.abstract_context import RunContextProvider
from mlflow.types import Schema

from karma_plugins import lineage
from karma_plugins.tracking.data import Data, describe, describe_at
from karma_plugins.tracking.tags import origin

#: MLflow's longest name of a dataset.
NAME = 500


class DvcSource(DatasetSource):  # type: ignore[misc]
    """Data by its path from the root of a repository (or address) and its hash in dvc.lock.

    `hash_name` is its kind: `md5`, `md5-dos2unix` of before DVC 3, `etag` and others of an address.
    """

    def __init__(self, path: str, md5: str, hash_name: str = "md5") -> None:
        self.path, self.md5, self.hash_name = path, md5, hash_name

    @staticmethod
    def _get_source_type() -> str:
        return "dvc"

    def load(self) -> Path:
        """The file or folder with exactly these bytes; where, says `karma_plugins.lineage.restore`."""
        return lineage.restore(self.path, self.md5, hash_name=self.hash_name)

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return False  # a bare path says nothing of a hash: `mlflow.data.from_dvc` asks DVC for it

    @classmethod
    def _resolve(cls, raw_source: Any) -> "DvcSource":
        raise lineage.LineageError(
            f"{raw_source!r}: a bare path says nothing of a hash. Use mlflow.data.from_dvc(path)."
        )

    def to_dict(self) -> dict[str, Any]:
        """What MLflow keeps of the source."""
        kind = {} if self.hash_name == "md5" else {"hash": self.hash_name}
        return {"path": self.path, "md5": self.md5, **kind}

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> "DvcSource":
        """The source that `to_dict` described."""
        return cls(source_dict["path"], source_dict["md5"], source_dict.get("hash", "md5"))


class DvcDataset(Dataset):  # type: ignore[misc]
    """A table, file or folder under DVC or git; its digest is its hash in dvc.lock."""

    def __init__(self, data: Data) -> None:
        self.data = data
        super().__init__(
            DvcSource(data.path, data.digest, data.hash_name), data.name[:NAME], data.short_digest
        )

    def _compute_digest(self) -> str:
        return self.data.short_digest

    @property
    def schema(self) -> Schema | None:
        """Columns of a table, null for other data."""
        return Schema.from_json(json.dumps(self.data.columns)) if self.data.columns else None

    @property
    def profile(self) -> dict[str, int]:
        """Bytes, and the number of rows of a table, as far as they are known."""
        known = {"num_rows": self.data.rows, "num_bytes": self.data.size}
        return {key: value for key, value in known.items() if value is not None}

    def to_dict(self) -> dict[str, str]:
        """What MLflow keeps of the dataset."""
        schema = {"schema": json.dumps({"mlflow_colspec": self.data.columns})} if self.data.columns else {}
        return {**super().to_dict(), **schema, "profile": json.dumps(self.profile)}


def from_dvc(
    path: str | Path, rev: str | None = None, name: str | None = None, digest: str | None = None
) -> DvcDataset:
    """The dataset at `path` as it lies in the workspace, or as it is in the git revision `rev`.

    `digest`, where given, must be its hash. Raises LineageError where it is not, where nothing lies there, or
    where git knows no such revision.
    """
    here = Path(path).absolute()
    workspace = lineage.workspace_root(here if here.is_dir() else here.parent)
    data = describe(here, workspace) if rev is None else describe_at(here, rev, workspace)
    if digest not in (None, data.digest):
        raise lineage.LineageError(
            f"{path}: its hash is {data.digest}, not {digest}. Name the revision that has it."
        )
    return DvcDataset(replace(data, name=name or data.name))


class StageContext(RunContextProvider):  # type: ignore[misc]
    """Tags for every run made inside a DVC stage: stage, experiment, git commit and whether it is dirty."""

    def in_context(self) -> bool:
        """Whether DVC runs this process."""
        return "DVC_STAGE" in os.environ

    def tags(self) -> dict[str, str]:
        """The tags of `karma_plugins.tracking.tags.origin`."""
        return origin(Path())
