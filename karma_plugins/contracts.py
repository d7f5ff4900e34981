"""What a plugin implements and what it receives: one frozen dataclass for each kind, and the rows that flow
between.

A plugin is a name, a pure function and a pydantic model of its options. The function gets data and options
and returns data; it keeps no state between calls, so that any engine can call it on any shard, in any order,
on any machine (a model that it needs stays loaded in a `functools.lru_cache`).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

import pluggy
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    import polars as pl

#: Marks a function as one of the hooks in `karma_plugins.hookspecs`.
hookimpl = pluggy.HookimplMarker("karma")
#: Version of these contracts. A plugin made for another major version is refused with a message that says so.
API_VERSION = 1

#: Chat messages, oldest first: `{"role": "system" | "user" | "assistant", "content": text}`.
Messages: TypeAlias = Sequence[Mapping[str, str]]
#: Called by long work with metrics at a step, such as `report({"loss": 0.3}, 40)`.
Report: TypeAlias = Callable[[Mapping[str, float], int], None]
#: Type of a validation error whose value must not be repeated in any message.
UNREPEATED = "unrepeated"
#: A share of a whole.
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
#: What every generator of random numbers takes.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Status: TypeAlias = Literal["ok", "tie", "skipped", "failed"]


class Options(BaseModel):
    """Base of every plugin's options: unknown keys are refused, values are checked, instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


# --- what lies at a model's path ----------------------------------------------------------------------------


class Weights(Options):
    """Weights that transformers loads, from a hub or a folder; never pickled, never with own code."""

    hub: str | None = Field(None, description="Hugging Face id, such as 'meta-llama/Llama-3.2-1B'")
    folder: str | None = Field(None, description="folder of weights, instead of a hub id")
    revision: str = Field("main", description="branch, tag or (best) commit of the hub repository")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="numbers that the weights are held in; auto: as the files have them"
    )
    device_map: str | None = Field(None, description="'auto', 'cuda:0', …; null = where torch puts it")
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = Field(
        None, description="how attention is computed; null: as transformers chooses"
    )
    quantisation: Literal["4bit", "8bit"] | None = Field(
        None,
        validation_alias=AliasChoices("quantisation", "quantization"),
        description="needs bitsandbytes and a GPU",
    )
    adapter: str | None = Field(None, description="folder or hub id of a peft adapter laid over the weights")
    chat_template: str | None = Field(
        None, description="file that replaces the tokenizer's own chat template"
    )
    system_prompt: str | None = Field(None, description="text sent before every conversation that has none")
    date: datetime.date = Field(
        datetime.date(2024, 7, 26), description="what a chat template is told when it asks for today's date"
    )

    @property
    def location(self) -> str:
        """The folder or hub id that `from_pretrained` takes."""
        return self.folder or self.hub or ""


class RequestShape(Options):
    """How a server wants its requests: keys of the body left out, then renamed, then added."""

    leave_out: tuple[str, ...] = Field((), description="keys that the server refuses, such as 'seed'")
    rename: dict[str, str] = Field(
        default_factory=dict, description="such as {max_tokens: max_completion_tokens}"
    )
    add: dict[str, Any] = Field(default_factory=dict, description="such as {reasoning_effort: low}")


class Endpoint(Options):
    """A model behind an OpenAI-compatible server; its key stays in the environment."""

    endpoint: str = Field(description="base URL, such as 'http://127.0.0.1:8000/v1'")
    model: str = Field(description="the model's name at the server")
    served_as: str | None = Field(None, description="its name in the server's replies, where that is another")
    api_key_env: str | None = Field(None, description="environment variable that holds the key")
    system_prompt: str | None = Field(None, description="text sent before every conversation that has none")
    request: RequestShape = Field(default_factory=RequestShape, description="how the server wants requests")

    @field_validator("endpoint")
    @classmethod
    def _address(cls, value: str) -> str:
        """A key in an address would stand in every message and log: none is taken, and none is repeated."""
        try:
            parts = urlsplit(value)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if "@" in value.partition("://")[2].partition("/")[0] or "?" in value or "#" in value:
            raise PydanticCustomError(
                UNREPEATED,
                "holds a user name, a password or a query; put the key in a variable, named in api_key_env",
            )
        if not value.startswith(("http://", "https://")) or not host or port == 0 or not value.isprintable():
            raise ValueError("is no address such as 'http://127.0.0.1:8000/v1' (ports go from 1 to 65535)")
        return value


class Recorded(Options):
    """Answers, scores and items recorded elsewhere, as files of a folder; null where it has none."""

    folder: Path
    responses: Path | None = None
    scores: Path | None = None
    items: Path | None = None


#: What lies at a model's path: weights to load, a server to ask, or answers already recorded.
Source: TypeAlias = Weights | Endpoint | Recorded


