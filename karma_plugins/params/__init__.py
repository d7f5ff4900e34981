"""params.yaml, one section at a time, each with its pydantic model; an unknown key is an error that suggests
the right one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator

from karma_plugins.contracts import UNREPEATED, Fraction, Seed, TrainingSettings
from karma_plugins.errors import ParamsError, did_you_mean
from karma_plugins.params import yaml

PARAMS = Path("params.yaml")
#: What DVC carries in a foreach key: a dot breaks per-key params, `@` fails, `/` nests the output folder.
#: A name that begins with `-` would be taken for an option, a longer one is no file's name.
MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,179}")
NAMING = "Use letters, digits, '_' and '-', at most 180 of them, the first no '-'"
#: Characters of a wrong value that a message repeats.
LONGEST = 120

DifficultyPart = Literal["margin", "kinship", "disagreement", "complexity", "likelihood"]

M = TypeVar("M", bound=BaseModel)
#: Options of the plugins of one kind, by the name that the section calls them.
PluginOptions = dict[str, dict[str, Any]]


class Section(BaseModel):
    """Base of every section: unknown keys are refused, instances are frozen."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False, str_min_length=1
    )


class ModelSection(Section):
    """One entry of `models`: where the model is, which generator asks it, and how it samples."""

    path: str = Field(description="folder of weights, descriptor (.yaml), or folder of recorded answers")
    generator: str = Field("transformers", description="plugin that has the model answer")
    sampling: dict[str, Any] = Field(default_factory=dict, description="the generator's options")


class PromptColumns(Section):
    """Which column of the source holds what; `messages` for conversations, `prompt` for one user turn."""

    messages: str = Field("messages", description="column of conversations: lists of {role, content}")
    prompt: str = Field("prompt", description="column of single user turns, where there are no conversations")
    competency: str = Field("competency", description="column that says which competency a prompt asks for")
    reference: str = Field("reference", description="column of the known answer")
    constraints: str = Field(
        "constraints", description="column of what an answer must keep to, as IFEval has it"
    )
    split: str = Field("split", description="column that says `train` or `heldout`")


class SeenSection(Section):
    """Evaluation items, and from which overlap on a training prompt counts as seen in them."""

    items: str = Field(description="file, or folder of files: .jsonl, .json, .csv, .parquet or .txt")
    ngram: int = Field(13, ge=1, description="words of a run")
    share: Fraction = Field(0.5, description="least share of a prompt's runs that stand in items too")


class PromptsSection(Section):
    """Section `prompts`: where the prompts come from and how their columns are named."""

    path: str | None = Field(None, description="JSONL, CSV or parquet file")
    dataset: str | None = Field(
        None, description="name of a dataset on the hub, or folder that `datasets` loads"
    )
    config: str | None = Field(None, description="configuration of the dataset")
    revision: str = Field("main", description="branch, tag or (best) commit of the dataset on the hub")
    dataset_split: str = Field("train", description="split of the dataset to read")
    columns: PromptColumns = Field(PromptColumns(), description="what the source calls its columns")
    competency: str | None = Field(None, description="competency of prompts whose source says none")
    competencies: dict[str, str] = Field(default_factory=dict, description="source's value -> competency")
    heldout: Fraction = Field(0.0, description="share held out for evaluate where the source has no split")
    limit: int | None = Field(None, ge=1, description="take the first so many prompts of the source")
    seen: SeenSection | None = Field(None, description="drop training prompts that evaluation items hold")


class ProfileSection(Section):
    """Section `profile`: which tasks measure which competency."""

    profiler: str = Field("lm-eval", description="plugin that measures the models")
    profilers: PluginOptions = Field(default_factory=dict, description="options of profilers, by name")
    tasks: dict[str, list[str]] = Field(default_factory=dict, description="competency -> names of tasks")


class KinshipSection(Section):
    """Section `kinship`: the metric that pairing acts on, and others to measure beside it."""

    metric: str = Field("capability", description="the metric that judge and curriculum act on")
    metrics: PluginOptions = Field(default_factory=dict, description="metrics to measure, with their options")
    seed: Seed = Field(0, description="of the intervals' bootstrap")


