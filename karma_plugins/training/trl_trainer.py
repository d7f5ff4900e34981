"""What all objectives that TRL trains share: arguments, data, logs, checkpoints, exact resume, saving."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PrinterCallback, Trainer, TrainerCallback

from karma_plugins.errors import EmptyResultError, ParamsError
from karma_plugins.runtime import processes
from karma_plugins.training import checkpoints
from karma_plugins.training.policy import save

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from karma_plugins.contracts import TrainingJob, TrainingSettings

#: Logs that a resumed run can't continue, or that say nothing about training.
UNTOLD = frozenset({"epoch", "num_tokens", "total_flos", "train_loss", "train_runtime", "step_time"})
LOG_STEPS = 10


def arguments(job: TrainingJob, learning_rate: float | None = None) -> dict[str, Any]:
    """What every TRL configuration of this job is told; an objective may have a learning rate of its own."""
    import torch

    settings = job.settings
    return {
        "output_dir": str(job.checkpoints),
        "max_steps": job.steps,
        "per_device_train_batch_size": per_process(settings),
        "gradient_accumulation_steps": settings.gradient_accumulation,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "learning_rate": learning_rate or settings.learning_rate,
        "lr_scheduler_type": schedule_name(settings),
        "warmup_steps": round(settings.warmup * job.steps),
        "bf16": uses_bf16(settings),
        "seed": settings.seed,
        "train_sampling_strategy": "sequential",
        "logging_strategy": "no",  # `_Pace` says when
        "save_strategy": "no",
        "dataloader_pin_memory": torch.cuda.is_available(),
        "use_cpu": processes.on_cpu(),
        "report_to": "none",
        "disable_tqdm": True,
    }


def per_process(settings: TrainingSettings) -> int:
    """Pairs of a batch that this process sees; ParamsError where they can't be shared evenly."""
    count = processes.count()
    if settings.batch_size % count:
        raise ParamsError(
            f"train.batch_size: make {settings.batch_size} a multiple of the {count} processes."
        )
    return settings.batch_size // count


def uses_bf16(settings: TrainingSettings) -> bool:
    """Whether to compute in bfloat16: as asked, or where the hardware has it."""
    import torch

    if settings.bf16 == "auto":
        return bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported())
    return settings.bf16


def schedule_name(settings: TrainingSettings) -> str:
    """The learning rate's schedule by its name in transformers."""
    return "constant_with_warmup" if settings.schedule == "constant" else settings.schedule


def fit(
    trainer: Trainer, job: TrainingJob, tokenizer: PreTrainedTokenizerBase, *, merge: bool = False
) -> None:
    """Train from the last complete checkpoint, or from the start, and save; `merge` merges an adapter first.

    Raises EmptyResultError where the trainer dropped every pair as too long.
    """
    if not len(trainer.train_dataset):
        raise EmptyResultError(
            f"train.max_length: {job.settings.max_length} tokens do not hold a prompt of any pair. Raise it."
        )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Pace(job))
    last = checkpoints.latest(job.checkpoints)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    if trainer.is_world_process_zero():
        trained = trainer.accelerator.unwrap_model(trainer.model)
        if merge and hasattr(trained, "merge_and_unload"):
            trained = trained.merge_and_unload()
        save(trained, tokenizer, job.output)
    trainer.accelerator.wait_for_everyone()


class _Pace(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Says when to log and when to save, passes logs on, and marks checkpoints complete.

    Every checkpoint falls on a step that was just logged, so that no running mean is cut by a resume. The
    last step needs none: the trained model follows at once.
    """

    def __init__(self, job: TrainingJob) -> None:
        self.job = job
        steps = job.settings.checkpoint_steps
        self.log_steps = next(n for n in range(min(LOG_STEPS, steps), 0, -1) if steps % n == 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Decide after each optimiser step."""
        last = state.global_step >= state.max_steps
        control.should_log = last or state.global_step % self.log_steps == 0
        control.should_save = not last and state.global_step % self.job.settings.checkpoint_steps == 0

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **_: Any) -> None:
        """Report what the trainer logs."""
        told = {k: float(v) for k, v in logs.items() if k not in UNTOLD and isinstance(v, (int, float))}
        if state.is_world_process_zero and "loss" in told:
            self.job.report(told, state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark the checkpoint once every process has written its part."""
        processes.wait()
        if state.is_world_process_zero:
            checkpoints.complete(checkpoints.folder(Path(args.output_dir), state.global_step))
        processes.wait()
