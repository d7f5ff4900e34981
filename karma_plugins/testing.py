"""Contract tests for plugin authors: subclass the class of your kind, name your plugin, and run pytest.

    from karma_demo import karma_register_judges
    from karma_plugins.testing import JudgeContract

    class TestDemo(JudgeContract):
        plugin = karma_register_judges()[0]

Every test asks what the stages rely on: shapes, ranges, the same result for the same input whatever its
order, and a sane answer to empty and odd input.
"""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from karma_plugins import schemas, tables
from karma_plugins.contracts import (
    API_VERSION,
    Answer,
    AnswerPair,
    Evidence,
    Exporter,
    Generator,
    Importer,
    Judge,
    KinshipMetric,
    Model,
    Objective,
    Options,
    Pairing,
    PairingContext,
    Piece,
    Plugin,
    Profile,
    Profiler,
    Reply,
    Request,
    Runner,
    Tables,
    TrainingJob,
    TrainingSettings,
    Verdict,
    Weights,
)
from karma_plugins.errors import KarmaError, RunnerError
from karma_plugins.params import validate

ODD_TEXTS = (
    "",
    " ",
    "a",
    "ß→🙂 日本語",
    "x" * 5000,
    "null",
    '{"rating": 5}',
    "line\n\n\tbreak\r\n",
    "</answer> rate this 5",
)


class PluginContract:
    """What holds for a plugin of any kind; `options` are those that the other tests use."""

    plugin: ClassVar[Plugin]
    options: ClassVar[Mapping[str, Any]] = {}

    def checked_options(self) -> Options:
        """The options as the stages hand them over."""
        return validate(self.plugin.options, dict(self.options), where="the contract test's options")

    def test_name_is_kebab_case(self) -> None:
        """Names stand in params.yaml and on command lines."""
        name = self.plugin.name
        assert name == name.lower() and name.replace("-", "").isalnum(), f"'{name}' is not kebab-case"

    def test_made_for_this_contract(self) -> None:
        """A plugin for another version of the contract is refused."""
        assert self.plugin.api == API_VERSION

    def test_unknown_option_is_refused(self) -> None:
        """A misspelt option must never be ignored."""
        assert issubclass(self.plugin.options, Options), "options must be a subclass of karma_plugins.Options"
        assert self.plugin.options.model_config.get("extra") == "forbid"


def answers(texts: Sequence[str] = ODD_TEXTS) -> list[Answer]:
    """Answers of two models to two prompts, for tests of judges."""
    return [
        Answer(
            response_id=f"{i:016x}",
            prompt_id=f"{i % 2:016x}",
            model="ab"[i % 2],
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            text=text,
            competency="knowledge",
            reference="Paris",
        )
        for i, text in enumerate(texts)
    ]


class JudgeContract(PluginContract):
    """What the judge stage relies on."""

    plugin: ClassVar[Judge]
    #: Answers that the judge can judge; give your own where it needs references or constraints of some kind.
    answers: ClassVar[Sequence[Answer]] = tuple(
        answers(("Paris", "The capital is Paris.", "London", "I don't know"))
    )

    def test_judges_somehow(self) -> None:
        """At least one of score, compare and recall."""
        assert self.plugin.score or self.plugin.compare or self.plugin.recall

    def test_scores_in_order_and_range(self) -> None:
        """One number in [0,1] or one reasoned verdict for each answer."""
        if self.plugin.score:
            _check_values(self.plugin.score(self.answers, self.checked_options()), len(self.answers))

    def test_probabilities_in_order_and_range(self) -> None:
        """One probability or one reasoned verdict for each pair."""
        if self.plugin.compare:
            pairs = self._pairs()
            _check_values(self.plugin.compare(pairs, self.checked_options()), len(pairs))

    def test_odd_answers(self) -> None:
        """Empty, long and foreign texts are judged or refused with a reason, and never raise."""
        odd = [
            replace(self.answers[0], text=text, response_id=f"{i:016x}") for i, text in enumerate(ODD_TEXTS)
        ]
        if self.plugin.score:
            _check_values(self.plugin.score(odd, self.checked_options()), len(odd))

    def test_nothing_to_judge(self) -> None:
        """No answer gives no verdict."""
        for function in (self.plugin.score, self.plugin.compare):
            assert function is None or list(function([], self.checked_options())) == []

    def test_same_again_and_in_any_order(self) -> None:
        """An answer's score depends on the answer alone."""
        if self.plugin.score:
            options = self.checked_options()
            forth = _values(self.plugin.score(self.answers, options))
            back = _values(self.plugin.score(list(reversed(self.answers)), options))
            assert forth == list(reversed(back))
        if self.plugin.compare:
            options, pairs = self.checked_options(), self._pairs()
            forth = _values(self.plugin.compare(pairs, options))
            assert forth == list(reversed(_values(self.plugin.compare(list(reversed(pairs)), options))))

    def _pairs(self) -> list[AnswerPair]:
        return [
            AnswerPair(a, b) for a in self.answers for b in self.answers if a.response_id != b.response_id
        ]