class GenerateSection(Section):
    """Section `generate`: how many answers to each prompt, and the seed of all sampling noise."""

    samples: int = Field(1, ge=1, le=10_000, description="answers of each model to a prompt")
    seed: Seed = Field(0, description="of all sampling noise")
    shard: int = Field(256, ge=1, description="answers to a shard: what a kill can lose")


class JudgeEntry(BaseModel):
    """One entry of `judge.judges`: its plugin (its own name if not given), what DVC sees it read, which pairs
    a pairwise judge is asked about, and the plugin's options.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False, str_min_length=1)

    plugin: str | None = Field(None, description="plugin that judges; null: the one of the entry's name")
    reads: str | None = Field(
        None,
        description="file or folder whose bytes decide its verdicts beside prompts and answers: a model, a "
        "template, a folder of recorded verdicts; a judge that reads nothing more names the prompts",
    )
    compare_per_prompt: int | None = Field(
        4, ge=1, description="most pairs of answers to a prompt that are compared; null: all"
    )
    compare_seed: Seed = Field(0, description="seed of the chance by which pairs are chosen")
    kin_radius: Fraction = Field(
        1.0, description="only answers of models at most so far from kin are compared"
    )
    both_orders: bool = Field(True, description="each pair is shown in both orders, or in one by chance")
    shard: int = Field(256, ge=1, description="answers or pairs to a shard: what a kill can lose")

    @property
    def options(self) -> dict[str, Any]:
        """What belongs to the plugin."""
        return dict(self.model_extra or {})

    def pairs_of(self, answers: int) -> int:
        """How many pairs of so many answers to a prompt are compared, where all are of kin models."""
        pairs = answers * (answers - 1) // 2
        return pairs if self.compare_per_prompt is None else min(pairs, self.compare_per_prompt)


class JudgeSection(Section):
    """Section `judge`: who judges; each entry is a run of stage judge of its own."""

    judges: dict[str, JudgeEntry] = Field(min_length=1, description="the judges, by the names they get")


#: Weights of judges' votes by name; 0: heard and reported, but without a say.
Weights = dict[str, Annotated[float, Field(ge=0.0, allow_inf_nan=False)]]


class JurySection(Section):
    """Section `jury`: how the verdicts of all judges become rewards."""

    weights: Weights = Field(
        default_factory=dict, description="weights of votes by judge; 1 where none is given"
    )
    kin_to: dict[str, str] = Field(
        default_factory=dict, description="by judge, the candidate that it is or descends from, for nepotism"
    )
    align: Literal["none", "z-score", "rank"] = Field(
        "none", description="scale alignment of judges, within the prompt"
    )
    missing: Literal["same-judges", "drop"] = Field(
        "same-judges",
        description="missing votes: compare rewards of the same judges only, or drop answers without all",
    )
    comparisons: Literal["win-share", "bradley-terry"] = Field(
        "win-share", description="how comparisons become scores"
    )
    nepotism_correction: bool = Field(
        False, description="take a judge's measured favour for its kin off its scores"
    )

    def weights_of(self, judges: Sequence[str], *, where: str = "jury") -> dict[str, float]:
        """The weight of each judge's vote; ParamsError for a name that is no judge's, or if none counts."""
        for key, named in (("weights", self.weights), ("kin_to", self.kin_to)):
            for name in sorted(set(named) - set(judges)):
                raise ParamsError(
                    f"params.yaml, {where}.{key}.{name}: there is no judge '{name}'."
                    f"{did_you_mean(name, judges)} Remove it, or name the judge in "
                    f"{'judge' if where == 'jury' else where}.judges."
                )
        weights = {name: self.weights.get(name, 1.0) for name in sorted(judges)}
        if not any(weight > 0 for weight in weights.values()):
            raise ParamsError(
                f"params.yaml, {where}.weights: no judge has a weight above 0. Give at least one a weight."
            )
        return weights


class CurriculumSection(Section):
    """Section `curriculum`: which pairs, in which order."""

    pairing: str = Field("kin", description="plugin that chooses the pairs")
    pairings: PluginOptions = Field(default_factory=dict, description="options of pairings, by name")
    kinship: Literal["overall", "competency"] = Field(
        "overall", description="kinship over all competencies, or in the prompt's own"
    )
    margin: float = Field(0.0, ge=0.0, description="least difference of rewards; a tie never makes a pair")
    margin_in_disagreements: float = Field(
        0.0, ge=0.0, description="least margin in units of the judges' disagreement"
    )
    budget: int | None = Field(None, ge=1, description="most pairs in all")
    per_prompt: int | None = Field(None, ge=1, description="most pairs to a prompt")
    per_model: int | None = Field(None, ge=1, description="most pairs a model takes part in")
    per_model_pair: int | None = Field(None, ge=1, description="most pairs to a pair of models")
    similarity: Fraction = Field(
        1.0, description="answers this alike or more are near-duplicates, never a pair"
    )
    repeats: Literal["drop", "keep"] = Field(
        "drop", description="pairs of the same two texts as another pair of the prompt"
    )
    difficulty: dict[DifficultyPart, float] = Field(
        default={"margin": 1.0}, description="weights of what makes a pair difficult"
    )
    order: Literal["easy-to-hard", "hard-to-easy", "shuffled"] = Field(
        "easy-to-hard", description="how the pairs are put into order, by their difficulty"
    )
    phases: int = Field(1, ge=1, le=1_000, description="parts of training, each from the model before")
    schedule: Literal["quantiles", "ranks", "grid"] = Field(
        "quantiles",
        description="phases of equal size; or of each prompt's first, second … pair; or the cells of a grid "
        "of prompt complexity and margin with `phases` levels each",
    )
    target: str | None = Field(
        None, description="the candidate that will be trained, for pairing `target-kin`"
    )
    perplexity: str | None = Field(
        None,
        description="the judge (plugin `likelihood`) by whose perplexities a prompt's complexity is told; "
        "null: by the rewards",
    )
    likelihood: str | None = Field(
        None,
        description="the judge (plugin `likelihood`) that tells how likely the answers are under the model "
        "to be trained; null: unknown",
    )
    likelier: Fraction = Field(
        1.0, description="pairs of answers among so great a share of the likeliest alone; 1 = off"
    )
    licence: str | None = Field(
        None,
        validation_alias=AliasChoices("licence", "license"),
        description="licence of the dataset, named in its card",
    )
    seed: Seed = Field(0, description="of the chance that decides among equal pairs, and of `shuffled`")


class TrainSection(TrainingSettings):
    """Section `train`: which model is aligned, by which objective, and how long."""

    base: str = Field(description="path of the model to align: a folder of weights or a descriptor")
    objective: str = Field("dpo", description="plugin that trains")
    objectives: PluginOptions = Field(default_factory=dict, description="options of objectives, by name")
    reference_kl: float | None = Field(
        None,
        ge=0,
        description="the reference stays until the policy has moved so far from it, in nats a token; null: "
        "the reference of a phase is the model of the phase before",
    )
    register_as: str | None = Field(None, description="name in the MLflow model registry")
    accelerate: str | dict[str, Any] | None = Field(
        None,
        description="train in several processes: a configuration of accelerate, what its file holds or the "
        "file's path (then a dep of the stage too); null: one, unless another launcher starts several",
    )

    @property
    def reward_judges(self) -> dict[str, JudgeEntry]:
        """The judges that the objective's option `reward.judges` names; mostly none.

        Raises ParamsError where an entry is none of a judge.
        """
        where = f"params.yaml, train.objectives.{self.objective}.reward.judges"
        return {
            name: validate(JudgeEntry, entry, where=f"{where}.{name}")
            for name, entry in self._rewarding("judges").items()
        }

    @property
    def reward_weights(self) -> Weights:
        """The weights of those judges, as the option `reward.weights` says; 1 where it is silent."""
        return self._rewarding("weights")

    def _rewarding(self, key: str) -> dict[str, Any]:
        reward = (self.objectives.get(self.objective) or {}).get("reward")
        entry = reward.get(key) if isinstance(reward, Mapping) else None
        return {str(name): value for name, value in entry.items()} if isinstance(entry, Mapping) else {}


class EvaluateSection(Section):
    """Section `evaluate`: how the aligned model is compared with its base on held-out prompts."""

    judges: dict[str, JudgeEntry] = Field(min_length=1, description="who judges the held-out answers")
    weights: Weights = Field(
        default_factory=dict, description="weights of votes by judge; 1 where none is given"
    )
    generator: str = Field("transformers", description="plugin that has both models answer")
    sampling: dict[str, Any] = Field(default_factory=dict, description="the generator's options")
    samples: int = Field(1, ge=1, le=10_000, description="answers of each model to a held-out prompt")
    bootstrap: int = Field(2000, ge=100, description="bootstrap rounds of the intervals")
    limit: int | None = Field(None, ge=1, description="take so many held-out prompts of each competency")
    forms: dict[str, str] = Field(
        default_factory=dict,
        description="forms of answers that are counted apart from what they say: name -> regular expression "
        "of whole answers; the first that fits counts",
    )
    seed: Seed = Field(0, description="of sampling and of the bootstrap")

    @field_validator("forms")
    @classmethod
    def _patterns(cls, forms: dict[str, str]) -> dict[str, str]:
        for name, pattern in forms.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{name}: is no regular expression ({error})") from error
        return forms


class TrackingSection(Section):
    """Section `tracking`: what MLflow is told beside the usual; changing it re-runs nothing."""

    experiment: str | None = Field(None, description="MLflow's experiment; null: named like the repository")
    system_metrics: bool = Field(False, description="have MLflow log the machine's load beside each stage")


class RunnerSection(Section):
    """Section `runner`: where pieces of work are computed; no stage depends on it, so changing it re-runs
    nothing.
    """

    runner: str = Field("local", description="plugin that computes the pieces; KARMA_RUNNER names another")
    runners: PluginOptions = Field(default_factory=dict, description="options of runners, by name")
    allow_different: tuple[Literal["code", "libraries", "device"], ...] = Field(
        (), description="in what workers may differ from the stage's own process; the run records it"
    )


def load(section: str, model: type[M], path: Path = PARAMS) -> M:
    """Read one section of params.yaml.

    Raises ParamsError where the file or section is missing, a key is unknown, or a value is wrong.
    """
    document = read(path)
    if section not in document:
        raise ParamsError(f"{path}: section '{section}' is missing.{did_you_mean(section, document)}")
    check_keys(document, section, path)
    return validate(model, document[section], where=f"{path}, {section}")


def load_models(path: Path = PARAMS) -> dict[str, ModelSection]:
    """Section `models`: the candidates by name; ParamsError where a name is one that DVC can't carry."""
    document = read(path)
    models = document.get("models")
    if not isinstance(models, Mapping) or not models:
        raise ParamsError(f"{path}: section 'models' is missing or empty. Name at least one candidate model.")
    check_keys(document, "models", path)
    for name in models:
        check_model_name(name, path)
    return {k: validate(ModelSection, v, where=f"{path}, models.{k}") for k, v in sorted(models.items())}


