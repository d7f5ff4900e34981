"""Readers of data sets of others: what they share, and `RecordedFolder`, which every importer fills."""

from karma_plugins.importers.recorded_folder import RecordedFolder

__all__ = ["RecordedFolder"]
