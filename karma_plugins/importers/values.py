"""What an untrusted value is: a number, a share of a scale, a text; null for anything else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def number(value: Any) -> float | None:
    """A finite number from a number or a text; null for anything else, also for what no float can hold."""
    try:
        parsed = math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return parsed if math.isfinite(parsed) else None


def share(value: Any, low: float, high: float) -> float | None:
    """A number on a scale from `low` to `high` as a share of it; null where it is none."""
    parsed = number(value)
    return (parsed - low) / (high - low) if parsed is not None and low <= parsed <= high else None


def text(value: Any) -> str | None:
    """A text that holds more than blanks; null for anything else."""
    return value if isinstance(value, str) and value.strip() else None


def mapping(value: Any) -> Mapping[str, Any]:
    """A mapping; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}