def check_keys(document: Mapping[str, Any], section: str, path: Path = PARAMS) -> None:
    """Raise ParamsError where a section has a key that is no text: DVC would leave it out without a word."""
    for keys in yaml.ignored_keys(document.get(section), (section,)):
        line = yaml.line_of(path.read_text(encoding="utf-8"), keys)
        place = ".".join(map(str, keys[:-1]))
        key = "null" if keys[-1] is None else str(keys[-1]).lower()
        raise ParamsError(
            f"{path}, line {line}, {place}: key {key} is no text, and DVC ignores it. Quote it as "
            f"it is meant, such as '{key}'."
        )


def load_judges(path: Path = PARAMS) -> dict[str, JudgeEntry]:
    """The judges of section `judge` by name; ParamsError where a name is one that DVC can't carry."""
    judges = load("judge", JudgeSection, path).judges
    for name in judges:
        check_judge_name(name, path)
    return dict(sorted(judges.items()))


def load_judge(name: str, path: Path = PARAMS) -> JudgeEntry:
    """One judge of section `judge`, whatever its other entries hold; ParamsError where there is none."""
    document = read(path)
    section = document.get("judge")
    judges = section.get("judges") if isinstance(section, Mapping) else None
    if not isinstance(judges, Mapping) or name not in judges:
        load("judge", JudgeSection, path)
        raise ParamsError(
            f"{path}, judge.judges: no judge '{name}'.{did_you_mean(name, map(str, judges or ()))}"
        )
    check_judge_name(name, path)
    return validate(JudgeEntry, judges[name], where=f"{path}, judge.judges.{name}")


