"""What MLflow's refusals mean: of one record, of a moment, or of how it is reached."""

from __future__ import annotations

from karma_plugins.tracking.access import TrackingError, without_password
from karma_plugins.tracking.store import StoreError, is_final, is_setting

#: So many refusals in a row, none of them of what was sent, and MLflow is taken to be away.
AWAY = 3


class Trouble:
    """Refusals in a row: one record's own stand in no other's way, but where MLflow is away all wait."""

    def __init__(self) -> None:
        self._row = 0

    def meet(self, error: Exception) -> None:
        """Go on after a refusal of one record; raise where it is one of everything."""
        if isinstance(error, StoreError) or is_setting(error):
            raise error
        if is_final(error):
            return
        self._row += 1
        if self._row >= AWAY:
            raise error

    def over(self) -> None:
        """Something was taken, so MLflow is there."""
        self._row = 0


def reason(error: Exception) -> str:
    """The first line of what MLflow said, without passwords."""
    lines = (str(error).strip() or type(error).__name__).splitlines()
    chosen = next((line for line in lines if "Error)" in line or "error" in line.lower()), lines[0])
    return without_password(chosen)[:300]


def cure(error: Exception) -> str:
    """What to do about a refusal of everything."""
    text = str(error).lower()
    for sign, what in (
        ("readonly database", "Make the database's file and folder writable."),
        ("disk is full", "Make room on that disk."),
        ("no space left", "Make room on that disk."),
        ("database is locked", "Another process holds the database: try again when it has ended."),
        ("file:", "Name a database or a server by MLFLOW_TRACKING_URI."),
        ("filesystem tracking backend", "Name a database or a server by MLFLOW_TRACKING_URI."),
        ("401", "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."),
        ("403", "Ask for the right to write there."),
    ):
        if sign in text:
            return what
    if is_setting(error) or is_final(error):
        return "Correct MLFLOW_TRACKING_URI or the experiment that is named; trying again is of no use."
    return "Try again when it can be reached."


def told(error: Exception, place: str) -> TrackingError:
    """One line that says what MLflow said, where, and what to do."""
    if isinstance(error, StoreError):
        return TrackingError(str(error))
    message = reason(error).rstrip()
    message += "" if message.endswith((".", "!", "?")) else "."
    return TrackingError(without_password(f"MLflow at {place}: {message} {cure(error)}"))
