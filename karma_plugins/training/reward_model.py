"""A reward model from the pairs: what the objectives that sample answers strive for where no judge is named.

It is trained once, from the base and all pairs, before the first phase: a curriculum is for the policy.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from karma_plugins.contracts import TrainingJob
from karma_plugins.errors import ModelError, TrainingError
from karma_plugins.models.loading import load_model
from karma_plugins.runtime import processes
from karma_plugins.runtime.progress import progress
from karma_plugins.training import checkpoints
from karma_plugins.training.examples import encode, tokenizer_of
from karma_plugins.training.policy import fresh_adapter

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Sequences that are scored at once.
BATCH = 64
#: What the names of its metrics begin with.
PREFIX = "reward_model/"


@dataclass(frozen=True, slots=True)
class RewardModel:
    """A trained network, with the mean and standard deviation of its scores over its own pairs."""

    network: PreTrainedModel
    mean: float
    deviation: float

    def rewards(self, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        """Standardised rewards of whole sequences of tokens (prompt and answer), shape (sequences,)."""
        return (scores(self.network, sequences) - self.mean) / self.deviation


def reward_model(job: TrainingJob, epochs: float, learning_rate: float | None) -> RewardModel:
    """The reward model of a training, trained unless it is there; in evaluation mode, frozen.

    `learning_rate` null means that of the policy. Raises ModelError for quantised weights and for families
    that transformers has no sequence classifier of, TrainingError where its scores are not finite.
    """
    from transformers import AutoModelForSequenceClassification

    place = job.shared / "reward"
    if processes.is_first() and not checkpoints.published(place / "model"):
        checkpoints.settle(place)
    processes.wait()
    if not (place / "model").is_dir():
        _train(job, epochs, learning_rate, place)
        processes.wait()
        if processes.is_first():
            checkpoints.publish(place / "model.partial", place / "model")
            checkpoints.clean(place, keep=None)
        processes.wait()
    network = AutoModelForSequenceClassification.from_pretrained(
        place / "model", use_safetensors=True, trust_remote_code=False
    )
    network = network.to(processes.state().device).eval().requires_grad_(requires_grad=False)
    answers = [
        example.prompt + answer
        for example in encode(replace(job, pairs=job.all_pairs))
        for answer in (example.chosen, example.rejected)
    ]
    own = scores(network, answers).double()
    mean, deviation = float(own.mean()), float(own.std())
    if not (math.isfinite(mean) and math.isfinite(deviation)):
        raise TrainingError(
            "train: the reward model's scores are not finite. Lower the objective's reward.learning_rate."
        )
    return RewardModel(network, mean, deviation or 1.0)


def scores(network: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
    """What the head says of each sequence, raw, shape (sequences,); no row depends on its neighbours."""
    import torch

    pad = network.config.get_text_config().pad_token_id
    parts = []
    with torch.no_grad():
        for start in range(0, len(sequences), BATCH):
            rows = [torch.tensor(row) for row in sequences[start : start + BATCH]]
            ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
            lengths = torch.tensor([len(row) for row in rows])[:, None]
            mask = (torch.arange(ids.shape[1])[None] < lengths).long()
            logits = network(ids.to(network.device), attention_mask=mask.to(network.device)).logits
            parts.append(logits[:, 0].float())
    return torch.cat(parts)


def _train(job: TrainingJob, epochs: float, learning_rate: float | None, place: Path) -> None:
    """Train it as a job of its own, with its checkpoints beside the policy's and a bar of its own."""
    settings = job.settings
    told = job.phase == job.all_pairs["phase"].min()  # of one made again later, the first phase has told
    batch = settings.batch_size * settings.gradient_accumulation
    steps = max(1, round(epochs * job.all_pairs.height / batch))
    place.mkdir(parents=True, exist_ok=True)
    shown = 0
    with progress("reward model", steps) as advance:

        def report(metrics: Mapping[str, float], step: int) -> None:
            nonlocal shown
            advance(max(0, step - shown))
            shown = max(step, shown)
            if told:
                job.report({f"{PREFIX}{name}": value for name, value in metrics.items()}, step)

        own = replace(
            job,
            start=job.base,
            pairs=job.all_pairs,
            steps=steps,
            checkpoints=place,
            output=place / "model.partial",
            settings=settings.model_copy(update={"learning_rate": learning_rate or settings.learning_rate}),
            report=report,
        )
        _fit(own)


def _fit(job: TrainingJob) -> None:
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    from karma_plugins.training.trl_trainer import arguments, fit, in_whole_batches

    tokenizer = tokenizer_of(job.start)
    network: Any = with_head(job, tokenizer)
    if job.settings.lora is not None:
        network = fresh_adapter(network, job.settings.lora, "SEQ_CLS", job.settings.seed)
    rows = [
        {"chosen_ids": example.prompt + example.chosen, "rejected_ids": example.prompt + example.rejected}
        for example in encode(job)
    ]
    trainer = RewardTrainer(
        model=network,
        args=RewardConfig(**arguments(job), max_length=None),  # the examples are cut
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    trainer.train_dataset = trainer.train_dataset.select(in_whole_batches(len(rows), job))
    fit(trainer, job, tokenizer, merge=True)


def with_head(job: TrainingJob, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The job's first weights under a fresh head with one output.

    Raises ModelError for quantised weights and for families that transformers has no sequence classifier of.
    """
    from transformers import AutoModelForSequenceClassification, set_seed

    cure = "Use objective dpo, orpo or kto, or name judges in the objective's option `reward`."
    if job.start.quantisation is not None:
        raise ModelError(f"{job.start.location}: quantised weights make no reward model. {cure}")
    body = load_model(job.start, for_training=True)
    config = copy.deepcopy(body.config)
    config.num_labels = 1
    config.get_text_config().pad_token_id = tokenizer.pad_token_id
    set_seed(job.settings.seed)  # the head's first weights are drawn
    try:
        network = AutoModelForSequenceClassification.from_config(config, dtype=body.dtype)
    except ValueError as error:
        raise ModelError(
            f"{job.start.location}: transformers has no sequence classifier of family '{config.model_type}', "
            f"so there is no reward model. {cure}"
        ) from error
    network.base_model.load_state_dict(body.base_model.state_dict())
    return network.to(body.device)
