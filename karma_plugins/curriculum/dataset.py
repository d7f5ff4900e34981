"""The preference dataset as a folder that `datasets.load_dataset` and TRL read: a table and a card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from karma_plugins import tables
from karma_plugins.curriculum import Curriculum
from karma_plugins.curriculum.card import Provenance, card, judge_versions
from karma_plugins.params import CurriculumSection
from karma_plugins.schemas import PAIRS

#: Where the table lies in the folder; `datasets` takes the name for the split.
TRAIN = Path("data/train.parquet")


def provenance(judges: pl.DataFrame, bias: pl.DataFrame, hashes: Mapping[str, str]) -> Provenance:
    """What the card says of a dataset's origin: judges with versions, their bias, and the inputs' hashes."""
    return Provenance(hashes=hashes, judges=judge_versions(judges), bias=bias)


def write(
    curriculum: Curriculum, folder: Path, settings: CurriculumSection, provenance: Provenance | None = None
) -> None:
    """Write `README.md` (the card) and `data/train.parquet` (table `pairs` in training order) into a folder.

    Equal input gives equal bytes; neither file holds a time or a path.
    """
    tables.write(curriculum.pairs, folder / TRAIN, PAIRS)
    text = card(curriculum, settings, provenance or Provenance())
    (folder / "README.md").write_text(text, encoding="utf-8")