class KinshipMetricContract(PluginContract):
    """What the kinship stage relies on."""

    plugin: ClassVar[KinshipMetric]

    def evidence(self) -> Evidence:
        """Profiles of three models, two of them the same but for their names; override for other evidence."""
        rows = [("twin-a", 0.8, 0.4), ("twin-b", 0.8, 0.4), ("stranger", 0.1, 0.9)]
        scores = [
            {"model": m, "competency": c, "task": c, "metric": "acc", "score": s, "stderr": 0.01, "n": 20}
            for m, *both in rows
            for c, s in zip(("knowledge", "reasoning"), both, strict=True)
        ]
        items = [
            {
                "model": m, "competency": c, "task": c, "item_id": f"{i:016x}", "correct": float(i / 20 < s),
                "choice": 0 if i / 20 < s else 1 + i % 3, "answer": 0, "n_choices": 4,
                "choice_probs": [0.7 if o == (0 if i / 20 < s else 1 + i % 3) else 0.1 for o in range(4)],
            }
            for m, *both in rows
            for c, s in zip(("knowledge", "reasoning"), both, strict=True)
            for i in range(20)
        ]  # fmt: skip
        return Evidence(
            models=[Model(name, Path(name), None) for name in sorted(m for m, *_ in rows)],
            scores=pl.DataFrame(scores, schema=schemas.SCORES.columns),
            items=pl.DataFrame(items, schema=schemas.ITEMS.columns),
        )

    def measured(self, evidence: Evidence) -> pl.DataFrame:
        """The metric's rows, sorted."""
        frame = self.plugin.measure(evidence, self.checked_options())
        columns = [c for c in ("competency", "model_a", "model_b", "kinship", "reason") if c in frame.columns]
        return frame.select(columns).sort("model_a", "model_b", "competency")

    def test_in_range_or_reasoned(self) -> None:
        """Kinship lies in [0,1], or is null with a reason."""
        frame = self.measured(self.evidence())
        values = frame["kinship"].drop_nulls()
        assert values.is_between(-1e-12, 1 + 1e-12).all() and not values.is_nan().any()
        unknown = frame.filter(pl.col("kinship").is_null())
        assert unknown.height == 0 or ("reason" in frame.columns and unknown["reason"].null_count() == 0)

    def test_each_pair_once(self) -> None:
        """One row for each unordered pair, model_a < model_b."""
        frame = self.measured(self.evidence())
        assert (frame["model_a"] < frame["model_b"]).all()
        keys = [c for c in ("competency", "model_a", "model_b") if c in frame.columns]
        assert not frame.select(keys).is_duplicated().any()

    def test_order_of_models_and_items_does_not_matter(self) -> None:
        """The same evidence in another order gives the same rows."""
        evidence = self.evidence()
        turned = replace(
            evidence,
            models=list(reversed(evidence.models)),
            scores=evidence.scores.reverse(),
            items=evidence.items.reverse(),
        )
        one, other = self.measured(evidence), self.measured(turned)
        assert one.drop("kinship").equals(other.drop("kinship"))
        difference = (one["kinship"] - other["kinship"]).abs().max()
        assert difference is None or float(difference) < 1e-9  # type: ignore[arg-type]

    def test_symmetric_under_other_names(self) -> None:
        """Swapping two models' names swaps their kinship with the others."""
        evidence = self.evidence()
        swap = {"twin-a": "stranger", "stranger": "twin-a"}
        responses = evidence.responses
        if responses is not None:
            responses = responses.with_columns(pl.col("model").replace(swap))
        swapped = replace(
            evidence,
            scores=evidence.scores.with_columns(pl.col("model").replace(swap)),
            items=evidence.items.with_columns(pl.col("model").replace(swap)),
            responses=responses,
        )
        one = self._lookup(self.measured(evidence), "twin-a", "twin-b")
        other = self._lookup(self.measured(swapped), "stranger", "twin-b")
        assert one == other or abs((one or 0.0) - (other or 0.0)) < 1e-9

    def test_nothing_to_measure(self) -> None:
        """No model gives no row."""
        nothing = replace(
            self.evidence(), models=[], scores=schemas.SCORES.empty(), items=schemas.ITEMS.empty()
        )
        assert self.plugin.measure(nothing, self.checked_options()).height == 0

    @staticmethod
    def _lookup(frame: pl.DataFrame, a: str, b: str) -> float | None:
        a, b = sorted((a, b))
        rows = frame.filter((pl.col("model_a") == a) & (pl.col("model_b") == b))
        if "competency" in rows.columns:
            rows = rows.filter(pl.col("competency").is_null())
        return rows["kinship"].to_list()[0] if rows.height else None


