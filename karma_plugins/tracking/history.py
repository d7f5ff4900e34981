"""What MLflow holds, read back: stage runs and models as `karma_plugins.lineage.Graph` takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from mlflow.entities import Run

from karma_plugins.lineage.graph import Datum, Graph, ModelEntry, StageRun
from karma_plugins.tracking.store import Store


def graph(store: Store) -> Graph:
    """All finished stage runs of the experiment, and its models."""
    return Graph(stage_runs(store), models(store))


def stage_runs(store: Store, condition: str = "") -> list[StageRun]:
    """Finished stage runs, by a further condition in MLflow's words where one is given."""
    wanted = "tags.`karma.role` = 'stage' AND attributes.status = 'FINISHED'"
    return [stage_run(run) for run in runs(store, f"{wanted} AND {condition}" if condition else wanted)]


def durations(store: Store) -> dict[str, float]:
    """Seconds that each stage (`generate@trunk`) took when it last ran to its end."""
    finished = runs(store, "tags.`karma.role` = 'stage' AND attributes.status = 'FINISHED'")
    return {
        run.info.run_name: (run.info.end_time - run.info.start_time) / 1000
        for run in finished
        if run.data.tags.get("karma.from") != "dvc.lock"
    }


def runs(store: Store, condition: str) -> list[Run]:
    """Runs of the experiment by a condition in MLflow's words, by start and id."""
    order = ["attributes.start_time ASC", "attributes.run_id ASC"]
    return list(
        _pages(
            lambda token: store.client.search_runs(
                [store.experiment], condition, order_by=order, page_token=token
            )
        )
    )


def stage_run(run: Run) -> StageRun:
    """A run with its datasets by the side they were on."""
    sides: dict[str, list[Datum]] = {"input": [], "output": []}
    for data in run.inputs.dataset_inputs:
        tags = {tag.key: tag.value for tag in data.tags}
        sides[tags.get("mlflow.data.context", "input")].append(
            Datum(tags.get("dvc.path", data.dataset.name), data.dataset.digest)
        )
    tags = run.data.tags
    return StageRun(
        run.info.run_id,
        run.info.run_name,
        tags.get("karma.state", ""),
        run.info.start_time,
        run.data.params,
        run.data.metrics,
        tags,
        tuple(sorted(sides["input"])),
        tuple(sorted(sides["output"])),
    )


def models(store: Store) -> list[ModelEntry]:
    """Logged models whose weights lie in DVC, with their versions in the registry."""
    logged = _pages(lambda token: store.client.search_logged_models([store.experiment], page_token=token))
    return [
        ModelEntry(
            model.model_id,
            model.name,
            Datum(model.tags["dvc.path"], model.tags["dvc.md5"]),
            model.source_run_id,
            tuple(sorted(f"{v['name']}/{v['version']}" for v in _versions(model.tags))),
        )
        for model in logged
        if "dvc.md5" in model.tags
    ]


def _versions(tags: dict[str, str]) -> list[dict[str, str]]:
    """MLflow keeps the versions of a logged model as JSON in a tag of it."""
    import json

    return list(json.loads(tags.get("mlflow.modelVersions", "[]")))


def _pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return
