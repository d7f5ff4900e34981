"""What rewards an answer that the policy samples: judges that score, or a reward model from the pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import Field

from karma_plugins.contracts import Answer, Options, TrainingJob
from karma_plugins.errors import ParamsError, TrainingError
from karma_plugins.training import examples
from karma_plugins.training.reward_model import RewardModel, reward_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Prompts without one reward, from the start on, after which training stops.
SILENT_PROMPTS = 8
#: The model's name in what a judge sees.
POLICY = "policy"


class RewardOptions(Options):
    """What an answer is rewarded by.

    With `judges` it is the mean of their scores in [0,1], by their weights; without, a reward model: the
    base's own weights with a linear head on the last token, trained on all pairs.
    """

    judges: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="judges that score, with their options, as under judge.judges"
    )
    weights: dict[str, float] = Field(
        default_factory=dict, description="weights of the judges' scores; 1 where none is given"
    )
    epochs: float = Field(2.0, gt=0, description="passes of the reward model over all pairs")
    learning_rate: float | None = Field(
        None, gt=0, description="of the reward model; null: that of the policy"
    )


@dataclass(frozen=True)
class Reward:
    """Rewards answers to the prompts of a job. `model` is the reward model; null where judges reward."""

    job: TrainingJob
    tokenizer: PreTrainedTokenizerBase
    ends: frozenset[int]
    penalty: float
    asked: Sequence[Answer]
    prompts: Sequence[list[int]]
    model: RewardModel | None = None
    #: Prompts of which no answer got a reward; null alone once one did.
    silent: set[int | None] = field(default_factory=set)

    def __call__(self, numbers: Sequence[int], answers: Sequence[Sequence[int]]) -> list[float | None]:
        """A reward for each answer (its tokens, with the end token if it ended) to the prompt of that number.

        An answer that did not end gets the penalty less. Null: nobody could reward it. Raises TrainingError
        where that is so of all answers from the start on, to some prompts.
        """
        spoken = [[*answer[:-1]] if answer and answer[-1] in self.ends else [*answer] for answer in answers]
        rewards: list[tuple[float | None, str | None]]
        if self.model is not None:
            whole = [[*self.prompts[n], *answer] for n, answer in zip(numbers, answers, strict=True)]
            values = [float(value) for value in self.model.rewards(whole)]
            rewards = [(value if math.isfinite(value) else None, "not finite") for value in values]
        else:
            rewards = self._judged(numbers, spoken)
        if any(value is not None for value, _ in rewards):
            self.silent.clear()
            self.silent.add(None)
        elif None not in self.silent:
            self.silent.update(numbers)
            if len(self.silent) >= min(SILENT_PROMPTS, len(self.prompts)):
                raise TrainingError(f"train: none of {len(rewards)} answers got a reward: {rewards[0][1]}.")
        return [
            None if value is None else value - (0.0 if len(text) < len(answer) else self.penalty)
            for (value, _), text, answer in zip(rewards, spoken, answers, strict=True)
        ]

    def _judged(
        self, numbers: Sequence[int], spoken: Sequence[list[int]]
    ) -> list[tuple[float | None, str | None]]:
        texts = self.tokenizer.batch_decode(spoken, skip_special_tokens=True)
        answers = [
            Answer(
                response_id=f"{self.asked[n].prompt_id}/{place}",
                prompt_id=self.asked[n].prompt_id,
                model=POLICY,
                messages=self.asked[n].messages,
                text=text,
                competency=self.asked[n].competency,
                reference=self.asked[n].reference,
                constraints=self.asked[n].constraints,
            )
            for place, (n, text) in enumerate(zip(numbers, texts, strict=True))
        ]
        verdicts = (
            [] if self.job.score is None else self.job.score(answers)
        )  # `reward` lets no job in without
        return [(verdict.value, verdict.reason) for verdict in verdicts]


def reward(
    job: TrainingJob,
    options: RewardOptions,
    tokenizer: PreTrainedTokenizerBase,
    ends: Sequence[int],
    *,
    penalty: float,
) -> Reward:
    """The reward of a job: its reward model is trained unless it is there.

    Raises ParamsError where judges are named and the stage has handed in none.
    """
    if options.judges and job.score is None:
        raise ParamsError("train: the objective's option reward.judges names judges, and none was handed in.")
    table = examples.prompts(job)
    known = {} if job.prompts is None else {row["prompt_id"]: row for row in job.prompts.to_dicts()}
    questions = [
        Answer(
            response_id="",
            prompt_id=row["prompt_id"],
            model=POLICY,
            messages=row["prompt"],
            text="",
            competency=row["competency"],
            reference=known.get(row["prompt_id"], {}).get("reference"),
            constraints=known.get(row["prompt_id"], {}).get("constraints"),
        )
        for row in table.to_dicts()
    ]
    model = None if options.judges else reward_model(job, options.epochs, options.learning_rate)
    opened = examples.prompt_tokens(tokenizer, job.start, table["prompt"].to_list())
    return Reward(job, tokenizer, frozenset(ends), penalty, questions, opened, model)
