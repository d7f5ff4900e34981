"""Aligns a model on pairs, phase by phase, so that a kill costs at most the steps since the last checkpoint.

What is kept lies in a folder of its own for each content key (pairs, base, settings, objective and code):
`phase-<i>/model` appears by a rename when the phase is done, `phase-<i>/trainer` holds the objective's
checkpoints, `phase-<i>/history` what it reported; each has a digest, and is made again where that is not its
own. The reference of a phase is the model of the phase before, or with `reference_kl` the last one that had
moved far enough from its own reference to replace it.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from karma_plugins import models
from karma_plugins.contracts import Model, Objective, Options, Panel, Report, TrainingJob
from karma_plugins.errors import EmptyResultError, ModelError, ParamsError, TrainingError
from karma_plugins.models import Weights
from karma_plugins.params import TrainSection
from karma_plugins.registry import Bound, lock
from karma_plugins.runtime import processes, shards
from karma_plugins.runtime.files import naming_a_full_disk, remove
from karma_plugins.runtime.progress import Advance, progress
from karma_plugins.training import checkpoints as kept
from karma_plugins.training.divergence import divergence
from karma_plugins.training.examples import prepare
from karma_plugins.training.history import DamagedError, History
from karma_plugins.training.history import read as read_history
from karma_plugins.training.reward_model import PREFIX

#: What the trained bytes do not depend on.
INERT_SETTINGS = {"base", "objective", "objectives", "register_as"}
#: The file of what a phase reported.
HISTORY = "history"
CURVE = pl.Schema({"step": pl.Int64, "phase": pl.Int64, "metric": pl.String, "value": pl.Float64})


@dataclass(frozen=True, slots=True)
class Training:
    """What came of a training: the last `metrics`, and all as a `curve` (step, phase, metric, value)."""

    metrics: dict[str, float]
    curve: pl.DataFrame


def train(
    pairs: pl.DataFrame,
    base: Model,
    objective: Bound[Objective],
    settings: TrainSection,
    *,
    output: Path,
    checkpoints: Path,
    report: Report | None = None,
    judges: Panel | None = None,
    prompts: pl.DataFrame | None = None,
) -> Training:
    """Train `base` on table `pairs`, one phase after the other, and write the aligned model to `output`.

    Pairs that can't be trained on are left out, counted by reason in the metrics and told in a warning.
    `judges` and table `prompts` are for objectives that judges reward. Kept work under `checkpoints` is used
    again: finished phases as they are, a phase that was cut off from its last complete checkpoint; either way
    the output's bytes are those of an undisturbed run. `report` gets every metric with the step counted over
    all phases, what an earlier process reported included. Under `torchrun` every process calls this; the
    first alone writes. Raises ModelError, ParamsError or EmptyResultError before any work, TrainingError as
    soon as a number is not finite: then no model is written, and nothing is kept of the phase.
    """
    processes.check_launch()
    settings = _with_own(settings, objective.options)
    start = _weights(base, settings)
    prepared = prepare(pairs.sort("order"), start, settings) if pairs.height else None
    if prepared is not None and prepared.dropped and processes.is_first():
        warnings.warn(f"karma {prepared.complaint()}.", stacklevel=2)
    pairs = pairs if prepared is None else prepared.pairs
    phases = plan(pairs, settings)
    folder = checkpoints / content_key(pairs, base, objective, settings, judges=judges, prompts=prompts)
    history: dict[int, dict[int, dict[str, float]]] = {}
    with _alone(folder), progress("train", sum(phases.values())) as advance:
        done = 0
        policy = reference = start
        for phase, steps in phases.items():
            place = folder / f"phase-{phase}"
            _settle(place, folder / "shared", first=phase == min(phases))
            log = History(place / HISTORY, _forward(report, advance, done))
            job = TrainingJob(
                start=policy,
                reference=reference,
                pairs=pairs.filter(pl.col("phase") == phase),
                steps=steps,
                output=place / "model.partial",
                checkpoints=place / "trainer",
                settings=settings,
                report=log,
                base=start,
                all_pairs=pairs,
                shared=folder / "shared",
                phase=phase,
                score=None if judges is None else judges.score,
                prompts=prompts,
            )
            _run(objective, job, place / "model")
            policy = _after(start, place / "model", settings)
            if _moved(policy, job, settings.reference_kl):
                reference = policy
            history[phase] = {done + step: metrics for step, metrics in sorted(log.rows.items())}
            done += steps
        _export(policy, settings, output)
    counts = {**({} if prepared is None else prepared.metrics()), "phases": len(phases)}
    return Training(_metrics(counts | {"steps": sum(phases.values())}, history), _curve(history))


def plan(pairs: pl.DataFrame, settings: TrainSection) -> dict[int, int]:
    """Optimiser steps of each phase: so many epochs of its pairs in whole batches, or its share of
    `max_steps`.

    Raises EmptyResultError where there is no pair, ParamsError where a phase gets no step.
    """
    counts = pairs.group_by("phase").len().sort("phase").rows()
    if not counts:
        raise EmptyResultError(
            "There is no pair to train on. Loosen curriculum.margin or the pairing's radius."
        )
    if settings.max_steps is None:
        step = settings.batch_size * settings.gradient_accumulation
        return {phase: math.ceil(settings.epochs * n / step) for phase, n in counts}
    seen, steps_before, steps = 0, 0, {}
    for phase, n in counts:
        seen += n
        upto = round(settings.max_steps * seen / pairs.height)
        steps[phase], steps_before = upto - steps_before, upto
    if min(steps.values()) < 1:
        raise ParamsError(
            f"train.max_steps: {settings.max_steps} leaves a phase of {len(steps)} without a step. Raise it."
        )
    return steps


def content_key(
    pairs: pl.DataFrame,
    base: Model,
    objective: Bound[Objective],
    settings: TrainSection,
    *,
    judges: Panel | None = None,
    prompts: pl.DataFrame | None = None,
) -> str:
    """The key of a training: all that decides the bytes of its model."""
    rewarded = []
    if judges is not None:
        known = (
            None
            if prompts is None
            else prompts.filter(pl.col("prompt_id").is_in(pairs["prompt_id"].implode()))
        )
        rewarded = [judges.key, "" if known is None else known.sort("prompt_id").write_ndjson()]
    folders = [base.path]
    if isinstance(base.source, Weights):
        folders += [Path(p) for p in (base.source.folder, base.source.adapter) if p and Path(p).is_dir()]
    return shards.key(
        pairs.sort("order").write_ndjson(),
        *(models.fingerprint(path) for path in folders),
        settings.model_dump_json(exclude=INERT_SETTINGS),
        objective.version,
        objective.options.model_dump_json(),
        lock.plugin_digest(objective.plugin, objective.origin),
        lock.core_digest(__name__),
        processes.count(),
        *rewarded,
    )


# --- phases -----------------------------------------------------------------------------------------------


def _weights(base: Model, settings: TrainSection) -> Weights:
    if not isinstance(base.source, Weights):
        raise ModelError(
            f"train.base: '{base.path}' holds no weights, so it can't be trained. Name a folder of weights."
        )
    weights, lora = base.source, settings.lora
    if lora is not None and weights.adapter is not None:
        raise ModelError(
            f"train.base: '{base.path}' has an adapter, and train.lora adds another. Merge it first."
        )
    if lora is not None and lora.export == "merged" and weights.quantisation is not None:
        raise ModelError(
            f"train.base: '{base.path}' is quantised, so nothing can be merged. Set lora.export: adapter."
        )
    return weights


def _with_own(settings: TrainSection, options: Options) -> TrainSection:
    """The settings with the objective's own number of epochs or steps, where its options have one."""
    own = {name: getattr(options, name, None) for name in ("epochs", "max_steps")}
    given = {name: value for name, value in own.items() if value is not None}
    return settings.model_copy(update=given) if given else settings