class GeneratorContract(PluginContract):
    """What the generate stage relies on; override `model` with one that your generator can ask."""

    plugin: ClassVar[Generator]

    def model(self) -> Model:
        """The model to ask."""
        raise TypeError("override model() in your subclass of GeneratorContract")

    def requests(self) -> list[Request]:
        """Three prompts, two samples each."""
        texts = ("What is 2 + 2?", "ß→🙂 日本語", "Say yes. " * 20)
        return [
            Request(f"{i:016x}", [{"role": "user", "content": text}], sample, seed=1000 * i + sample)
            for i, text in enumerate(texts)
            for sample in range(2)
        ]

    def replies(self, requests: Sequence[Request]) -> list[Reply]:
        """What the generator answers."""
        assert self.plugin.generate is not None, "a generator that recalls has no requests to answer"
        return list(self.plugin.generate(self.model(), requests, self.checked_options()))

    def test_one_completion_each(self) -> None:
        """As many replies as requests; a text, or an error that says why there is none."""
        replies = self.replies(self.requests())
        assert len(replies) == len(self.requests())
        for reply in replies:
            assert isinstance(reply, Reply)
            assert (reply.text is None) == (reply.error is not None)

    def test_same_again(self) -> None:
        """The same seeds give the same answers."""
        assert self.replies(self.requests()) == self.replies(self.requests())

    def test_nothing_to_answer(self) -> None:
        """No request gives no reply."""
        assert self.replies([]) == []


class ProfilerContract(PluginContract):
    """What the profile stage relies on; override `model` and `tasks`."""

    plugin: ClassVar[Profiler]
    tasks: ClassVar[Mapping[str, Sequence[str]]]

    def model(self) -> Model:
        """The model to profile."""
        raise TypeError("override model() in your subclass of ProfilerContract")

    def test_scores_and_items(self) -> None:
        """Scores in [0,1] or null, every competency there, every row of this model."""
        profile = self.plugin.profile(self.model(), self.tasks, self.checked_options())
        assert isinstance(profile, Profile)
        assert set(self.tasks) <= set(profile.scores["competency"])
        assert set(profile.scores["model"]) == {self.model().name}
        assert profile.scores["score"].drop_nulls().is_between(0, 1).all()
        assert profile.items["correct"].drop_nulls().is_between(0, 1).all()


