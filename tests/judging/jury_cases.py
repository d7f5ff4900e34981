"""Small tables and judges for the tests of judging."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from karma_plugins import judging
from karma_plugins.contracts import Judge, Options
from karma_plugins.judging.deciding import Judged
from karma_plugins.params import JudgeEntry, JurySection
from karma_plugins.registry import Bound, Juror, Origin
from karma_plugins.schemas import COMPARISONS, JUDGEMENTS, KINSHIP, PROMPTS, RESPONSES

HERE = Origin("karma-tests", "1.0")


def prompts(
    count: int, *, reference: str | None = "4", constraints: str | None = None, competency: str = "sums"
) -> pl.DataFrame:
    rows = [
        {
            "prompt_id": f"p{i:04d}",
            "messages": [{"role": "user", "content": f"Question {i}?"}],
            "competency": competency,
            "reference": reference,
            "constraints": constraints,
            "split": "train",
        }
        for i in range(count)
    ]
    return pl.DataFrame(rows, schema=PROMPTS.columns)


def responses(texts: Iterable[tuple[str, str, str | None]]) -> pl.DataFrame:
    """From (prompt_id, model, text); several of one model are its samples."""
    seen: dict[tuple[str, str], int] = {}
    rows = []
    for prompt, model, text in texts:
        sample = seen[prompt, model] = seen.get((prompt, model), -1) + 1
        rows.append(
            {
                "response_id": rid(prompt, model, sample),
                "prompt_id": prompt,
                "model": model,
                "sample": sample,
                "text": text,
                "error": "timed out" if text is None else None,
            }
        )
    return pl.DataFrame(rows, schema=RESPONSES.columns)


def rid(prompt: str, model: str, sample: int = 0) -> str:
    return hashlib.blake2b(f"{prompt} {model} {sample}".encode(), digest_size=8).hexdigest()


def kinship(
    overall: Mapping[tuple[str, str], float | None], **by_competency: Mapping[tuple[str, str], float]
) -> pl.DataFrame:
    rows = [
        {"metric": "capability", "competency": competency, "model_a": a, "model_b": b, "kinship": value,
         "version": "1", "primary": True}
        for competency, cells in [(None, overall), *by_competency.items()]
        for (a, b), value in cells.items()
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=KINSHIP.columns)


@dataclass(frozen=True)
class Seat:
    """A judge of a test, and what section `jury` says of it."""

    judge: Bound[Judge]
    weight: float = 1.0
    kin_to: str | None = None


@dataclass(frozen=True)
class Settings:
    """What every judge's entry says, and section `jury` without weights and kin."""

    entry: JudgeEntry
    jury: dict[str, Any]


def juror(
    name: str, plugin: Judge | None = None, *, weight: float = 1.0, kin_to: str | None = None, **how: Any
) -> Seat:
    plugin = plugin or Judge(name=name, **how)
    return Seat(Bound(name, plugin, plugin.options(), HERE), weight, kin_to)


def bound(plugin: Judge, options: Options | None = None, name: str | None = None) -> Bound[Judge]:
    return Bound(name or plugin.name, plugin, options or plugin.options(), HERE)


def settings(**values: Any) -> Settings:
    """From keys of an entry and of section `jury`."""
    entry = {key: values.pop(key) for key in list(values) if key in JudgeEntry.model_fields}
    return Settings(JudgeEntry(**entry), values)


def judge(
    prompts: pl.DataFrame,
    responses: pl.DataFrame,
    kinship: pl.DataFrame | None,
    seats: Sequence[Seat],
    settings: Settings,
    **kwargs: Any,
) -> Judged:
    """`judging.judge` with the seats' weights and kin."""
    weights = {seat.judge.name: seat.weight for seat in seats}
    kin_to = {seat.judge.name: seat.kin_to for seat in seats if seat.kin_to is not None}
    jury = JurySection(weights=weights, kin_to=kin_to, **settings.jury)
    jurors = [Juror(seat.judge, settings.entry) for seat in seats]
    return judging.judge(prompts, responses, kinship, jurors, jury, **kwargs)


def judgements(rows: Iterable[tuple[str, str, str, float | None]]) -> pl.DataFrame:
    """From (prompt_id, response_id, judge, score); null = failed."""
    return pl.DataFrame(
        [
            {"prompt_id": p, "response_id": r, "judge": j, "version": "", "score": s,
             "status": "failed" if s is None else "ok", "reason": "unparsed" if s is None else None}
            for p, r, j, s in rows
        ],
        schema=JUDGEMENTS.columns,
    )  # fmt: skip


def comparisons(rows: Iterable[tuple[str, str, str, str, float | None, str]]) -> pl.DataFrame:
    """From (prompt_id, response_a, response_b, judge, p_a, order); null = failed."""
    return pl.DataFrame(
        [
            {"prompt_id": p, "response_a": a, "response_b": b, "judge": j, "version": "", "p_a": v,
             "order": o, "status": "failed" if v is None else "tie" if v == 0.5 else "ok",
             "reason": "unparsed" if v is None else None}
            for p, a, b, j, v, o in rows
        ],
        schema=COMPARISONS.columns,
    )  # fmt: skip