def _settle(place: Path, shared: Path, *, first: bool) -> None:
    """Remove what is damaged of a phase's kept work, with a warning: it is made again.

    What was reported can't be made again alone: without it the whole phase is, and the reward model, whose
    training the first phase tells of.
    """
    if processes.is_first():
        model, checkpoints, history = place / "model", place / "trainer", place / HISTORY
        begun = model.exists() or kept.latest(checkpoints) is not None
        try:
            if history.exists() or begun:
                read_history(history)
        except DamagedError:
            kept.warn(history)
            remove(place)
            if first:
                remove(shared)
        if kept.published(model):
            remove(checkpoints)
        else:
            kept.settle(checkpoints)
    processes.wait()


def _run(objective: Bound[Objective], job: TrainingJob, model: Path) -> None:
    """Have the objective train a phase, unless its model is there."""
    if model.is_dir():
        return
    if processes.is_first():
        shutil.rmtree(job.output, ignore_errors=True)
        job.checkpoints.mkdir(parents=True, exist_ok=True)
    processes.wait()
    try:
        with naming_a_full_disk(job.output):
            objective.plugin.train(job, objective.options)
    except TrainingError:
        if processes.is_first():  # whatever led there must not be gone on from
            shutil.rmtree(model.parent, ignore_errors=True)
            shutil.rmtree(job.shared, ignore_errors=True)
        raise
    processes.wait()
    if processes.is_first():
        kept.publish(job.output, model)
        shutil.rmtree(job.checkpoints)
    processes.wait()


