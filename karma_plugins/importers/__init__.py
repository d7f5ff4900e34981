"""Readers of data sets of others; authors of importers use a folder to fill, and pairs to add."""

from karma_plugins.importers.preference_pairs import Pair, add_pair, finished
from karma_plugins.importers.recorded_folder import RecordedFolder

__all__ = ["Pair", "RecordedFolder", "add_pair", "finished"]