# --- what flows ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Model:
    """A candidate model.

    `name` is its key in params, `path` what DVC depends on, `source` what lies there; null
    where nothing but its profile is known, as in `karma kinship`.
    """

    name: str
    path: Path
    source: Source | None


@dataclass(frozen=True, slots=True)
class Request:
    """One answer to be generated: sample number `sample` for a prompt, with a seed that belongs to this row
    alone.
    """

    prompt_id: str
    messages: Messages
    sample: int
    seed: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one request.

    `text` is null exactly when `error` says why; a recorded answer may lack token counts.
    """

    text: str | None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as a judge sees it, with its prompt's messages, competency, known answer and constraints
    (JSON).
    """

    response_id: str
    prompt_id: str
    model: str
    messages: Messages
    text: str
    competency: str | None = None
    reference: str | None = None
    constraints: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """Two answers to one prompt, to be compared in the order shown: `a` first."""

    a: Answer
    b: Answer


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's word on one answer (its score in [0,1]) or one pair (probability that `a` is the better
    answer).

    `value` is null exactly when status is `skipped` or `failed`, and `reason` then says why.
    """

    value: float | None
    status: Status = "ok"
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What work will ask of a paid server at most, told before anything is asked.

    `server` is its address or name; `completion_tokens` is null where an answer may be as long as it likes,
    `cost` (in the currency of the prices) where no price is known; `kept` counts requests that are answered
    already and so not among `requests`; `excess` says which cap this would break, null for none.
    """

    server: str
    requests: int
    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    cost: float | None = None
    kept: int = 0
    excess: str | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """Judges as one function: `score(answers)` gives a verdict on each, in order; `key` tells apart all that
    decides the verdicts.
    """

    score: Callable[[Sequence[Answer]], Sequence[Verdict]]
    key: str


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Recorded verdicts as tables: `judgements` and `comparisons` in their schemas, either may be empty."""

    judgements: pl.DataFrame
    comparisons: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profiler measured of one model: tables `scores` and `items` in their schemas."""

    scores: pl.DataFrame
    items: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a kinship metric may look at, for all models at once.

    `scores` and `items` are the profiles of all models, `responses` their answers and `prompts` what was
    asked where the stage was given any, `models` the candidates in order of their names; `seed` is for the
    bootstrap.
    `measure(name)` gives the finished rows of another metric, for blends.
    """

    models: Sequence[Model]
    scores: pl.DataFrame
    items: pl.DataFrame
    responses: pl.DataFrame | None = None
    seed: int = 0
    measure: Callable[[str], pl.DataFrame] | None = None
    prompts: pl.DataFrame | None = None


@dataclass(frozen=True, slots=True)
class PairingContext:
    """What a pairing may look at beside the candidate pairs: the acting rows of the kinship table and a seed.

    `kinship` holds the acting metric's rows, overall or of competencies, `measured` those of all metrics,
    `scores` the profiles (table `scores`) where the stage was given any. `target` is the candidate that will
    be trained, where params name one.
    """

    kinship: pl.DataFrame
    seed: int = 0
    target: str | None = None
    measured: pl.DataFrame | None = None
    scores: pl.DataFrame | None = None


class LoraSettings(Options):
    """Low-rank adapters instead of full fine-tuning."""

    r: int = Field(8, ge=1, description="rank of the adapter")
    alpha: float = Field(16.0, gt=0, description="its scale; the update is multiplied by alpha / r")
    dropout: Fraction = Field(0.0, description="share of its inputs that a step leaves out")
    target_modules: list[str] | Literal["all-linear"] = Field(
        "all-linear", description="names of the layers that get one"
    )
    export: Literal["merged", "adapter"] = Field(
        "merged", description="what is written: weights, or it alone"
    )


class TrainingSettings(Options):
    """How long and how carefully an objective trains, whatever it optimises; section `train` of params holds
    them.
    """

    epochs: float = Field(1.0, gt=0, description="passes over the pairs")
    max_steps: int | None = Field(None, ge=1, description="steps in all phases together, instead of epochs")
    batch_size: int = Field(8, ge=1, description="pairs to a batch, of all processes together")
    gradient_accumulation: int = Field(1, ge=1, description="batches to an optimiser step")
    gradient_checkpointing: bool = Field(False, description="less memory for a fifth more time")
    learning_rate: float = Field(1e-6, gt=0, description="highest of each phase")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="learning rate of a phase"
    )
    warmup: Fraction = Field(0.0, description="share of each phase's steps with a rising learning rate")
    max_length: int | None = Field(None, ge=8, description="tokens of prompt and answer together")
    checkpoint_steps: int = Field(50, ge=1, description="steps between checkpoints: what a kill can lose")
    bf16: bool | Literal["auto"] = Field("auto", description="auto: where the hardware has it")
    lora: LoraSettings | None = Field(None, description="train a low-rank adapter; null: all weights")
    seed: Seed = Field(0, description="of what training draws: dropout, answers, a reward model's head")


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One phase of training.

    `start` and `reference` are weights to load (of a later phase: the model of the phase before; with LoRA
    its adapter laid over the base), `pairs` the phase's rows of table `pairs` in the order they are to be
    seen, `steps` the optimiser steps to take, `output` the folder that gets the trained weights (with LoRA
    the adapter), `checkpoints` a folder of the job's own that outlives a kill. `report` takes metrics with
    the step of this phase as they come. `base`, `all_pairs` and `shared` are the same in every phase: the
    weights that training began with, all rows of the table, and a folder for what one phase leaves to the
    next. With several processes every one is given the job, and the first alone writes and reports.

    Every pair can be trained on: the chat template takes it, and its answers differ in their tokens. `score`
    gives a verdict on each answer, of the judges that the objective's option `reward.judges` names (null
    where it names none); `prompts` is table `prompts` with their references, where the stage was given it.
    """

    start: Weights
    reference: Weights
    pairs: pl.DataFrame
    steps: int
    output: Path
    checkpoints: Path
    settings: TrainingSettings
    report: Report
    base: Weights
    all_pairs: pl.DataFrame
    shared: Path
    phase: int = 0
    score: Callable[[Sequence[Answer]], Sequence[Verdict]] | None = None
    prompts: pl.DataFrame | None = None


