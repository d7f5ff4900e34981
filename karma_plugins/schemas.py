"""One schema for each table: the contract between two stages, checked when a table is written and when it is
read. The reference in docs/reference/tables.md is made from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import polars as pl

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
STRING, FLOAT, INT, BOOL = pl.String, pl.Float64, pl.Int64, pl.Boolean

Kind: TypeAlias = "pl.DataType | type[pl.DataType]"
#: Type and what it holds; a third part says that it may hold nulls.
Column: TypeAlias = "tuple[Kind, str] | tuple[Kind, str, str]"
NULLS = "nulls"


@dataclass(frozen=True)
class Schema:
    """Columns and types of a table, the unique key that orders its rows, the columns that may hold nulls.

    `about` says what a row is, `notes` what each column holds.
    """

    name: str
    columns: pl.Schema
    key: tuple[str, ...]
    nullable: frozenset[str] = frozenset()
    about: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)

    def empty(self) -> pl.DataFrame:
        """The table with no row."""
        return pl.DataFrame(schema=self.columns)


def _schema(name: str, key: str, about: str, **columns: Column) -> Schema:
    return Schema(
        name,
        pl.Schema({column: told[0] for column, told in columns.items()}),
        tuple(key.split()),
        frozenset(column for column, told in columns.items() if told[2:] == (NULLS,)),
        about,
        {column: told[1] for column, told in columns.items()},
    )


#: A task of lm-eval's has several metrics: the first of these is its score, else the first in its own list.
MAIN_METRICS = ("acc_norm", "acc", "exact_match", "prompt_level_strict_acc", "pass@1", "em", "f1")

PROMPTS = _schema(
    "prompts", "prompt_id",
    "A prompt, of training or held out; `data/prompts.parquet` of stage prompts.",
    prompt_id=(STRING, "hash of messages and reference"),
    messages=(MESSAGES, "the conversation that is to be answered, oldest first"),
    competency=(STRING, "what it asks for, as params name it"),
    reference=(STRING, "the known answer; JSON where there are several", NULLS),
    constraints=(STRING, "what an answer must keep to, as JSON (IFEval's form)", NULLS),
    split=(STRING, "`train` or `heldout`"),
)  # fmt: skip

SCORES = _schema(
    "scores", "model competency task metric",
    "A model's score on a benchmark; `data/profile/<model>/scores.parquet` of stage profile.",
    model=(STRING, "candidate, as params name it"),
    competency=(STRING, "that the benchmark stands for"),
    task=(STRING, "the benchmark"),
    metric=(STRING, "what its score is, such as `acc`"),
    score=(FLOAT, "in [0,1]; null where the benchmark was not run", NULLS),
    stderr=(FLOAT, "standard error, in the same unit", NULLS),
    n=(INT, "items that it rests on", NULLS),
)  # fmt: skip

ITEMS = _schema(
    "items", "model task item_id",
    "A model's answer to one benchmark item; `data/profile/<model>/items.parquet` of stage profile.",
    model=(STRING, "candidate, as params name it"),
    competency=(STRING, "that the benchmark stands for"),
    task=(STRING, "the benchmark"),
    item_id=(STRING, "the same for every model"),
    correct=(FLOAT, "in [0,1]; null where the reply could not be read", NULLS),
    choice=(INT, "number of the option chosen, from 0; null without options, or unparsed", NULLS),
    answer=(INT, "number of the right option", NULLS),
    n_choices=(INT, "how many options there are", NULLS),
    choice_probs=(pl.List(FLOAT), "probability of each option; they sum to 1", NULLS),
)  # fmt: skip

KINSHIP = _schema(
    "kinship", "metric competency model_a model_b",
    "How alike two models are by a metric; `data/kinship.parquet` of stage kinship.",
    metric=(STRING, "plugin that measured it"),
    competency=(STRING, "on which questions; null = overall", NULLS),
    model_a=(STRING, "first of the two by name"),
    model_b=(STRING, "second of the two by name"),
    kinship=(FLOAT, "in [0,1], 1 = the same; null where it can't be computed", NULLS),
    low=(FLOAT, "lower end of the 95% interval; null where nothing was sampled", NULLS),
    high=(FLOAT, "its upper end", NULLS),
    raw=(FLOAT, "in the metric's own unit", NULLS),
    consistency=(FLOAT, "how alike the two are to themselves (geometric mean); null = 1", NULLS),
    n_items=(INT, "what was compared: questions, cells, prompts, weights", NULLS),
    uncertain=(BOOL, "the interval is wider than what tells the pair from the models' other pairs", NULLS),
    missing=(STRING, "what one of the two left out, and how that was handled", NULLS),
    reason=(STRING, "why kinship is null", NULLS),
    version=(STRING, "the plugin's distribution and version"),
    primary=(BOOL, "judge and curriculum act on this metric"),
)  # fmt: skip

FAMILIES = _schema(
    "families", "metric model",
    "To which family a model belongs by a metric; `data/families.parquet` of stage kinship.",
    metric=(STRING, "plugin that measured the kinship"),
    model=(STRING, "candidate, as params name it"),
    family=(STRING, "name of the family's most central member; null = alone", NULLS),
    size=(INT, "models in the family"),
    sure=(FLOAT, "share of resampled tables in which it has the very same members"),
    cut=(FLOAT, "relative kinship at which families were cut"),
    nearest=(STRING, "the nearest other model", NULLS),
    kinship=(FLOAT, "relative kinship to that one", NULLS),
)  # fmt: skip

RESPONSES = _schema(
    "responses", "prompt_id model sample",
    "An answer, or why there is none; `data/responses/<model>.parquet` of stage generate.",
    response_id=(STRING, "hash of prompt, model, sample and text"),
    prompt_id=(STRING, "of table prompts"),
    model=(STRING, "candidate, as params name it"),
    sample=(INT, "which of a model's answers to the prompt, from 0"),
    text=(STRING, "the answer; null exactly where `error` says why", NULLS),
    finish_reason=(STRING, "`stop`, `length`, or what a server said", NULLS),
    prompt_tokens=(INT, "tokens of the prompt, where they are known", NULLS),
    completion_tokens=(INT, "tokens of the answer, where they are known", NULLS),
    seed=(INT, "of this answer's sampling noise; null for recorded answers", NULLS),
    error=(STRING, "why there is no answer", NULLS),
)  # fmt: skip

JUDGEMENTS = _schema(
    "judgements", "prompt_id response_id judge",
    "A judge's score of an answer; `data/verdicts/<judge>/judgements.parquet` of stage judge.",
    prompt_id=(STRING, "of table prompts"),
    response_id=(STRING, "of table responses"),
    judge=(STRING, "as params name it"),
    version=(STRING, "the plugin's name, distribution and version"),
    score=(FLOAT, "in [0,1]; null unless status is `ok`", NULLS),
    status=(STRING, "`ok`, `skipped` or `failed`"),
    reason=(STRING, "why it was skipped or failed", NULLS),
)  # fmt: skip

COMPARISONS = _schema(
    "comparisons", "prompt_id response_a response_b judge order",
    "A judge's word on two answers; `data/verdicts/<judge>/comparisons.parquet` of stage judge.",
    prompt_id=(STRING, "of table prompts"),
    response_a=(STRING, "of table responses"),
    response_b=(STRING, "of table responses"),
    judge=(STRING, "as params name it"),
    version=(STRING, "the plugin's name, distribution and version"),
    p_a=(FLOAT, "probability that response_a is the better one", NULLS),
    order=(STRING, "which was shown first: `ab` or `ba`"),
    status=(STRING, "`ok`, `tie`, `skipped` or `failed`"),
    reason=(STRING, "why it was skipped or failed", NULLS),
)  # fmt: skip

REWARDS = _schema(
    "rewards", "response_id",
    "The jury's word on an answer that any judge scored; `data/jury/rewards.parquet` of stage jury.",
    response_id=(STRING, "of table responses"),
    prompt_id=(STRING, "of table prompts"),
    reward=(FLOAT, "weighted mean of the votes, in [0,1] unless aligned", NULLS),
    n_judges=(INT, "how many judges voted"),
    judges=(STRING, "their names, joined by `+`: only rewards of the same judges are compared"),
    disagreement=(FLOAT, "standard deviation over judges; null for one", NULLS),
)  # fmt: skip

JUDGES = _schema(
    "judges", "judge",
    "Who judged; `data/jury/judges.parquet` of stage jury.",
    judge=(STRING, "as params name it"),
    version=(STRING, "version(s) of the judge"),
    weight=(FLOAT, "of its vote"),
    verdicts=(INT, "how many of its words are verdicts (`ok` or `tie`)"),
    skipped=(INT, "how many had nothing to judge"),
    failed=(INT, "how many failed"),
)  # fmt: skip

BIAS = _schema(
    "bias", "measure judge detail",
    "A habit of the jury; `data/jury/bias.parquet` of stage jury.",
    measure=(STRING, "which habit, as docs/judges.md lists them"),
    judge=(STRING, "whose; null = of the rewards, or of all judges", NULLS),
    detail=(STRING, "another judge, a candidate or a reason", NULLS),
    value=(FLOAT, "how much of it", NULLS),
    low=(FLOAT, "lower end of the 95% interval, where there is one", NULLS),
    high=(FLOAT, "its upper end", NULLS),
    fair=(FLOAT, "what a judge without the habit would show", NULLS),
    n=(INT, "what was counted"),
    reason=(STRING, "why value is null", NULLS),
)  # fmt: skip

CANDIDATE_PAIRS = _schema(
    "candidates", "prompt_id response_a response_b",
    "What a pairing sees, never written: two answers to one prompt, rows of one prompt together; `a` is the "
    "answer with the higher reward.",
    prompt_id=(STRING, "of table prompts"),
    competency=(STRING, "the prompt's", NULLS),
    response_a=(STRING, "the answer with the higher reward"),
    response_b=(STRING, "the other one"),
    model_a=(STRING, "who answered so"),
    model_b=(STRING, "who answered so"),
    reward_a=(FLOAT, "of the jury"),
    reward_b=(FLOAT, "of the jury"),
    margin=(FLOAT, "reward_a - reward_b"),
    disagreement=(FLOAT, "the judges', on both answers; null for one judge", NULLS),
    kinship=(FLOAT, "of the two models by the acting metric; 1 for one model, null = unknown", NULLS),
    noise=(FLOAT, "in [0,1), drawn from the seed and the response ids"),
)  # fmt: skip
#: Columns of the table that a pairing gets.
CANDIDATES = CANDIDATE_PAIRS.columns

PAIRS = _schema(
    "pairs", "order",
    "A pair to train on, in training order; `data/pairs/data/train.parquet` of stage curriculum.",
    order=(INT, "place in training, from 0"),
    phase=(INT, "part of training, from 0"),
    prompt=(MESSAGES, "conversation, as TRL takes it"),
    chosen=(MESSAGES, "the better answer, as a conversation"),
    rejected=(MESSAGES, "the worse answer, as a conversation"),
    prompt_id=(STRING, "of table prompts"),
    competency=(STRING, "the prompt's", NULLS),
    chosen_id=(STRING, "of table responses"),
    rejected_id=(STRING, "of table responses"),
    chosen_model=(STRING, "who gave the better answer"),
    rejected_model=(STRING, "who gave the worse one"),
    chosen_reward=(FLOAT, "of the jury"),
    rejected_reward=(FLOAT, "of the jury"),
    margin=(FLOAT, "difference of the rewards"),
    disagreement=(FLOAT, "of the judges on the two answers; null for one judge", NULLS),
    kinship=(FLOAT, "of the two models by the acting metric; null = unknown", NULLS),
    complexity=(FLOAT, "of the prompt: standard deviation of its answers' rewards, or perplexity", NULLS),
    chosen_likelihood=(FLOAT, "under the trained model: geometric mean of a token's probability", NULLS),
    rejected_likelihood=(FLOAT, "the same of the worse answer; null where no judge told", NULLS),
    difficulty=(FLOAT, "in [0,1], 0 = the easiest"),
)  # fmt: skip

HELDOUT = _schema(
    "heldout", "prompt_id sample",
    "What base and aligned model answered to a held-out prompt; `data/heldout.parquet` of stage evaluate.",
    prompt_id=(STRING, "of table prompts"),
    sample=(INT, "which of a model's answers to the prompt, from 0"),
    competency=(STRING, "the prompt's"),
    base=(STRING, "the base's answer; null where there was none", NULLS),
    aligned=(STRING, "the aligned model's answer; null where there was none", NULLS),
    base_reward=(FLOAT, "of the base's answer; null without a verdict", NULLS),
    aligned_reward=(FLOAT, "of the aligned model's answer; null without a verdict", NULLS),
    counted=(BOOL, "the figures rest on this prompt"),
)  # fmt: skip

STUDY = _schema(
    "study", "objective pairing condition zoo seed competency",
    "A run of a study; `study/runs.csv`, or where `karma study --out` says.",
    objective=(STRING, "plugin that trained"),
    pairing=(STRING, "plugin that chose the pairs; with options of its own as `kin:prefer=chance`"),
    condition=(STRING, "name of the condition; empty where a study has one"),
    zoo=(INT, "the zoo's seed; null where params name it", NULLS),
    seed=(INT, "of curriculum and training"),
    competency=(STRING, "of the held-out prompts; `all` = every one"),
    pairs=(INT, "pairs trained on"),
    steps=(INT, "optimiser steps"),
    base=(FLOAT, "accuracy of the base"),
    aligned=(FLOAT, "accuracy of the aligned model"),
    difference=(FLOAT, "aligned minus base"),
    win_rate=(FLOAT, "of the aligned model against its base"),
)  # fmt: skip