def _moved(policy: Weights, job: TrainingJob, least: float | None) -> bool:
    """Whether the policy has moved so far from the job's reference that it takes its place."""
    if least is None:
        return True
    distance = divergence(policy, job.reference, job.pairs, job.settings.seed)
    if processes.is_first():
        job.report({"reference/kl": distance}, job.steps)
    return distance > least


def _after(start: Weights, model: Path, settings: TrainSection) -> Weights:
    """The weights of a finished phase: its folder, or with LoRA its adapter over the base."""
    if settings.lora is None:
        return start.model_copy(
            update={
                "hub": None,
                "folder": str(model),
                "adapter": None,
                "chat_template": None,
                "dtype": "auto",
            }
        )
    return start.model_copy(update={"adapter": str(model)})


def _export(trained: Weights, settings: TrainSection, output: Path) -> None:
    """Write the last phase's model to `output`, whole or not at all."""
    if processes.is_first():
        partial = output.with_name(f".{output.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            with naming_a_full_disk(output):
                _write_model(trained, settings, partial)
            if output.exists():
                shutil.rmtree(output)
            partial.replace(output)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    processes.wait()


def _write_model(trained: Weights, settings: TrainSection, folder: Path) -> None:
    """The weights of the last phase as they are, or merged into the base where that is asked for."""
    from karma_plugins.models.loading import load_model, load_tokenizer
    from karma_plugins.training.policy import quiet, save

    if settings.lora is not None and settings.lora.export == "merged":
        with quiet():
            save(load_model(trained, for_training=True), load_tokenizer(trained), folder)
    else:
        shutil.copytree(trained.adapter or trained.location, folder)


# --- what is reported -------------------------------------------------------------------------------------


def _forward(report: Report | None, advance: Advance, offset: int) -> Report:
    """Pass metrics on with the step counted over all phases, and show how far training is."""
    shown = 0

    def forward(metrics: Mapping[str, float], step: int) -> None:
        nonlocal shown
        if processes.is_first():
            if not all(name.startswith(PREFIX) for name in metrics):  # a reward model has steps of its own
                advance(max(0, step - shown))
                shown = max(step, shown)
            if report is not None:
                report(metrics, offset + step)

    return forward


def _metrics(
    counts: Mapping[str, float], history: Mapping[int, Mapping[int, Mapping[str, float]]]
) -> dict[str, float]:
    """Counts, and each metric's last value."""
    last: dict[str, float] = {}
    for metrics in (metrics for steps in history.values() for metrics in steps.values()):
        last |= metrics
    return {**counts, **last}


def _curve(history: Mapping[int, Mapping[int, Mapping[str, float]]]) -> pl.DataFrame:
    rows = [
        (step, phase, metric, value)
        for phase, steps in history.items()
        for step, metrics in steps.items()
        for metric, value in sorted(metrics.items())
    ]
    return pl.DataFrame(rows, schema=CURVE, orient="row")


# --- several processes ------------------------------------------------------------------------------------


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder for this training; of several processes the first holds it for all."""
    if processes.is_first():
        with shards.locked(folder):
            processes.wait()
            yield
    else:
        processes.wait()
        yield
