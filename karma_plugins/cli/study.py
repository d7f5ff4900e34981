"""`karma study`: pairings and objectives compared over seeds, at one budget of pairs and steps."""

from __future__ import annotations

import hashlib
import json
import math
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from karma_plugins.cli.plugin_names import completing
from karma_plugins.console import say
from karma_plugins.errors import ParamsError, require
from karma_plugins.staging import OURS
from karma_plugins.study.design import Arm, Setting, StudyError, is_param
from karma_plugins.study.design import conditions as written_conditions
from karma_plugins.study.design import options as arm_options

if TYPE_CHECKING:
    import polars as pl

PAIRINGS = ("kin", "random", "best-worst", "distant")
#: The stages that an experiment runs, and the seconds that the start of a stage takes around its work.
STAGES, START = ("generate", "judge", "jury", "curriculum", "train", "evaluate"), 8.0


@click.command("study")
@click.option(
    "--pairing",
    "pairings",
    multiple=True,
    metavar="NAME[:KEY=VALUE,…]",
    shell_complete=completing("pairings", options=True),
    help=f"A pairing, with options where they differ; repeat [default: {', '.join(PAIRINGS)}].",
)
@click.option(
    "--objective",
    "objectives",
    multiple=True,
    metavar="NAME",
    shell_complete=completing("objectives"),
    help="An objective; repeat [default: train.objective].",
)
@click.option(
    "--condition",
    "conditions",
    multiple=True,
    metavar="NAME=KEY=VALUE;…",
    help="Params under which all arms are compared, by a name; repeat. KEY=VALUE as -S takes them.",
)
@click.option("--zoo", "zoos", type=int, multiple=True, help="A seed of the zoo; repeat [default: zoo.seed].")
@click.option("--seeds", type=click.IntRange(1), default=10, show_default=True, help="Runs of each arm.")
@click.option("--pairs", type=click.IntRange(1), help="Pairs of every arm [default: curriculum.budget].")
@click.option("--steps", type=click.IntRange(1), help="Optimiser steps of every arm [default: train.epochs].")
@click.option("-S", "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A param, for all arms.")
@click.option("--workers", type=click.IntRange(1, 2), default=2, show_default=True, help="One thread each.")
@click.option("--out", type=Path, default=Path("study"), show_default=True, help="Folder of the results.")
@click.option("--forecast", is_flag=True, help="Say how long it would take, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the forecast, or what came out, as JSON.")
def command(
    pairings: Sequence[str],
    objectives: Sequence[str],
    conditions: Sequence[str],
    zoos: Sequence[int],
    seeds: int,
    pairs: int | None,
    steps: int | None,
    settings: Sequence[str],
    workers: int,
    out: Path,
    forecast: bool,
    as_json: bool,
) -> None:
    """Compare pairings and objectives over seeds, at one budget of pairs and steps.

    Every arm runs once for each seed, in each condition and on each zoo, as an experiment of DVC's queue, on
    the pipeline of this folder; all arms of a seed share its answers. A study that was cut off goes on where
    it was, by the same command. Writes runs.csv, comparisons.csv, study.md and study.png, and a run `study`
    in MLflow.
    """
    from karma_plugins import params
    from karma_plugins.runtime.progress import progress
    from karma_plugins.study import experiments

    chosen = params.load("train", params.TrainSection)
    arms = [
        Arm(pairing, objective)
        for objective in objectives or [chosen.objective]
        for pairing in pairings or PAIRINGS
    ]
    _check(arms)
    budget = pairs or params.load("curriculum", params.CurriculumSection).budget
    if budget is None:
        raise ParamsError(
            "params.yaml, curriculum.budget: arms are compared at one budget. Set it, or --pairs."
        )
    each = chosen.batch_size * chosen.gradient_accumulation
    steps = steps or chosen.max_steps or math.ceil(chosen.epochs * budget / each)
    common = (*settings, f"++curriculum.budget={budget}", f"++train.max_steps={steps}")
    here = Path()
    if not forecast:
        _bring_up_to_date(here)
    key = _key(here, common)
    under = [
        Setting(name, written, zoo)
        for name, written in written_conditions(conditions).items()
        for zoo in dict.fromkeys(zoos) or [None]
    ]
    planned = {
        (arm, setting, seed): arm.name(key, seed, setting)
        for setting in under
        for seed in range(seeds)
        for arm in arms
    }
    left = len(planned.keys()) - len(set(planned.values()) & experiments.finished(here).keys())
    minutes = _minutes(here, left, workers)
    expected = {
        "experiments": len(planned), "done": len(planned) - left, "workers": workers, "minutes": minutes,
    }  # fmt: skip
    if not as_json:
        say(_forecast(len(planned), left, workers, minutes))
    if forecast:
        if as_json:
            say(json.dumps(expected, indent=1))
        return
    wanted = [
        experiments.Experiment(name, (*arm.params(seed), *setting.params, *common))
        for (arm, setting, seed), name in planned.items()
    ]
    commits = experiments.run(here, wanted, workers=workers, progress=partial(progress, "study"))
    runs, text, files = _conclude(here, {r: commits[n] for r, n in planned.items()}, budget, common, out)
    if as_json:
        say(json.dumps({**expected, "files": [str(file) for file in files], **_results(runs)}, indent=1))
        return
    say(text.rstrip())
    say(f"Written: {', '.join(str(file) for file in files)}")


