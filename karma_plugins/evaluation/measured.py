"""The blocks that the metrics of an evaluation are made of: all held-out prompts, then each competency's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def blocks(metrics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Each block by its competency; `all` comes first."""
    return [("all", metrics), *metrics["competency"].items()]


def of(block: Mapping[str, Any], measure: str) -> tuple[float, float, float]:
    """Mean, low and high of a measure, such as `accuracy.base`."""
    value: Any = block
    for part in measure.split("."):
        value = value[part]
    return value["mean"], value["low"], value["high"]
