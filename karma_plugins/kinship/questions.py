"""Table `items` as arrays: what each model answered to each benchmark question, questions by competency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from karma_plugins.contracts import Evidence
from karma_plugins.kinship.pairs import Floats, Ints, Pairs, pairs_of

#: Two models answered the same question only where the question has the same options and right option.
QUESTION = ("competency", "task", "item_id", "n_choices", "answer")


@dataclass(frozen=True)
class Questions:
    """The questions of some models, sorted by competency, then by name; arrays are (models, questions).

    `competencies` gives each competency's slice of the questions. `correct` is NaN and `choice` -1 where a
    model left a question out or its reply has no option; `options` and `answer` are -1 for questions without
    options. `row` is the place in `table` of a model's reply to a question, -1 where there is none.
    """

    pairs: Pairs
    competencies: dict[str, slice]
    options: Ints
    answer: Ints
    correct: Floats
    choice: Ints
    row: Ints
    table: pl.DataFrame

    @property
    def asked(self) -> NDArray[np.bool_]:
        """Where a model was asked a question."""
        return self.row >= 0

    @property
    def most_options(self) -> int:
        """The options of the question that has most, at least 1."""
        return max(int(self.options.max(initial=0)), 1)

    def choices(self, width: int) -> Floats:
        """1 at the option that a model chose, (models, questions, width): rows of zeros are unanswered."""
        chosen: Floats = (self.choice[:, :, None] == np.arange(width)).astype(np.float64)
        return chosen

    def probabilities(self) -> Floats:
        """Each option's probability, (models, questions, most options): 0 beyond a question's options.

        A reply without probabilities counts as certain of the option it chose; rows of zeros are unanswered.
        """
        width = self.most_options
        listed = self.table["choice_probs"]
        if listed.null_count() == len(listed):
            return self.choices(width)
        probabilities = self.choices(width)
        has = (self.row >= 0) & (listed.list.len().fill_null(0).to_numpy()[self.row] > 0)
        length = listed.list.len().fill_null(0).to_numpy().astype(np.int64)
        values = listed.explode(empty_as_null=False, keep_nulls=False).to_numpy()
        if has.all() and (length == width).all():
            whole: Floats = values.reshape(-1, width)[self.row]
            return whole
        start = np.cumsum(length) - length
        model, question = np.nonzero(has)
        row = self.row[model, question]
        inside = np.arange(width) < np.minimum(length[row], width)[:, None]
        at = np.where(inside, start[row][:, None] + np.arange(width), 0)
        probabilities[model, question] = np.where(inside, values[at], 0.0)
        return probabilities


def read(evidence: Evidence) -> Questions:
    """The questions that any candidate was asked."""
    pairs = pairs_of(evidence)
    table = evidence.items
    keys = table.select(QUESTION).unique().sort(QUESTION).with_row_index("question")
    models = pl.DataFrame({"model": pairs.names}, schema={"model": pl.String}).with_row_index("name")
    place = (
        table.select("model", *QUESTION)
        .with_row_index("row")
        .join(keys, on=QUESTION, nulls_equal=True)
        .join(models, on="model")
    )
    shape = len(pairs.names), keys.height
    at = place["name"].to_numpy(), place["question"].to_numpy()
    row = np.full(shape, -1)
    row[at] = place["row"].to_numpy()
    correct, choice = np.full(shape, np.nan), np.full(shape, -1)
    correct[at] = table["correct"].fill_null(float("nan")).to_numpy()[row[at]]
    choice[at] = table["choice"].fill_null(-1).to_numpy()[row[at]]
    counts = keys.group_by("competency", maintain_order=True).len()
    stops = np.cumsum(counts["len"].to_numpy()).tolist()
    starts = [0, *stops]
    return Questions(
        pairs,
        {name: slice(a, b) for name, a, b in zip(counts["competency"], starts, stops, strict=False)},
        keys["n_choices"].fill_null(-1).to_numpy(),
        keys["answer"].fill_null(-1).to_numpy(),
        correct,
        choice,
        row,
        table,
    )