def check_model_name(name: str, path: Path = PARAMS) -> None:
    """Raise ParamsError for a name that DVC can't carry."""
    if not MODEL_NAME.fullmatch(name):
        raise ParamsError(
            f"{path}, models: DVC can't carry the name '{_short(str(name))}'. {NAMING}; "
            "put the Hugging Face id in the descriptor at the model's path."
        )


def check_judge_name(name: str, path: Path = PARAMS) -> None:
    """Raise ParamsError for a name that DVC can't carry."""
    if not MODEL_NAME.fullmatch(name):
        raise ParamsError(
            f"{path}, judge.judges: DVC can't carry the name '{_short(str(name))}'. {NAMING}; a "
            "recorded judge's own name is its option `annotator`."
        )


def load_model(name: str, path: Path = PARAMS) -> ModelSection:
    """One candidate of section `models`; ParamsError where there is none of that name."""
    models = load_models(path)
    if name not in models:
        raise ParamsError(f"{path}, models: no model '{name}'.{did_you_mean(name, models)}")
    return models[name]


def read(path: Path = PARAMS) -> dict[str, Any]:
    """The whole params file, unchecked; ParamsError where it is missing or no YAML mapping."""
    if not path.is_file():
        raise ParamsError(f"{path}: no such file. `karma init` writes one.")
    try:
        document = yaml.read(path)
    except yaml.YamlError as error:
        raise ParamsError(f"{path}: not readable as YAML ({error}).") from error
    if not isinstance(document, dict):
        raise ParamsError(f"{path}: must hold a mapping of sections.")
    return document


