"""Judge `recorded`: ratings and preferences that came with recorded answers."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from pydantic import Field

from karma_plugins.contracts import Judge, Options, Verdicts, hookimpl
from karma_plugins.errors import PluginError, did_you_mean


class RecordedOptions(Options):
    """Options of judge `recorded`."""

    annotator: str | None = Field(
        None, description="the recorded judge; null: the one of the entry's own name, or the only one"
    )


def recall(recorded: Verdicts, options: RecordedOptions) -> Verdicts:
    """The recorded verdicts of one annotator; PluginError where it recorded none."""
    if options.annotator is None:
        return recorded
    chosen = pl.col("judge") == options.annotator
    own = Verdicts(recorded.judgements.filter(chosen), recorded.comparisons.filter(chosen))
    if own.judgements.is_empty() and own.comparisons.is_empty():
        names = sorted({*recorded.judgements["judge"].unique(), *recorded.comparisons["judge"].unique()})
        raise PluginError(
            f"judge 'recorded': nothing is recorded by annotator '{options.annotator}'."
            f"{did_you_mean(options.annotator, names)} Recorded: {', '.join(names) or 'nobody'}."
        )
    return own


@hookimpl
def karma_register_judges() -> Sequence[Judge]:
    """Register judge `recorded`."""
    return [Judge(name="recorded", options=RecordedOptions, recall=recall, keeps_shards=False)]
