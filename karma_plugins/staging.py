"""What every stage does around its one domain call: check the locked code, track the run, show progress."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from karma_plugins import lineage, params, tracking
from karma_plugins.registry import Bound, kind_name, lock, manager, selection
from karma_plugins.registry.digests import stage_digest
from karma_plugins.registry.stages import STAGES
from karma_plugins.runtime import launching
from karma_plugins.runtime.pieces import Witness
from karma_plugins.runtime.processes import device, is_first
from karma_plugins.runtime.shards import ShardCache, karma_folder

__all__ = ["OURS", "facts", "hashes", "is_first", "karma_folder", "kept", "launched", "running", "watched"]

#: What our own pipeline has that others have not, for lineage and tracking, which serve any pipeline.
OURS: Final = lineage.Settings(
    code="karma.lock.json",
    aside=("tracking", "runner"),
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
#: The libraries whose version may show in a result's last bits.
COMPUTING: Final = ("numpy", "polars", "torch", "transformers", "tokenizers", "peft", "lm-eval", "vllm")


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
    if not is_first():
        yield tracking.StageRun()
        return
    used = list(used)
    for bound in used:
        bound.check_installed()
    lock.verify(stage, used)
    if used:
        manager.load().warn_about_broken()
    run_params: dict[str, Any] = {stage: settings.model_dump(mode="json")} if settings else {}
    machine: dict[str, Any] = {}
    if STAGES[stage].shared:
        section, runner = _runner()
        machine["runner"] = {"runner": runner.version, runner.name: runner.options.model_dump(mode="json")}
        machine["runner"]["allow_different"] = list(section.allow_different)
    run_params |= {f"plugin.{bound.name}": bound.version for bound in used}
    if entry:
        run_params["models"] = {item: entry.model_dump(mode="json")}
    with tracking.stage(
        stage, item=item, params=run_params, inputs=inputs, outs=outs, settings=OURS, machine=machine
    ) as run:
        yield run


def watched(stage: str, item: str, paths: Sequence[Path]) -> None:
    """Stop where a stage reads what dvc.yaml does not name: a change there would run nothing again.

    Raises ParamsError with the first such path.
    """
    unwatched = lineage.unwatched(lineage.read_stages(), params.read(), stage, item, paths)
    selection.refuse_unwatched(unwatched, stage, item)


def launched(stage: str, configuration: launching.Configuration | None) -> bool:
    """Whether several processes did the stage in place of this one, as a configuration of accelerate says.

    False where there is none, and in the processes that a launcher started. Raises SystemExit with the status
    of a process that failed, and ParamsError where the configuration is wrong, or a file that is no dep of
    the stage.
    """
    if configuration is None or launching.is_launched():
        return False
    where = f"params.yaml, {stage}.accelerate"
    if isinstance(configuration, str):
        watched(stage, "", [Path(configuration)])
    launching.launch(configuration, f"stages.{stage}", sys.argv[1:], where=where)
    return True


def hashes(paths: Iterable[Path]) -> dict[str, str]:
    """The hashes of files as dvc.lock holds them, by the files' names."""
    return {path.name: lineage.file_hash(path) for path in sorted(paths)}


def kept(stage: str, used: Iterable[Bound[Any]]) -> ShardCache:
    """Where a stage keeps its finished pieces, and who computes the others: the runner of params.yaml.

    The code of `used` and of the stage, versions of libraries, and the kind of device are what a worker must
    have in common with this process.
    """
    section, bound = _runner()
    plugins = tuple(sorted({(kind_name(type(b.plugin)), b.plugin.name) for b in used}))
    folder = karma_folder() / "shards" / stage
    if section.allow_different:  # such work is not to be found by a run that allows nothing
        folder = folder / "-".join(sorted(section.allow_different))
    witness = Witness(facts, (stage, plugins), section.allow_different)
    return ShardCache(folder, partial(bound.plugin.run, options=bound.options), witness)


@cache
def facts(stage: str, plugins: tuple[tuple[str, str], ...]) -> dict[str, dict[str, str]]:
    """What decides results in this process beside the piece: code, libraries, device.

    LockError or PluginError where the stage's script or a plugin is not here.
    """
    code = {stage: stage_digest(STAGES[stage])}
    for kind, name in plugins:
        entry = lock.plugin_entry(*manager.shared().known(kind, name, where="a piece of work"))
        code[name] = " ".join(entry.values())
    return {"code": code, "libraries": _libraries(), "device": {"kind": device()}}


def _libraries() -> dict[str, str]:
    """Versions of Python and of what computes; a library that is not here is left out."""
    versions = {"python": platform.python_version()}
    for name in COMPUTING:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _runner() -> tuple[params.RunnerSection, Bound[Any]]:
    """Section `runner` with the plugin that it, or KARMA_RUNNER, names."""
    document = params.read()
    section = params.RunnerSection()
    if "runner" in document:
        section = params.load("runner", params.RunnerSection)
    if named := os.environ.get("KARMA_RUNNER"):
        section = section.model_copy(update={"runner": named})
    bound = selection.runner(section, manager.load())
    bound.check_installed()
    return section, bound