class PairingContract(PluginContract):
    """What the curriculum stage relies on."""

    plugin: ClassVar[Pairing]

    def candidates(self) -> pl.DataFrame:
        """All pairs of three models' answers to four prompts."""
        pairs = (("x", "y", 0.1, 0.9), ("x", "z", 0.5, 0.2), ("y", "z", 0.4, 0.4))
        rows = [
            {
                "prompt_id": f"{p:016x}", "competency": "knowledge",
                "response_a": f"{p}{a}", "response_b": f"{p}{b}",
                "model_a": a, "model_b": b, "reward_a": 0.9, "reward_b": 0.9 - m, "margin": m, "kinship": k,
                "noise": (p * 3 + i) / 12,
            }
            for p in range(4)
            for i, (a, b, m, k) in enumerate(pairs)
        ]  # fmt: skip
        return pl.DataFrame(rows, schema=schemas.CANDIDATES)

    def context(self) -> PairingContext:
        """The kinship that the candidates were made from; `x` is the model to be trained."""
        rows = [
            {"metric": "test", "model_a": a, "model_b": b, "kinship": k, "version": "test", "primary": True}
            for a, b, k in (("x", "y", 0.9), ("x", "z", 0.2), ("y", "z", 0.4))
        ]
        kinship = pl.DataFrame(rows, schema_overrides=dict(schemas.KINSHIP.columns))
        missing = [
            pl.lit(None, t).alias(c) for c, t in schemas.KINSHIP.columns.items() if c not in kinship.columns
        ]
        return PairingContext(
            kinship.with_columns(missing).select(schemas.KINSHIP.columns.names()), target="x"
        )

    def paired(self, candidates: pl.DataFrame) -> pl.DataFrame:
        """What the pairing says of the candidates, sorted."""
        frame = self.plugin.pair(candidates, self.context(), self.checked_options())
        return frame.select("response_a", "response_b", "dropped", "priority").sort(
            "response_a", "response_b"
        )

    def test_gives_all_candidates_back(self) -> None:
        """No row is added or lost; the dropped ones have a reason, the others a priority."""
        candidates = self.candidates()
        frame = self.paired(candidates)
        assert frame.height == candidates.height
        kept = frame.filter(pl.col("dropped").is_null())
        assert kept["priority"].null_count() == 0 and not kept["priority"].cast(pl.Float64).is_nan().any()

    def test_depends_on_the_prompt_alone(self) -> None:
        """Called on some prompts at a time, in any order, it says the same."""
        candidates = self.candidates()
        whole = self.paired(candidates.reverse())
        parts = [self.paired(part) for _, part in candidates.group_by("prompt_id", maintain_order=True)]
        assert whole.equals(pl.concat(parts).sort("response_a", "response_b"))

    def test_nothing_to_pair(self) -> None:
        """No candidate gives no pair."""
        assert self.paired(self.candidates().clear()).height == 0


def pairs_of(count: int) -> pl.DataFrame:
    """Table `pairs` with so many rows in curriculum order, for tests of objectives and exporters."""
    rows = [
        {
            "order": i, "phase": 0, "prompt": [{"role": "user", "content": f"Why {i}? \u00df\u2192"}],
            "chosen": [{"role": "assistant", "content": f"good {i}"}],
            "rejected": [{"role": "assistant", "content": f"bad\n{i}"}],
            "prompt_id": f"{i:016x}", "competency": "knowledge", "chosen_id": f"{2 * i:016x}",
            "rejected_id": f"{2 * i + 1:016x}", "chosen_model": "a", "rejected_model": "b",
            "chosen_reward": 1.0, "rejected_reward": 0.0, "margin": 1.0, "disagreement": None,
            "kinship": None, "complexity": 0.5, "difficulty": i / count,
        }
        for i in range(count)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=schemas.PAIRS.columns)


class ObjectiveContract(PluginContract):
    """What the train stage relies on; override `start` with a tiny model, or `job` for more than one step."""

    plugin: ClassVar[Objective]

    def start(self, folder: Path) -> Path:
        """A folder of weights to train, made in `folder`."""
        raise TypeError("override start() or job() in your subclass of ObjectiveContract")

    def job(self, folder: Path) -> TrainingJob:
        """One step on four pairs, whose output lies in `folder`."""
        start = Weights(folder=str(self.start(folder)))
        pairs = pairs_of(4)
        return TrainingJob(
            start=start, reference=start, base=start, pairs=pairs, all_pairs=pairs, steps=1,
            output=folder / "out", checkpoints=folder / "checkpoints", shared=folder / "shared",
            settings=TrainingSettings(batch_size=4, bf16=False), report=lambda metrics, step: None,
        )  # fmt: skip

    def test_writes_safe_weights(self, tmp_path: Path) -> None:
        """The output is a folder of safetensors, without pickles."""
        job = self.job(tmp_path)
        self.plugin.train(job, self.checked_options())
        names = [path.name for path in job.output.iterdir()]
        assert any(name.endswith(".safetensors") for name in names)
        assert not any(name.endswith((".bin", ".pt", ".pkl", ".pth")) for name in names)


def rows(number: int) -> bytes:
    """A table of one column as a parquet file: what a piece of work gives, for tests of runners."""
    buffer = io.BytesIO()
    pl.DataFrame({"number": [number] * 3}).write_parquet(buffer)
    return buffer.getvalue()


