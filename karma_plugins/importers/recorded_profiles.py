"""What every reader of profiles makes: the tables, and what it met on the way.

`Profiles.counts` says what was read, mended and left out; RULES of each reader say how.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from karma_plugins.contracts import Model
from karma_plugins.schemas import ITEMS, RESPONSES, SCORES


@dataclass
class Profiles:
    """Profiles as tables `scores` and `items`, maybe answers (`responses`), the rules that were followed, and
    what they met, counted.
    """

    scores: pl.DataFrame = field(default_factory=SCORES.empty)
    items: pl.DataFrame = field(default_factory=ITEMS.empty)
    rules: tuple[str, ...] = ()
    counts: Counter[str] = field(default_factory=Counter)
    responses: pl.DataFrame = field(default_factory=RESPONSES.empty)

    @property
    def models(self) -> list[Model]:
        """The models that are profiled, by name; nothing is known of their weights."""
        names = {*self.scores["model"], *self.items["model"], *self.responses["model"].unique()}
        return [Model(name, Path(name), None) for name in sorted(names)]
