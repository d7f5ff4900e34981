"""One schema for each table: the contract between two stages, checked when a table is written and when it is
read.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
STRING, FLOAT, INT, BOOL = pl.String, pl.Float64, pl.Int64, pl.Boolean


@dataclass(frozen=True)
class Schema:
    """Columns and types of a table, the unique key that orders its rows, the columns that may hold nulls."""

    name: str
    columns: pl.Schema
    key: tuple[str, ...]
    nullable: frozenset[str] = frozenset()

    def empty(self) -> pl.DataFrame:
        """The table with no row."""
        return pl.DataFrame(schema=self.columns)


def _schema(name: str, key: str, nullable: str = "", **columns: pl.DataType | type[pl.DataType]) -> Schema:
    return Schema(name, pl.Schema(columns), tuple(key.split()), frozenset(nullable.split()))


#: A task of lm-eval's has several metrics: the first of these is its score, else the first in its own list.
MAIN_METRICS = ("acc_norm", "acc", "exact_match", "prompt_level_strict_acc", "pass@1", "em", "f1")

#: prompt_id is a hash of messages and reference; split is `train` or `heldout`; constraints is JSON.
PROMPTS = _schema(
    "prompts", "prompt_id", "reference constraints",
    prompt_id=STRING, messages=MESSAGES, competency=STRING, reference=STRING, constraints=STRING,
    split=STRING,
)  # fmt: skip

#: score in [0,1], null where the benchmark cell is missing; stderr in the same unit; n = items.
SCORES = _schema(
    "scores", "model competency task metric", "score stderr n",
    model=STRING, competency=STRING, task=STRING, metric=STRING, score=FLOAT, stderr=FLOAT, n=INT,
)  # fmt: skip

#: One row for each benchmark item: correct in [0,1]; choice = option number chosen (from 0), answer = right
#: option, null where the item has no options or the reply was unparsed; choice_probs sum to 1 over the
#: options.
ITEMS = _schema(
    "items", "model task item_id", "correct choice answer n_choices choice_probs",
    model=STRING, competency=STRING, task=STRING, item_id=STRING, correct=FLOAT,
    choice=INT, answer=INT, n_choices=INT, choice_probs=pl.List(FLOAT),
)  # fmt: skip

#: kinship, low, high in [0,1] (95% interval); raw is the metric's own unit; reason says why kinship is null.
#: consistency: how alike, by this metric, the two models are to themselves (geometric mean), null = 1.
#: uncertain: the interval is wider than the differences that a pairing would act on; version names the
#: plugin's distribution and version; primary marks the metric that pairing and judging act on.
KINSHIP = _schema(
    "kinship", "metric competency model_a model_b",
    "competency kinship low high raw consistency n_items uncertain missing reason",
    metric=STRING, competency=STRING, model_a=STRING, model_b=STRING, kinship=FLOAT, low=FLOAT, high=FLOAT,
    raw=FLOAT, consistency=FLOAT, n_items=INT, uncertain=BOOL, missing=STRING, reason=STRING, version=STRING,
    primary=BOOL,
)  # fmt: skip

#: One row for each metric and model: the family (the name of its most central member; null = alone) and its
#: size; the share of resampled tables in which it has the very same members; the relative kinship at which
#: families were cut; the nearest other model with its relative kinship.
FAMILIES = _schema(
    "families", "metric model", "family nearest kinship",
    metric=STRING, model=STRING, family=STRING, size=INT, sure=FLOAT, cut=FLOAT, nearest=STRING,
    kinship=FLOAT,
)  # fmt: skip

#: text is null exactly when error says why; seed drew this row's sampling noise (null for recorded answers).
RESPONSES = _schema(
    "responses", "prompt_id model sample",
    "text finish_reason prompt_tokens completion_tokens seed error",
    response_id=STRING, prompt_id=STRING, model=STRING, sample=INT, text=STRING, finish_reason=STRING,
    prompt_tokens=INT, completion_tokens=INT, seed=INT, error=STRING,
)  # fmt: skip

#: score in [0,1], null unless status is `ok`; status `ok`, `skipped` or `failed`, the latter two with a
#: reason.
JUDGEMENTS = _schema(
    "judgements", "prompt_id response_id judge", "score reason",
    prompt_id=STRING, response_id=STRING, judge=STRING, version=STRING, score=FLOAT, status=STRING,
    reason=STRING,
)  # fmt: skip

#: p_a = probability that response_a is better, shown first where `order` is `ab`, second where it is `ba`.
COMPARISONS = _schema(
    "comparisons", "prompt_id response_a response_b judge order", "p_a reason",
    prompt_id=STRING, response_a=STRING, response_b=STRING, judge=STRING, version=STRING, p_a=FLOAT,
    order=STRING, status=STRING, reason=STRING,
)  # fmt: skip

#: One row for each response that any judge scored: reward in [0,1] unless aligned; judges = their names
#: joined by `+` (only rewards of the same judges are compared); disagreement = standard deviation over
#: judges, null for one.
REWARDS = _schema(
    "rewards", "response_id", "reward disagreement",
    response_id=STRING, prompt_id=STRING, reward=FLOAT, n_judges=INT, judges=STRING, disagreement=FLOAT,
)  # fmt: skip

#: Who judged: version(s) of the judge, weight of its vote, and how many of its words are verdicts (`ok` or
#: `tie`), skipped or failed.
JUDGES = _schema(
    "judges", "judge", "",
    judge=STRING, version=STRING, weight=FLOAT, verdicts=INT, skipped=INT, failed=INT,
)  # fmt: skip

#: What the jury's habits are, with 95% intervals where there is one: `measure` as in docs/judges.md; judge
#: null = the rewards; detail = another judge, a candidate or a reason; fair = what a judge without the bias
#: would show;
#: n = what was counted; reason says why value is null.
BIAS = _schema(
    "bias", "measure judge detail", "judge detail value low high fair reason",
    measure=STRING, judge=STRING, detail=STRING, value=FLOAT, low=FLOAT, high=FLOAT, fair=FLOAT, n=INT,
    reason=STRING,
)  # fmt: skip

#: What a pairing sees, rows of one prompt together: `a` is the answer with the higher reward; disagreement is
#: the judges' on both answers (null for one judge); kinship is that of the two models by the acting metric (1
#: for one model with itself, null if unknown); noise in [0,1) is drawn from the seed and the response ids.
CANDIDATES = pl.Schema({
    "prompt_id": STRING, "competency": STRING, "response_a": STRING, "response_b": STRING, "model_a": STRING,
    "model_b": STRING, "reward_a": FLOAT, "reward_b": FLOAT, "margin": FLOAT, "disagreement": FLOAT,
    "kinship": FLOAT, "noise": FLOAT,
})  # fmt: skip

#: The preference dataset, in training order; prompt, chosen and rejected are conversations as TRL takes them.
#: disagreement: of the judges on the two answers; complexity: of the prompt (standard deviation
#: of its answers' rewards); likelihood: of the two answers under the model to be trained, geometric mean of a
#: token's probability, null where no judge told.
PAIRS = _schema(
    "pairs", "order", "kinship competency disagreement complexity chosen_likelihood rejected_likelihood",
    order=INT, phase=INT, prompt=MESSAGES, chosen=MESSAGES, rejected=MESSAGES, prompt_id=STRING,
    competency=STRING,
    chosen_id=STRING, rejected_id=STRING, chosen_model=STRING, rejected_model=STRING, chosen_reward=FLOAT,
    rejected_reward=FLOAT, margin=FLOAT, disagreement=FLOAT, kinship=FLOAT, complexity=FLOAT,
    chosen_likelihood=FLOAT, rejected_likelihood=FLOAT, difficulty=FLOAT,
)  # fmt: skip

#: What both models of the evaluation answered to the held-out prompts, side by side: text and reward of each
#: (null where there was no answer, or no verdict); counted: the figures rest on this prompt.
HELDOUT = _schema(
    "heldout", "prompt_id sample", "base aligned base_reward aligned_reward",
    prompt_id=STRING, sample=INT, competency=STRING, base=STRING, aligned=STRING, base_reward=FLOAT,
    aligned_reward=FLOAT, counted=BOOL,
)  # fmt: skip

#: Runs of a study: accuracy of base and aligned model, their difference and the win rate, over all held-out
#: prompts (competency `all`) and those of each; a pairing with options of its own reads `kin:prefer=chance`;
#: condition is empty where a study has one, zoo (the zoo's seed) null where params name it.
STUDY = _schema(
    "study", "objective pairing condition zoo seed competency", "zoo",
    objective=STRING, pairing=STRING, condition=STRING, zoo=INT, seed=INT, competency=STRING, pairs=INT,
    steps=INT, base=FLOAT, aligned=FLOAT, difference=FLOAT, win_rate=FLOAT,
)  # fmt: skip
