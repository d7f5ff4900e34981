"""What a check gathers: errors, warnings, forecast; and what can't be known before a stage has run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from karma_plugins import params
from karma_plugins.contracts import Endpoint
from karma_plugins.errors import KarmaError, not_installed
from karma_plugins.registry import Bound

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


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


def section_of(name: str, model: type[M], document: Mapping[str, Any], findings: Findings) -> M | None:
    """A section, its wrong keys noted and left out; None where it is absent or says too little."""
    if name not in document:
        return None
    return checked(model, document[name], f"params.yaml, {name}", findings)


def checked(model: type[M], value: Any, where: str, findings: Findings) -> M | None:
    """A value as its model, wrong keys noted and left out; None where it says too little."""
    whole = findings.attempt(params.validate, model, value, where=where)
    return params.without_faults(model, value) if whole is None else whole


def is_awaited(bound: Bound[Any], outs: set[Path]) -> bool:
    """Whether an option names something that a stage is yet to make."""
    return any(
        isinstance(value, str) and is_made(value, outs) for value in bound.options.model_dump().values()
    )
