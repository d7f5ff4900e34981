"""What can go wrong in a way a user can mend. The command line turns each of these into one line and exit
status 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class KarmaError(Exception):
    """Any failure a user can mend; its text says what failed, where, and what to do."""


class ParamsError(KarmaError):
    """A section of params.yaml has an unknown key, a wrong value, or is missing."""


class TableError(KarmaError):
    """A table or input file is missing, broken, or its columns are not those of its schema."""


class PluginError(KarmaError):
    """A plugin is unknown, broken, colliding, or was given options that it does not take."""


class ModelError(KarmaError):
    """A model's folder or descriptor is missing, unsafe, or of no known kind."""


class LockError(KarmaError):
    """The installed code differs from what karma.lock.json records."""


class EmptyResultError(KarmaError):
    """The settings leave nothing to go on with, such as no pair at all."""


class TrainingError(KarmaError):
    """Training can't go on: a loss, gradient, weight or reward is not a finite number."""


class RequestError(KarmaError):
    """A server or hub can't be reached, refuses, or a limit on requests, tokens or money is met."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that suggests the nearest known name; empty when none is near."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""