def _conclude(
    here: Path, commits: Mapping[tuple[Arm, Setting, int], str], budget: int, common: Sequence[str], out: Path
) -> tuple[pl.DataFrame, str, list[Path]]:
    """Read what the experiments measured, write and track what it says: runs, report and files."""
    import polars as pl

    from karma_plugins import study, tables, tracking
    from karma_plugins.runtime import canvas
    from karma_plugins.schemas import STUDY
    from karma_plugins.study import experiments

    def read(commit: str, stage: str) -> dict[str, Any]:
        return dict(experiments.read_metrics(here, commit, f"metrics/{stage}.json"))

    results = []
    for (arm, setting, seed), commit in commits.items():
        trained = read(commit, "train")
        counts = (int(trained[key]) for key in ("pairs", "steps"))
        results.append(
            study.rows(
                arm.objective, arm.pairing, seed, read(commit, "evaluate"), *counts,
                condition=setting.condition, zoo=setting.zoo,
            )
        )  # fmt: skip
    runs = tables.check(pl.concat(results), STUDY, where="study").sort(STUDY.key)
    text = study.report(runs)
    short = runs.filter(pl.col("pairs") < budget).select("objective", "pairing").unique().sort("pairing")
    text += "".join(f"- {p} ({o}) found fewer than {budget} pairs in some seed.\n" for o, p in short.rows())
    settings = {"pairs": budget, "set": " ".join(common), "runs": len(commits)}
    out.mkdir(parents=True, exist_ok=True)
    files = [out / "runs.csv", out / "comparisons.csv", out / "study.md"]
    with tracking.stage("study", params=settings, inputs=[], outs=files) as run:
        tables.write_csv(runs, files[0])
        tables.write_csv(study.comparisons(runs), files[1])
        files[2].write_text(text, encoding="utf-8")
        canvas.save(study.picture(runs), out / "study.png")
        overall = study.arms(runs).filter(competency=study.ALL)
        run.metrics(
            {
                ".".join(
                    filter(None, (r["objective"], _slug(r["pairing"]), _slug(r["condition"])))
                ): _numbers(r)
                for r in overall.to_dicts()
            }
        )
        run.figure("study", study.picture, runs)
    return runs, text, [*files, out / "study.png"]


def _results(runs: pl.DataFrame) -> dict[str, Any]:
    """The runs, the arms and their paired comparisons as rows."""
    from karma_plugins import study

    return {
        "runs": runs.to_dicts(),
        "arms": study.arms(runs).to_dicts(),
        "comparisons": study.comparisons(runs).to_dicts(),
    }


def _check(arms: Sequence[Arm]) -> None:
    """Raise StudyError or ParamsError for an arm that is there twice or names no plugin or option."""
    from karma_plugins import params
    from karma_plugins.registry import manager, selection

    twice = next((arm for i, arm in enumerate(arms) if arm in arms[:i]), None)
    if twice:
        raise StudyError(f"--pairing {twice.pairing}: is there twice. Name each arm once.")
    registry = manager.load()
    curriculum = params.load("curriculum", params.CurriculumSection)
    train = params.load("train", params.TrainSection)
    for arm in arms:
        name, _, written = arm.pairing.partition(":")
        options = dict(curriculum.pairings.get(name, {}))
        for option in arm_options(arm.pairing, written):
            if is_param(option):
                continue
            key, _, value = option.partition("=")
            options[key] = _value(value)
        selection.pairing(
            curriculum.model_copy(update={"pairing": name, "pairings": {name: options}}), registry
        )
        selection.objective(train.model_copy(update={"objective": arm.objective}), registry)


def _value(text: str) -> object:
    from karma_plugins.params import yaml

    try:
        return yaml.parse(text)
    except yaml.YamlError as error:
        raise StudyError(f"--pairing: {text} is not readable as YAML ({error}).") from error


def _bring_up_to_date(here: Path) -> None:
    """Run what all experiments share once, before two workers would each run it."""
    require("karma study", "dvc")
    done = subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=here, check=False)
    if done.returncode:
        raise StudyError("`dvc repro` failed, so there is nothing to experiment on. Mend that first.")


def _key(here: Path, common: Sequence[str]) -> str:
    """What all experiments of a study share, so that those of another are never taken for them."""
    from karma_plugins import lineage

    shared = json.dumps([lineage.pipeline(here, OURS).state, *common])
    return hashlib.blake2b(shared.encode(), digest_size=4).hexdigest()


def _minutes(here: Path, left: int, workers: int) -> float | None:
    """About how long experiments take, from the last runs of their stages; null where none was tracked."""
    from karma_plugins import lineage
    from karma_plugins.tracking import access

    root = lineage.project_root(here)
    if not access.is_there(root):
        return None
    with access.opened(root, OURS) as store:
        from karma_plugins.tracking.history import durations

        taken = {name: s for name, s in durations(store).items() if name.partition("@")[0] in STAGES}
    return left * sum(seconds + START for seconds in taken.values()) / workers / 60 if taken else None


def _forecast(planned: int, left: int, workers: int, minutes: float | None) -> str:
    """How many experiments are left, and about how long they take."""
    counts = f"{planned} experiments, {planned - left} of them done, {workers} at a time"
    if minutes is None:
        return f"{counts}; no stage has been tracked yet, so their time is unknown."
    return f"{counts}: at most about {minutes:.0f} minutes (answers that arms share are made once)."


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text)


def _numbers(row: Mapping[str, object]) -> dict[str, float]:
    return {key: value for key, value in row.items() if isinstance(value, float | int)}
