"""Judge `instructions`: verifiable instructions (IFEval, Zhou et al. 2023), by lm-eval's own checkers."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import cache
from typing import Any, Literal

from pydantic import Field

from karma_plugins.contracts import Answer, Judge, Options, Verdict, hookimpl


class InstructionsOptions(Options):
    """Options of judge `instructions`."""

    check: Literal["strict", "loose"] = Field(
        "strict", description="loose: also without first line, last line and asterisks, as IFEval does"
    )
    credit: Literal["share", "all"] = Field(
        "share", description="score: the share of instructions followed, or 1 only where all are"
    )


class _UncheckedError(Exception):
    """Why the instructions of a prompt can't be checked."""


def score(answers: Sequence[Answer], options: InstructionsOptions) -> list[Verdict]:
    """How far each answer follows its prompt's instructions.

    `constraints` of the prompt is JSON: `{"instruction_id_list": [...], "kwargs": [{...}, ...]}`.
    """
    return [_score(answer, options) for answer in answers]


def _score(answer: Answer, options: InstructionsOptions) -> Verdict:
    if answer.constraints is None or not answer.constraints.strip():
        return Verdict(None, "skipped", "no constraints")
    try:
        wanted = _instructions(answer.constraints)
        followed = [_follows(answer, name, arguments, options.check) for name, arguments in wanted]
    except _UncheckedError as reason:
        return Verdict(None, "failed", str(reason))
    if options.credit == "all":
        return Verdict(float(all(followed)))
    return Verdict(sum(followed) / len(followed))


def _instructions(constraints: str) -> list[tuple[str, dict[str, Any]]]:
    """Names and arguments of the instructions, each known and with every argument that its checker takes."""
    try:
        given = json.loads(constraints)
        names, arguments = given["instruction_id_list"], given["kwargs"]
    except (ValueError, KeyError, TypeError):
        raise _UncheckedError('constraints are not {"instruction_id_list": [...], "kwargs": [...]}') from None
    if not isinstance(names, list) or not isinstance(arguments, list) or not names:
        raise _UncheckedError("constraints name no instruction")
    if len(names) != len(arguments):
        raise _UncheckedError(f"{len(names)} instructions with arguments for {len(arguments)}")
    for name, given in zip(names, arguments, strict=True):
        if not isinstance(given, dict | None):
            raise _UncheckedError(f"the arguments of an instruction are {type(given).__name__}, no mapping")
        checker = _checkers().get(name) if isinstance(name, str) else None
        if checker is None:
            raise _UncheckedError(f"unknown instruction '{name}'")
        # A checker draws an argument that is not given by chance, which would be a made-up verdict.
        known = {key for key, value in (given or {}).items() if value}
        missing = sorted(set(checker(name).get_instruction_args_keys()) - known)
        if missing:
            raise _UncheckedError(f"instruction '{name}' lacks argument '{missing[0]}'")
    return [(name, dict(given or {})) for name, given in zip(names, arguments, strict=True)]


def _follows(answer: Answer, name: str, arguments: dict[str, Any], check: str) -> bool:
    from lm_eval.tasks.ifeval import utils

    strict = check == "strict"
    test = utils.test_instruction_following_strict if strict else utils.test_instruction_following_loose
    prompt = next((m["content"] for m in reversed(answer.messages) if m["role"] == "user"), "")
    example = utils.InputExample(key=0, instruction_id_list=[name], prompt=prompt, kwargs=[arguments])
    try:
        return bool(test(example, answer.text).follow_all_instructions)
    except Exception as error:
        if isinstance(error, LookupError) and "nltk" in str(error).lower():
            cure = "python -m nltk.downloader punkt_tab"
            raise _UncheckedError(f"nltk's language data is missing ({cure}): {name}") from error
        # A keyword that is no regular expression, say: it must not cost the other answers their verdicts.
        raise _UncheckedError(f"the checker failed: {name}, {type(error).__name__}, {error}") from error


@cache
def _checkers() -> dict[str, Any]:
    """lm-eval's checkers by name, imported without the download that their import tries."""
    import langdetect
    import nltk

    # langdetect draws by chance unless it is told a seed.
    langdetect.DetectorFactory.seed = 0
    download, nltk.download = nltk.download, lambda *_, **__: False
    try:
        with redirect_stdout(io.StringIO()):
            from lm_eval.tasks.ifeval import instructions_registry
    finally:
        nltk.download = download
    return dict(instructions_registry.INSTRUCTION_DICT)


@hookimpl
def karma_register_judges() -> Sequence[Judge]:
    """Register judge `instructions`."""
    return [Judge(name="instructions", options=InstructionsOptions, score=score, needs=("lm_eval",))]
