"""The whole plugin surface: a distribution's entry point in group `karma` names a module with some of these
hooks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pluggy

from karma_plugins.contracts import hookimpl as hookimpl

if TYPE_CHECKING:
    from karma_plugins.contracts import (
        Exporter,
        Generator,
        Importer,
        Judge,
        KinshipMetric,
        Objective,
        Pairing,
        Profiler,
        Runner,
    )

hookspec = pluggy.HookspecMarker("karma")


@hookspec
def karma_register_profilers() -> Sequence[Profiler]:  # type: ignore[empty-body]
    """Profilers: measure a model's competencies. Named in `profile.profiler`."""


@hookspec
def karma_register_kinship_metrics() -> Sequence[KinshipMetric]:  # type: ignore[empty-body]
    """Kinship metrics: measure how alike models are. Named in `kinship.metric` and `kinship.metrics`."""


@hookspec
def karma_register_generators() -> Sequence[Generator]:  # type: ignore[empty-body]
    """Generators: have a model answer prompts. Named in `models.<model>.generator`."""


@hookspec
def karma_register_judges() -> Sequence[Judge]:  # type: ignore[empty-body]
    """Judges: score answers, compare them, or recall recorded verdicts. Named in `judge.judges`."""


@hookspec
def karma_register_pairings() -> Sequence[Pairing]:  # type: ignore[empty-body]
    """Pairings: choose which answers are compared in training. Named in `curriculum.pairing`."""


@hookspec
def karma_register_objectives() -> Sequence[Objective]:  # type: ignore[empty-body]
    """Objectives: align a model on pairs. Named in `train.objective`."""


@hookspec
def karma_register_importers() -> Sequence[Importer]:  # type: ignore[empty-body]
    """Importers: read a data set of others. Named on the command line: `karma import NAME`."""


@hookspec
def karma_register_exporters() -> Sequence[Exporter]:  # type: ignore[empty-body]
    """Exporters: write the preference data in another layout. Named as in `karma export NAME`."""


@hookspec
def karma_register_runners() -> Sequence[Runner]:  # type: ignore[empty-body]
    """Runners: compute the pieces of a stage's work, here or on other machines. Named in `runner.runner`."""