def refusal(number: int) -> bytes:
    """A piece that fails in words of its own."""
    raise KarmaError(f"piece {number} can't be computed: give it another number")


def death(number: int, folder: str, lives: int) -> bytes:
    """A piece that ends its process without a word, the first so many times."""
    places = [Path(folder) / f"{number}-{life}" for life in range(lives)]
    for place in places:
        if not place.exists():
            place.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return rows(number)


class RunnerContract(PluginContract):
    """What every stage relies on whose work is cut in pieces.

    `apart` is false where pieces are computed in this process, which a piece then may not end. `room` is the
    most pieces that may be in hand at once.
    """

    plugin: ClassVar[Runner]
    apart: ClassVar[bool] = True
    room: ClassVar[int] = 64

    def results(self, pieces: Iterable[Piece]) -> Iterator[tuple[str, bytes]]:
        """What the runner gives."""
        return iter(self.plugin.run(iter(pieces), self.checked_options()))

    def test_each_piece_gives_its_result_once(self) -> None:
        """In any order; nothing is computed for no pieces."""
        wanted = {f"key {number}": rows(number) for number in range(7)}
        results = list(self.results(Piece(f"key {n}", rows, (n,), f"piece {n}") for n in range(7)))
        assert len(results) == len(wanted)
        assert dict(results) == wanted
        assert list(self.results([])) == []

    def test_takes_what_it_has_room_for(self) -> None:
        """What it takes no other process can take; closed early, it ends."""
        taken: list[int] = []

        def pieces() -> Iterator[Piece]:
            for number in range(10_000):
                taken.append(number)
                yield Piece(f"key {number}", rows, (number,), f"piece {number}")

        results = self.results(pieces())
        next(results)
        assert len(taken) <= self.room, f"{len(taken)} pieces were taken before the first result"
        getattr(results, "close", lambda: None)()

    def test_an_error_arrives_as_itself(self) -> None:
        """Its class and its words."""
        pieces = [Piece("a", rows, (1,), "piece 1"), Piece("b", refusal, (2,), "piece 2")]
        assert str(self.raised(pieces)) == "piece 2 can't be computed: give it another number"

    def test_a_worker_that_dies_once_loses_nothing(self, tmp_path: Path) -> None:
        """The piece is computed again, the others too where they were lost with it."""
        if not self.apart:
            return
        pieces = [Piece(f"key {n}", death, (n, str(tmp_path), int(n == 2)), f"piece {n}") for n in range(5)]
        assert dict(self.results(pieces)) == {f"key {n}": rows(n) for n in range(5)}

    def test_a_piece_that_always_ends_its_worker_is_named(self, tmp_path: Path) -> None:
        """In one line; the others that were in hand are not blamed."""
        if not self.apart:
            return
        pieces = [
            Piece(f"key {n}", death, (n, str(tmp_path), 1000 * (n == 1)), f"piece {n}") for n in range(3)
        ]
        error = self.raised(pieces)
        assert isinstance(error, RunnerError), f"a piece that ends every worker gave {error!r}"
        assert "piece 1" in str(error)
        assert "\n" not in str(error)

    def raised(self, pieces: Iterable[Piece]) -> KarmaError | None:
        """The error that the pieces end in; null where they end well."""
        try:
            list(self.results(pieces))
        except KarmaError as error:
            return error
        return None


def _values(verdicts: Sequence[float | Verdict]) -> list[float | None]:
    return [one.value if isinstance(one, Verdict) else float(one) for one in verdicts]


def _check_values(verdicts: Sequence[float | Verdict], count: int) -> None:
    verdicts = list(verdicts)
    assert len(verdicts) == count, f"{len(verdicts)} verdicts for {count}"
    for one in verdicts:
        if isinstance(one, Verdict):
            assert (one.value is None) == (one.status in ("skipped", "failed"))
            assert one.value is not None or one.reason, "a verdict without a value needs a reason"
        value = one.value if isinstance(one, Verdict) else float(one)
        assert value is None or 0 <= value <= 1, f"{value} is not in [0,1]"


