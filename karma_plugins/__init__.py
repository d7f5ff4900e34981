"""Kinship-aware preference data for stacks that run on DVC and MLflow; the face that plugins import.

Names are looked up when they are first asked for, so that `import karma_plugins` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from karma_plugins.contracts import (
        API_VERSION,
        Answer,
        AnswerPair,
        Endpoint,
        Evidence,
        Expected,
        Generator,
        Judge,
        KinshipMetric,
        Messages,
        Model,
        Objective,
        Options,
        Pairing,
        PairingContext,
        Piece,
        Profile,
        Profiler,
        Recorded,
        Reply,
        Report,
        Request,
        Runner,
        Source,
        TrainingJob,
        TrainingSettings,
        Verdict,
        Verdicts,
        Weights,
    )
    from karma_plugins.errors import KarmaError, RunnerError
    from karma_plugins.hookspecs import hookimpl

__version__ = "0.1.0"

__all__ = [
    "API_VERSION",
    "Answer",
    "AnswerPair",
    "Endpoint",
    "Evidence",
    "Expected",
    "Exporter",
    "Generator",
    "Importer",
    "Judge",
    "KarmaError",
    "KinshipMetric",
    "Messages",
    "Model",
    "Objective",
    "Options",
    "Pairing",
    "PairingContext",
    "Piece",
    "Profile",
    "Profiler",
    "Recorded",
    "Reply",
    "Report",
    "Request",
    "Runner",
    "RunnerError",
    "Source",
    "Tables",
    "TrainingJob",
    "TrainingSettings",
    "Verdict",
    "Verdicts",
    "Weights",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'karma_plugins' has no attribute '{name}'")
    home = {"KarmaError": "errors", "RunnerError": "errors", "hookimpl": "hookspecs"}.get(name, "contracts")
    return getattr(import_module(f"karma_plugins.{home}"), name)


def __dir__() -> list[str]:
    return __all__
