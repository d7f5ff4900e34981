"""What every stage does around its one domain call: check the locked code, track the run, show progress."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from karma_plugins import lineage, params, tracking
from karma_plugins.errors import ParamsError
from karma_plugins.registry import Bound, lock, manager
from karma_plugins.runtime import processes
from karma_plugins.runtime.shards import ShardCache, karma_folder

#: What our own pipeline has that others have not, for lineage and tracking, which serve any pipeline.
OURS: Final = lineage.Settings(
    code="karma.lock.json",
    aside=("tracking",),
    experiment="tracking.experiment",
    system_metrics="tracking.system_metrics",
    telling=("curriculum.pairing", "train.objective"),
    libraries=(
        "karma-plugins", "torch", "transformers", "trl", "lm-eval", "mlflow", "dvc", "polars", "numpy",
    ),
    models={"data/model": "aligned"},
    register="register_as",
    describing=("hub", "folder", "endpoint", "model", "revision", "adapter"),
)  # fmt: skip


@contextmanager
def running(
    stage: str,
    settings: BaseModel | None = None,
    used: Iterable[Bound[Any]] = (),
    *,
    inputs: Sequence[Path],
    outs: Sequence[Path],
    item: str | None = None,
    entry: BaseModel | None = None,
) -> Iterator[tracking.StageRun]:
    """Run a stage's domain call inside: its installed code is the locked one, its run is tracked.

    `entry` is what section `models` says of `item`, where the stage goes by it. Of several processes
    (`torchrun`) the first does both. Raises LockError where the installed code differs from karma.lock.json.
    """
    if not processes.is_first():
        yield tracking.StageRun()
        return
    used = list(used)
    for bound in used:
        bound.check_installed()
    lock.verify(stage, used)
    if used:
        manager.load().warn_about_broken()
    told: dict[str, Any] = {stage: settings.model_dump(mode="json")} if settings else {}
    told |= {f"plugin.{bound.name}": bound.version for bound in used}
    if entry:
        told["models"] = {item: entry.model_dump(mode="json")}
    with tracking.stage(stage, item=item, params=told, inputs=inputs, outs=outs, settings=OURS) as run:
        yield run


def watched(stage: str, item: str, paths: Sequence[Path]) -> None:
    """Stop where a stage reads what dvc.yaml does not name: a change there would run nothing again.

    Raises ParamsError with the first such path.
    """
    for path in lineage.unwatched(lineage.read_stages(), params.read(), stage, item, paths):
        raise ParamsError(
            f"dvc.yaml, {stage}: '{path}', which {stage} {item} reads, is no dep of it, so a change there "
            f"would run nothing again. Name it, or the folder of all that it reads, in "
            f"{stage}.{stage}s.{item}.reads of params.yaml, or among the deps."
        )


def hashes(paths: Iterable[Path]) -> dict[str, str]:
    """The hashes of files as dvc.lock holds them, by the files' names."""
    return {path.name: lineage.file_hash(path) for path in sorted(paths)}


def kept(stage: str) -> ShardCache:
    """Where a stage keeps its finished shards."""
    return ShardCache(karma_folder() / "shards" / stage)
