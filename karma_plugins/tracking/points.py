"""A metric on the way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """A metric's value at a step; `at` in milliseconds since 1970."""

    key: str
    value: float
    step: int
    at: int
