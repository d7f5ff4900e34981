"""Export as a folder that `hf upload` (huggingface_hub) takes as a dataset repository: shards and a card."""

from __future__ import annotations

from pathlib import Path

from karma_plugins.curriculum import Curriculum
from karma_plugins.curriculum.card import Provenance, card
from karma_plugins.exporters import fresh
from karma_plugins.params import CurriculumSection

#: Pairs to a file: well below the size from which the hub asks for smaller files.
SHARD = 200_000


def write(
    curriculum: Curriculum,
    folder: Path,
    settings: CurriculumSection,
    provenance: Provenance,
    *,
    shard: int = SHARD,
) -> int:
    """Write README.md and `data/train-00000-of-00001.parquet` …, in curriculum order; gives their number."""
    pairs = curriculum.pairs.sort("order")
    shards = max(1, -(-pairs.height // shard))
    (fresh(folder) / "data").mkdir(parents=True)
    for i in range(shards):
        part = pairs.slice(i * shard, shard)
        part.write_parquet(folder / "data" / f"train-{i:05d}-of-{shards:05d}.parquet", compression="zstd")
    text = card(curriculum, settings, provenance, data_files="data/train-*.parquet")
    (folder / "README.md").write_text(text, encoding="utf-8")
    return shards
