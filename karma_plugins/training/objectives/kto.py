"""Objective `kto`: Kahneman-Tversky optimisation (Ethayarajh et al. 2024) by TRL, answer by answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from karma_plugins.contracts import Objective, Options, TrainingJob, hookimpl
from karma_plugins.errors import EmptyResultError

if TYPE_CHECKING:
    from trl import KTOTrainer

    from karma_plugins.training.examples import Example


class KtoOptions(Options):
    """Options of `kto`; every pair gives one desirable and one undesirable answer."""

    learning_rate: float | None = Field(
        None, gt=0, description="highest of each phase; null: train.learning_rate"
    )
    beta: float = Field(0.1, gt=0, description="how strongly the policy is held to its reference")
    loss_type: Literal["kto", "apo_zero_unpaired"] = Field("kto", description="one of TRL's losses")
    desirable_weight: float = Field(1.0, ge=0, description="weight of the loss on chosen answers")
    undesirable_weight: float = Field(1.0, ge=0, description="weight of the loss on rejected answers")


def train(job: TrainingJob, options: KtoOptions) -> None:
    """One phase of KTO against the job's reference.

    Raises EmptyResultError where the phase has one prompt alone: there is no answer to another.
    """
    from datasets import Dataset
    from trl import KTOConfig

    from karma_plugins.training.examples import encode, limit, tokenizer_of
    from karma_plugins.training.policy import load_policy, load_reference, quiet
    from karma_plugins.training.trl_trainer import arguments, fit, in_whole_batches

    with quiet():
        tokenizer, given = tokenizer_of(job.start), arguments(job, options.learning_rate)
        examples, names = encode(job), job.pairs["prompt_id"].to_list()
        order = in_whole_batches(len(examples), job)
        size = job.settings.batch_size
        rows = [
            row
            for start in range(0, len(order), size)
            for row in batch_rows(
                examples, names, order[start : start + size], others=options.loss_type == "kto"
            )
        ]
        trainer = _trainer()(
            model=load_policy(job),
            ref_model=load_reference(job),
            args=KTOConfig(
                **given | {"per_device_train_batch_size": 2 * given["per_device_train_batch_size"]},
                beta=options.beta,
                loss_type=options.loss_type,
                desirable_weight=options.desirable_weight,
                undesirable_weight=options.undesirable_weight,
                max_length=limit(job.start, job.settings),  # of a prompt with another's answer
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        fit(trainer, job, tokenizer)


def batch_rows(
    examples: Sequence[Example], prompts: Sequence[str], batch: Sequence[int], *, others: bool = True
) -> list[dict[str, Any]]:
    """A batch of pairs as two answers each: all chosen, then all rejected.

    `prompts` names each example's prompt; `batch` numbers examples. With `others` each row also holds the
    answer by which the policy's divergence is measured: of the same kind, of the nearest pair before it in
    the batch, else among all examples, that is about another prompt. Raises EmptyResultError where there is
    none.
    """
    unlike = [_other(prompts, batch, place) if others else None for place in range(len(batch))]
    return [
        {"prompt_ids": examples[number].prompt, "completion_ids": getattr(examples[number], answer)}
        | ({} if other is None else {"KL_completion_ids": getattr(examples[other], answer)})
        | {"label": answer == "chosen"}
        for answer in ("chosen", "rejected")
        for number, other in zip(batch, unlike, strict=True)
    ]


def _other(prompts: Sequence[str], batch: Sequence[int], place: int) -> int:
    own = batch[place]
    before = [*reversed(batch[:place]), *reversed(batch[place + 1 :])]
    near = next((number for number in before if prompts[number] != prompts[own]), None)
    if near is not None:
        return near
    for step in range(1, len(prompts)):
        if prompts[own - step] != prompts[own]:
            return (own - step) % len(prompts)
    raise EmptyResultError(
        "train.objectives.kto: a phase has pairs of one prompt alone, so that no answer to another tells how "
        "far the policy has moved. Give more prompts or fewer phases."
    )


def _trainer() -> type[KTOTrainer]:
    """TRL's trainer on rows that are tokens already."""
    from trl import KTOTrainer

    class Trainer(KTOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    return Trainer


@hookimpl
def karma_register_objectives() -> Sequence[Objective]:
    """The objective `kto`."""
    return [Objective(name="kto", options=KtoOptions, train=train, needs=("trl",))]
