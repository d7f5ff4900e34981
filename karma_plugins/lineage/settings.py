"""What a project's own pipeline has that others have not: handed in, so that nothing here knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Settings:
    """How the pipelines of a project are read and shown; by default those of any DVC project.

    `code` is a params file beside dvc.yaml that says which code each stage runs, as entries of distribution,
    version and digest by label; it decides results, and only pipelines that have it are the project's own.
    The sections `aside` of params.yaml decide no result. `experiment` and `system_metrics` are params that
    name the MLflow experiment, and that have the machine's load logged. `telling` params name pipeline runs;
    the versions of `libraries` are tags of every run that reports as it goes. Of the project's own pipelines
    `models` names logged models by the paths of their outs, and the param `register` of a stage, whose name
    is put before it, names the registered model. `describing` are the keys of a small YAML file that stands
    for a model, by which lineage tells which one.
    """

    code: str | None = None
    aside: tuple[str, ...] = ()
    experiment: str | None = None
    system_metrics: str | None = None
    telling: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ("dvc", "mlflow")
    models: Mapping[str, str] = field(default_factory=dict)
    register: str | None = None
    describing: tuple[str, ...] = ()


#: Of any project.
ANY = Settings()