# --- how work is cut up -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a stage's work: a function that can be imported by name, and all that it needs.

    `key` says all that decides the result (empty where it is not kept), `label` is its name in messages. Any
    process on any machine may call it, any number of times: the result is the same.
    """

    key: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    label: str = ""

    def __call__(self) -> Any:
        """Compute it here and now."""
        return self.function(*self.arguments)


class Shards(Protocol):
    """Has pieces of work computed whose functions give a frame, keeping or not keeping what is finished."""

    def run(self, pieces: Sequence[Piece]) -> Iterator[pl.DataFrame]:
        """Yield the frame of each piece, in order; what is kept is not computed again."""
        ...

    def forget(self, keys: Sequence[str]) -> None:
        """Keep these no longer: what they hold is to be made again."""
        ...


# --- what a plugin is ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """What all kinds share: a kebab-case name, the model of its options, the version of the contract it was
    made for.

    `reads(options)`, where given, names the files and folders whose bytes decide its results (a model, a
    template, a folder of tasks). `needs` names packages, as they are imported, without which the plugin can't
    work: `karma plugins` shows it as not installed where one is absent, and no stage begins with it.
    """

    name: str
    options: type[Options] = field(default=Options)
    api: int = API_VERSION
    reads: Callable[[Any], Sequence[Path]] | None = None
    needs: Sequence[str] = ()

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """The plugin's code, which karma.lock.json digests."""
        return tuple(v for k, v in vars(self).items() if k != "options" and callable(v))


@dataclass(frozen=True, kw_only=True)
class Profiler(Plugin):
    """Measures a model: `profile(model, tasks, options)` where `tasks` maps each competency to its task
    names.

    `check(tasks, options)`, where given, raises before anything runs when there are no such tasks.
    """

    profile: Callable[[Model, Mapping[str, Sequence[str]], Any], Profile]
    check: Callable[[Mapping[str, Sequence[str]], Any], None] | None = None


