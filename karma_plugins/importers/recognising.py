"""Which layout a file is in: every importer that knows its layout by a record is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from karma_plugins.contracts import Importer
from karma_plugins.errors import TableError
from karma_plugins.importers.preference_pairs import refuse_step_labels
from karma_plugins.texts import records

#: Records that are asked about: the first may be an odd one.
LOOKED_AT = 20


def recognised(sources: Sequence[Path], importers: Mapping[str, Importer]) -> str:
    """The name of the importer for these sources.

    Raises TableError where none knows the records, or several do that are not general; it names the columns.
    """
    votes: Counter[str] = Counter()
    columns: list[str] = []
    for number, (where, record) in enumerate(records.read(sources, counts=Counter())):
        if number == LOOKED_AT:
            break
        refuse_step_labels(record, where)
        columns = columns or [str(name) for name in record]
        known = [n for n, i in importers.items() if i.recognises is not None and i.recognises(record)]
        votes.update([n for n in known if not importers[n].general] or known)
    where = ", ".join(map(str, sources))
    if not votes:
        raise TableError(
            f"{where}: no layout that is known has the columns {', '.join(columns) or '(none)'}. "
            f"Name a layout: "
            f"karma import {' | '.join(sorted(importers))}; `karma import trl` can be told which "
            f"columns to read."
        )
    most = max(votes.values())
    named = sorted(name for name, count in votes.items() if count == most)
    if len(named) > 1:
        raise TableError(f"{where}: may be {' or '.join(named)}. Name one: karma import {named[0]} …")
    return named[0]
