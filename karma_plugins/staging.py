"""What every stage does around its one domain call: check the locked code, track the run, show progress."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from karma_plugins import tracking
from karma_plugins.registry import Bound, lock, manager
from karma_plugins.runtime import processes
from karma_plugins.runtime.shards import ShardCache, karma_folder


@contextmanager
def running(
    stage: str,
    settings: BaseModel,
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
    told = settings.model_dump(mode="json") | {f"plugin.{bound.name}": bound.version for bound in used}
    if entry:
        told["models"] = {item: entry.model_dump(mode="json")}
    with tracking.stage(stage, item=item, params=told, inputs=inputs, outs=outs) as run:
        yield run


def kept(stage: str) -> ShardCache:
    """Where a stage keeps its finished shards."""
    return ShardCache(karma_folder() / "shards" / stage)
