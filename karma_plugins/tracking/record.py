"""The record of one stage run: plain JSON that lies in the spool until MLflow has taken it.

Its folder holds `record.json`, `points.jsonl` (metrics reported on the way, one line each), `artifacts/`,
and two locks that the operating system frees when their holder dies.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from karma_plugins import lineage
from karma_plugins.errors import KarmaError
from karma_plugins.tracking.data import Data

#: The key of a record's own digest; what lies beside it.
DIGEST, POINTS, ARTIFACTS = "digest", "points.jsonl", "artifacts"
Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass(slots=True)
class Model:
    """Weights that the stage made; `path` and `trained_on` are paths of the record's datasets.

    `register` names them in the registry, where `aliases` lead to their version.
    """

    name: str
    path: str
    trained_on: str | None = None
    register: str | None = None
    aliases: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Record:
    """One run of one stage, and the pipeline run that it belongs to. Times are in milliseconds since 1970.

    `claim` digests what was read and made, so that a stage restored elsewhere is known again; `lacks` says
    what could not be told yet, for a later `karma sync` to complete, `nowhere` by which hashes; `content`
    digests points and artifacts.
    """

    uid: str
    name: str
    stage: str
    started: int
    ended: int | None = None
    status: Status = "RUNNING"
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    datasets: list[Data] = field(default_factory=list)
    models: list[Model] = field(default_factory=list)
    state: str = ""
    pipeline: str = ""
    pipeline_params: dict[str, str] = field(default_factory=dict)
    experiment: str | None = None
    system_metrics: bool = False
    claim: str = ""
    lacks: str = ""
    nowhere: list[str] = field(default_factory=list)
    content: str = ""

    def write(self, folder: Path) -> None:
        """Write `record.json` whole or not at all, with a digest; of an ended run also of its other files."""
        if self.status != "RUNNING":
            self.content = _content(folder)
        fields = asdict(self)
        partial = folder / ".record.partial"
        try:
            with partial.open("w", encoding="utf-8") as file:
                file.write(json.dumps({**fields, DIGEST: _digest(fields, folder)}, indent=1))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(folder / "record.json")
        except OSError:
            partial.unlink(missing_ok=True)
            raise


class UnreadableError(KarmaError):
    """A record of the spool that is damaged: it can't be delivered, and holds up no other."""


def read(folder: Path) -> Record:
    """The record in a folder of the spool; UnreadableError where it, or a file beside it, is damaged."""
    text = (folder / "record.json").read_bytes()
    try:
        fields = json.loads(text)
        if fields.pop(DIGEST) != _digest(fields, folder):
            raise ValueError("it is not what was written there")
        fields["datasets"] = [Data(**dataset) for dataset in fields["datasets"]]
        fields["models"] = [Model(**model) for model in fields["models"]]
        record = Record(**fields)
        if not (isinstance(record.uid, str) and isinstance(record.name, str) and type(record.started) is int):
            raise TypeError("its name, id or start is of another type")
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise UnreadableError(f"{folder / 'record.json'}: no record of a run ({reason}).") from error
    if record.status != "RUNNING" and record.content != _content(folder):
        raise UnreadableError(f"{folder}: points or artifacts of the run are not what was written there.")
    return record


def _digest(fields: Mapping[str, Any], folder: Path) -> str:
    """Of a record's fields, and of the folder that it is for."""
    text = json.dumps([folder.name, fields], sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _content(folder: Path) -> str:
    """A digest of the points and artifacts in a record's folder."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted([folder / POINTS, *(folder / ARTIFACTS).rglob("*")]):
        if file.is_file():
            data = file.read_bytes()
            digest.update(f"{file.relative_to(folder).as_posix()}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among nested metrics (numpy's too), with dotted keys; a truth value is no number."""
    flat = lineage.flatten(metrics).items()
    return {k: float(v) for k, v in flat if isinstance(v, Real) and not isinstance(v, bool)}


def spool(root: Path) -> Path:
    """Where the records of a repository wait."""
    return root / ".karma" / "spool"


def carrier(folder: Path, timeout: float = -1) -> FileLock:
    """The lock of whoever carries a record to MLflow: its courier, or `karma sync` after that one's death."""
    return FileLock(folder / "carrier.lock", timeout=timeout)


def living(folder: Path, timeout: float = -1) -> FileLock:
    """The lock that a stage holds as long as it lives, so that a record left RUNNING by a kill is known."""
    return FileLock(folder / "stage.lock", timeout=timeout)


def waiting(root: Path) -> Iterator[Path]:
    """Folders of finished records that MLflow has not taken yet, oldest first."""
    records = []
    for file in spool(root).glob("*/record.json"):
        with suppress(UnreadableError):
            records.append((read(file.parent), file.parent))
    for record, folder in sorted(records, key=lambda pair: (pair[0].started, pair[0].uid)):
        if record.status == "FINISHED":
            yield folder