@dataclass(frozen=True, kw_only=True)
class KinshipMetric(Plugin):
    """Measures how alike models are: `measure(evidence, options)` gives rows of table `kinship`.

    One row for each unordered pair (model_a < model_b) and competency (null = overall); the columns `metric`,
    `version` and `primary` are filled in by the stage. What can't be computed is a null with a reason.
    """

    measure: Callable[[Evidence, Any], pl.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Generator(Plugin):
    """Answers prompts in one of two ways.

    `generate(model, requests, options)`: one `Reply` for each request, in order.
    `recall(model, prompts, options)`: the answers recorded for table `prompts`, whatever was asked; a row for
    each prompt and sample, with columns prompt_id, sample, text, finish_reason, prompt_tokens,
    completion_tokens and error as in table `responses`.

    `check(model, prompts, options)`, where given, raises before any work when the model can't serve these
    prompts (table `prompts`). `keeps_shards` is false where making an answer again costs nothing.
    `usage(model, requests, options)`, where given, says what generating would ask of a paid server; null
    where nothing is to be paid. It asks nothing; `karma check` shows it.
    """

    generate: Callable[[Model, Sequence[Request], Any], Sequence[Reply]] | None = None
    recall: Callable[[Model, pl.DataFrame, Any], pl.DataFrame] | None = None
    check: Callable[[Model, pl.DataFrame, Any], None] | None = None
    keeps_shards: bool = True
    usage: Callable[[Model, Sequence[Request], Any], Expected | None] | None = None


@dataclass(frozen=True, kw_only=True)
class Judge(Plugin):
    """Judges answers in at least one of three ways.

    - `score(answers, options)`: a number in [0,1] or a `Verdict` for each answer, in order.
    - `compare(pairs, options)`: for each pair the probability that `a` is better, or a `Verdict`, in order.
    - `recall(recorded, options)`: picks its verdicts from the recorded ones (`Verdicts` in, `Verdicts` out).

    `keeps_shards` is false (or false for these options) where judging again costs nothing, or where the judge
    keeps its own work; it is then asked in few large calls, about some thousand whole prompts each.

    `usage(cases, times, options)`, where given, says what judging would ask of a paid server, each of the
    cases `times` over: answers where the judge scores, pairs where it compares. Null where nothing is to be
    paid. It asks nothing; `karma check` shows it.
    """

    score: Callable[[Sequence[Answer], Any], Sequence[float | Verdict]] | None = None
    compare: Callable[[Sequence[AnswerPair], Any], Sequence[float | Verdict]] | None = None
    recall: Callable[[Verdicts, Any], Verdicts] | None = None
    keeps_shards: bool | Callable[[Any], bool] = True
    usage: Callable[[Iterable[Any], int, Any], Expected | None] | None = None


@dataclass(frozen=True, kw_only=True)
class Pairing(Plugin):
    """Chooses pairs: `pair(candidates, context, options)` gives `candidates` back with two more columns.

    `dropped` (str, null = eligible, else the reason) and `priority` (f64, the lowest are taken first).
    Candidates are all pairs of judged answers of whole prompts, columns as in `schemas.CANDIDATES`; a pairing
    is called on some prompts at a time and must not depend on which.
    """

    pair: Callable[[pl.DataFrame, PairingContext, Any], pl.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Objective(Plugin):
    """Trains: `train(job, options)` writes the trained weights and tokenizer to `job.output`.

    Judges that its options name under `reward.judges`, as section `judge` does, are handed in as `job.score`.
    Its own options `epochs`, `max_steps` and `learning_rate`, where it has them, stand before those of
    section `train`.
    """

    train: Callable[[TrainingJob, Any], None]


@dataclass(frozen=True, slots=True)
class Tables:
    """A pipeline's data as an exporter may take it: `read(name)` gives a table that a stage wrote.

    Names: `pairs`, `prompts`, `responses`, `judgements`, `comparisons`, `rewards`, `judges`, `bias`. A table
    that is not there is a TableError that says which stage writes it.
    """

    read: Callable[[str], pl.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Importer(Plugin):
    """Reads a data set of others: `read(sources, options)` gives a folder to write.

    `sources` are the files or folders that were named, two halves of one source for instance; what comes back
    has methods `write(out)` and `report()`, such as `RecordedFolder` of `karma_plugins.importers`, which
    gathers prompts, answers and verdicts. `summary` is one line for `karma import --help`.
    `recognises(record)`, where given, says whether a record (a mapping, as JSON or parquet has it) is of this
    layout; `karma import auto` asks all of them. `general` marks a layout that many records are of: one that
    is not general is preferred.
    """

    read: Callable[[Sequence[Path], Any], Any]
    summary: str = ""
    recognises: Callable[[Mapping[str, Any]], bool] | None = None
    general: bool = False


@dataclass(frozen=True, kw_only=True)
class Exporter(Plugin):
    """Writes the preference data in another layout: `write(tables, out, options)`.

    `out` is a file or folder that is not there yet, or an empty folder; what comes back is a line or more
    that
    say what was written and what to do with it. `summary` is one line for `karma export --help`.
    """

    write: Callable[[Tables, Path, Any], str]
    summary: str = ""


@dataclass(frozen=True, kw_only=True)
class Runner(Plugin):
    """Computes pieces of work somewhere: `run(pieces, options)` yields `(piece.key, piece())` for each piece.

    `pieces` is an iterator: take no more from it than there is room for, as what is taken can't be taken by
    another process that shares the work. The results may come in any order, each once. A piece can be
    pickled; what it gives are the bytes of a parquet file. Whoever called `run` keeps them, in a folder that
    workers need not see: a runner writes nothing. An error that a piece raises is raised as it is; where a
    piece ends its worker every time, RunnerError names the piece's `label`. When the iterator is closed
    before its end, stop what is under way.
    """

    run: Callable[[Iterator[Piece], Any], Iterator[tuple[str, bytes]]]


#: The kinds, by the name that hooks, `karma plugins` and messages use.
KINDS: Mapping[str, type[Plugin]] = {
    "profilers": Profiler,
    "kinship_metrics": KinshipMetric,
    "generators": Generator,
    "judges": Judge,
    "pairings": Pairing,
    "objectives": Objective,
    "importers": Importer,
    "exporters": Exporter,
    "runners": Runner,
}
