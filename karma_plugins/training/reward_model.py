"""A reward model from the pairs: what the objectives that sample answers are told to strive for.

It is trained once, from the base and all pairs, before the first phase: a curriculum is for the policy.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from karma_plugins.contracts import Options, TrainingJob
from karma_plugins.errors import ModelError
from karma_plugins.models.loading import load_model
from karma_plugins.runtime import processes
from karma_plugins.training.conversations import answer_tokens, pairs
from karma_plugins.training.policy import longest, lora_config, tokenizer_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Sequences that are scored at once.
BATCH = 64


class RewardOptions(Options):
    """How the reward model is trained: the base's own weights with a linear head on the last token."""

    epochs: float = Field(2.0, gt=0, description="passes over all pairs")
    learning_rate: float | None = Field(None, gt=0, description="null: that of the policy")


@dataclass(frozen=True, slots=True)
class RewardModel:
    """A trained network, with the mean and standard deviation of its scores over its own pairs."""

    network: PreTrainedModel
    mean: float
    deviation: float

    def rewards(self, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        """Standardised rewards of whole sequences of tokens (prompt and answer), shape (sequences,)."""
        return (scores(self.network, sequences) - self.mean) / self.deviation


def reward_model(job: TrainingJob, options: RewardOptions) -> RewardModel:
    """The reward model of a training, trained unless it is there; in evaluation mode, frozen.

    Raises ModelError for quantised weights.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    place = job.shared / "reward"
    if not (place / "model").is_dir():
        _train(_reward_job(job, options, place))
        processes.wait()
        if processes.is_first():
            (place / "model.partial").replace(place / "model")
        processes.wait()
    network = AutoModelForSequenceClassification.from_pretrained(
        place / "model", use_safetensors=True, trust_remote_code=False
    )
    network = network.to(processes.state().device).eval().requires_grad_(requires_grad=False)
    job = replace(job, pairs=job.all_pairs)
    told = torch.cat(
        [scores(network, answer_tokens(job, tokenizer_of(job), answer)) for answer in ("chosen", "rejected")]
    ).double()
    return RewardModel(network, float(told.mean()), float(told.std()) or 1.0)


def scores(network: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
    """What the head says of each sequence, raw, shape (sequences,)."""
    import torch

    pad = network.config.get_text_config().pad_token_id
    found = []
    with torch.no_grad():
        for start in range(0, len(sequences), BATCH):
            rows = [torch.tensor(row) for row in sequences[start : start + BATCH]]
            ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
            lengths = torch.tensor([len(row) for row in rows])[:, None]
            mask = (torch.arange(ids.shape[1])[None] < lengths).long()
            logits = network(ids.to(network.device), attention_mask=mask.to(network.device)).logits
            found.append(logits[:, 0].float())
    return torch.cat(found)


def _reward_job(job: TrainingJob, options: RewardOptions, place: Path) -> TrainingJob:
    """The training of the reward model as a job of its own, with its checkpoints beside the policy's."""
    settings = job.settings
    batch = settings.batch_size * settings.gradient_accumulation
    place.mkdir(parents=True, exist_ok=True)

    def report(metrics: Mapping[str, float], step: int) -> None:
        job.report({f"reward_model/{name}": value for name, value in metrics.items()}, step)

    rate = options.learning_rate or settings.learning_rate
    return replace(
        job,
        start=job.base,
        pairs=job.all_pairs,
        steps=max(1, round(options.epochs * job.all_pairs.height / batch)),
        checkpoints=place,
        output=place / "model.partial",
        settings=settings.model_copy(update={"learning_rate": rate}),
        report=report,
    )


def _train(job: TrainingJob) -> None:
    from datasets import Dataset
    from peft import get_peft_model
    from transformers import set_seed
    from trl import RewardConfig, RewardTrainer

    from karma_plugins.training.trl_trainer import arguments, fit

    tokenizer = tokenizer_of(job)
    network = _with_head(job, tokenizer)
    limit = longest(network, job.settings)
    if job.settings.lora is not None:
        set_seed(job.settings.seed)
        network = get_peft_model(network, lora_config(job.settings.lora, "SEQ_CLS"))
    trainer = RewardTrainer(
        model=network,
        args=RewardConfig(**arguments(job), max_length=limit),
        train_dataset=Dataset.from_list(pairs(job)),
        processing_class=tokenizer,
    )
    fit(trainer, job, tokenizer, merge=True)


def _with_head(job: TrainingJob, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The base's body under a fresh head with one output."""
    from transformers import AutoModelForSequenceClassification, set_seed

    if job.start.quantisation is not None:
        raise ModelError(
            f"{job.start.location}: quantised weights make no reward model. Use objective dpo, orpo "
            "or kto, or remove 'quantisation' from the descriptor."
        )
    body = load_model(job.start, for_training=True)
    config = copy.deepcopy(body.config)
    config.num_labels = 1
    config.get_text_config().pad_token_id = tokenizer.pad_token_id
    set_seed(job.settings.seed)  # the head's first weights are drawn
    network = AutoModelForSequenceClassification.from_config(config, dtype=body.dtype)
    network.base_model.load_state_dict(body.base_model.state_dict())
    return network.to(body.device)