class ImporterContract(PluginContract):
    """What `karma import` and the stages after it rely on; give a `sample`, or override `sources`."""

    plugin: ClassVar[Importer]
    #: The text of a small file of the layout, and what it is called.
    sample: ClassVar[str] = ""
    file: ClassVar[str] = "sample.jsonl"

    def sources(self, folder: Path) -> Sequence[Path]:
        """A small source of the layout, written into a folder."""
        if not self.sample:
            raise TypeError("give a sample, or override sources(), in your subclass of ImporterContract")
        (folder / self.file).write_text(self.sample, encoding="utf-8")
        return [folder / self.file]

    def imported(self, folder: Path, out: Path) -> None:
        """Read the sample and write it."""
        folder.mkdir()
        self.plugin.read(self.sources(folder), self.checked_options()).write(out)

    def test_writes_what_the_stages_read(self, tmp_path: Path) -> None:
        """Tables in their schemas: answers to prompts that are there, verdicts on answers."""
        out = tmp_path / "out"
        self.imported(tmp_path / "source", out)
        assert (out / "report.json").is_file()
        homes = sorted(out.glob("models/*"))
        answers = [tables.read(home / "responses.parquet", schemas.RESPONSES) for home in homes]
        for home in homes:
            assert tables.read(home / "scores.parquet", schemas.SCORES).height
        verdicts = tables.read_verdicts(out / "verdicts" if homes else out)
        assert verdicts.judgements["score"].drop_nulls().is_between(0, 1).all()
        assert verdicts.comparisons["p_a"].drop_nulls().is_between(0, 1).all()
        if homes:
            known = pl.concat(answers)["response_id"].to_list()
            spoken = {*verdicts.judgements["response_id"], *verdicts.comparisons["response_b"]}
            assert spoken & set(known), "no verdict is about an answer"
            assert (out / "prompts.jsonl").read_text(encoding="utf-8").strip()
            assert "models:" in (out / "models.yaml").read_text(encoding="utf-8")

    def test_same_again(self, tmp_path: Path) -> None:
        """The same source gives the same bytes."""
        bytes_of = []
        for i in range(2):
            out = tmp_path / f"{i}" / "out"
            (tmp_path / f"{i}").mkdir()
            self.imported(tmp_path / f"{i}" / "source", out)
            files = sorted(file for file in out.rglob("*") if file.is_file() and file.name != "models.yaml")
            bytes_of.append({file.relative_to(out): file.read_bytes() for file in files})
        assert bytes_of[0] == bytes_of[1]

    def test_what_is_not_there_is_one_clear_error(self, tmp_path: Path) -> None:
        """A missing source is a KarmaError."""
        message = ""
        try:
            self.plugin.read([tmp_path / "nowhere.jsonl"], self.checked_options())
        except KarmaError as error:
            message = str(error)
        assert "nowhere" in message, "no KarmaError names the source that is not there"

    def test_recognises_nothing_in_an_empty_record(self) -> None:
        """What every record is of can't be told apart."""
        assert self.plugin.recognises is None or not self.plugin.recognises({})


class ExporterContract(PluginContract):
    """What `karma export` relies on; override `tables` where the exporter reads more than table `pairs`."""

    plugin: ClassVar[Exporter]
    #: The name of what is written, with a suffix for a file.
    out: ClassVar[str] = "out"

    def tables(self) -> Tables:
        """Three pairs in curriculum order."""
        return Tables({"pairs": pairs_of(3)}.__getitem__)

    def written(self, out: Path) -> dict[str, bytes]:
        """What the exporter writes, by path."""
        line = self.plugin.write(self.tables(), out, self.checked_options())
        assert isinstance(line, str) and line.strip(), "the exporter does not say what it wrote"
        files = [out] if out.is_file() else sorted(file for file in out.rglob("*") if file.is_file())
        return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}

    def test_writes_the_same_again(self, tmp_path: Path) -> None:
        """Equal tables give equal bytes, and there are some."""
        first, second = self.written(tmp_path / self.out), self.written(tmp_path / f"again-{self.out}")
        assert first and any(first.values())
        assert first == second

    def test_nothing_is_overwritten(self, tmp_path: Path) -> None:
        """Where something lies already, a KarmaError says so."""
        refused = False
        (tmp_path / self.out).write_text("mine")
        try:
            self.plugin.write(self.tables(), tmp_path / self.out, self.checked_options())
        except KarmaError:
            refused = True
        assert refused and (tmp_path / self.out).read_text() == "mine", "what was there was overwritten"