def validate(model: type[M], value: Any, *, where: str) -> M:
    """The value as the model; ParamsError names every wrong key of it in one line, with the nearest right
    name.
    """
    try:
        return model.model_validate(value if value is not None else {})
    except ValidationError as error:
        problems = [_problem(model, dict(item)) for item in error.errors(include_url=False)]
        raise ParamsError(f"{where}: {'; '.join(problems)}.") from error


def without_faults(model: type[M], value: Any) -> M | None:
    """The value as the model with its wrong keys left out, so that the rest can be looked at; None where that
    can't be.
    """
    rest = deepcopy(value if value is not None else {})
    try:
        return model.model_validate(rest)
    except ValidationError as error:
        places = [item["loc"] for item in error.errors(include_url=False)]
    for place in places:
        _leave_out(rest, place)
    try:
        return model.model_validate(rest)
    except ValidationError:
        return None


def _leave_out(value: Any, place: tuple[int | str, ...]) -> None:
    """Remove the innermost key that a place leads to."""
    for i, part in enumerate(place):
        if not isinstance(value, dict) or part not in value:
            return
        if i == len(place) - 1 or not isinstance(value[part], dict) or place[i + 1] not in value[part]:
            del value[part]
            return
        value = value[part]


def _problem(model: type[BaseModel], item: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        known = _fields(model, item["loc"][:-1])
        return f"unknown key '{place}'.{did_you_mean(str(item['loc'][-1]), known)} Known: {', '.join(known)}"
    if item["type"] == "missing":
        return f"key '{place}' is missing"
    kept_quiet = item["type"] == UNREPEATED or isinstance(item["input"], (dict, BaseModel))
    given = "" if kept_quiet else f" (found {_short(repr(item['input']))})"
    return f"{place or 'value'}: {item['msg'][0].lower()}{item['msg'][1:]}{given}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


def _fields(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """The field names of the model nested at a place, or of the outer model where the place can't be
    followed.
    """
    for part in place:
        inner = model.model_fields.get(str(part))
        kinds = [] if inner is None else [inner.annotation, *getattr(inner.annotation, "__args__", ())]
        model = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), model)
    return list(model.model_fields)
