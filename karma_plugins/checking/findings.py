"""What a check has found so far, and what it can't know yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from karma_plugins.contracts import Endpoint
from karma_plugins.errors import KarmaError, not_installed

T = TypeVar("T")


@dataclass
class Findings:
    """What `check` found: what would stop a stage, what is only doubtful, and what the run will cost."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    forecast: list[str] = field(default_factory=list)
    #: Servers that the run will ask, to be asked once whether they are there.
    endpoints: list[Endpoint] = field(default_factory=list)

    def attempt(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T | None:
        """The call's value, or None after its KarmaError, or what is not installed, was noted."""
        try:
            return call(*args, **kwargs)
        except KarmaError as error:
            reason = error
        except ImportError as error:
            absent = not_installed(error)
            if absent is None:
                raise
            reason = absent
        if str(reason) not in self.errors:
            self.errors.append(str(reason))
        return None


def is_made(path: str, outs: set[Path]) -> bool:
    """Whether a stage is yet to make what is to lie at a path: an out of dvc.yaml, or below one."""
    place = Path(path)
    return any(out == place or out in place.parents for out in outs if not out.exists())
