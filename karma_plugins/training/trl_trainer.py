"""What all objectives that TRL trains share: arguments, data, logs, checkpoints, exact resume, saving."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PrinterCallback, Trainer, TrainerCallback

from karma_plugins.errors import ModelError, ParamsError
from karma_plugins.runtime import processes
from karma_plugins.training import checkpoints, finite
from karma_plugins.training.examples import Example, encode
from karma_plugins.training.policy import save, whole_state

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from transformers import PreTrainedTokenizerBase

    from karma_plugins.contracts import TrainingJob, TrainingSettings

#: Logs that a resumed run can't continue, or that say nothing about training.
UNTOLD = frozenset({"epoch", "num_tokens", "total_flos", "train_loss", "train_runtime", "step_time"})
LOG_STEPS = 10
#: How far apart two log-probabilities of a token may be, in nats: by rounding, not by another output layer.
CLOSE, CLOSE_16_BITS = 1e-3, 0.1
#: A checkpoint's file of a reference that moves during training.
REFERENCE = "reference.safetensors"


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
    """Whether to compute in bfloat16: as asked, or where the hardware has it.

    Raises ParamsError where it is asked for and the hardware has it not.
    """
    import torch

    able = bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported())
    if settings.bf16 == "auto":
        return able
    if settings.bf16 and not able:
        raise ParamsError(
            "train.bf16: this machine has no GPU that computes in bfloat16. Set it to auto or to false."
        )
    return settings.bf16


def schedule_name(settings: TrainingSettings) -> str:
    """The learning rate's schedule by its name in transformers."""
    return "constant_with_warmup" if settings.schedule == "constant" else settings.schedule


def in_whole_batches(pairs: int, job: TrainingJob, *, places: int | None = None) -> list[int]:
    """Which pair each place of the job's batches holds: the pairs in their order, again and again.

    `places` are all pairs of all steps unless given. Every batch is whole: where the pairs end in the middle
    of one, it goes on with the first of them. So no process has an odd batch of its own, and many train as
    one does.
    """
    settings = job.settings
    if places is None:
        places = job.steps * settings.gradient_accumulation * settings.batch_size
    return [place % pairs for place in range(places)]


def global_weight(counted: torch.Tensor) -> torch.Tensor:
    """What a mean over this process' tokens weighs in the mean over those of all processes.

    Gradients are averaged over processes; a mean over tokens of processes that have unlike many must be
    weighted, or it is another mean than that of one process.
    """
    import torch

    if processes.count() == 1:
        return torch.ones((), device=counted.device)
    total = counted.detach().clone().float()
    torch.distributed.all_reduce(total)
    return counted.detach().float() * processes.count() / total.clamp(min=1.0)


def refuse_sharding(accelerator: Accelerator, objective: str) -> None:
    """Raise ParamsError where the weights are to be shared out: answers are sampled from whole ones."""
    kind = accelerator.distributed_type.value
    if kind in ("FSDP", "DEEPSPEED"):
        raise ParamsError(
            f"train.objective: {objective} samples answers from whole weights, which {kind} shares out over "
            "the processes. Use dpo, orpo or kto, or launch without it."
        )


def fit(
    trainer: Trainer, job: TrainingJob, tokenizer: PreTrainedTokenizerBase, *, merge: bool = False
) -> None:
    """Train from the last complete checkpoint, or from the start, and save; `merge` merges an adapter first.

    Raises TrainingError as soon as a loss, a gradient or a weight is not finite.
    """
    trainer.remove_callback(PrinterCallback)
    example = encode(replace(job, pairs=job.pairs.head(1)))[0]
    _check_likelihood(trainer, job, example)
    trainer.add_callback(_Finite(job, trainer))
    trainer.add_callback(_Pace(job, getattr(trainer, "ref_model", None) if _syncs(trainer) else None))
    last = checkpoints.latest(job.checkpoints)
    if last is not None and _syncs(trainer):
        _load_reference(trainer, last)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    finite.check_model(job, trainer.model, example.prompt + example.chosen, trainer.args.learning_rate)
    trained = trainer.accelerator.unwrap_model(trainer.model)
    state = whole_state(trained)
    if trainer.is_world_process_zero():
        if merge and hasattr(trained, "merge_and_unload"):
            trained = trained.merge_and_unload()
        save(trained, tokenizer, job.output, state)
    trainer.accelerator.wait_for_everyone()


def _check_likelihood(trainer: Trainer, job: TrainingJob, example: Example) -> None:
    """Raise ModelError where TRL would train other likelihoods than the model's own.

    Its trainers compute them from the last hidden states, by what they know of a family's output layer.
    """
    import torch

    model = trainer.model
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    if "fused_lm_head" not in inspect.signature(bare.forward, follow_wrapped=False).parameters:
        return
    ids = torch.tensor([example.prompt + example.chosen], device=bare.device)
    labels = ids.clone()
    labels[:, : len(example.prompt)] = -100
    with torch.no_grad():
        logits = bare.eval()(input_ids=ids, use_cache=False).logits[0, len(example.prompt) - 1 : -1]
        own = (logits.float() / getattr(trainer, "temperature", 1.0)).log_softmax(-1)
        own = own.gather(-1, ids[0, len(example.prompt) :, None])[:, 0]
        log_probs = bare.train()(input_ids=ids, labels=labels, fused_lm_head=True).log_probs[0, -len(own) :]
    apart = float((own - log_probs.float()).abs().mean())
    if not apart < (CLOSE if bare.dtype == torch.float32 else CLOSE_16_BITS):
        raise ModelError(
            f"{job.start.location}: TRL computes other likelihoods than this model, of family "
            f"'{bare.config.model_type}', does (by {apart:.2g} nats a token). Use objective orpo."
        )


def _syncs(trainer: Trainer) -> bool:
    """Whether the reference moves during training, so that it is a part of a checkpoint."""
    return bool(getattr(trainer.args, "sync_ref_model", False))


def _load_reference(trainer: Trainer, checkpoint: Path) -> None:
    from safetensors.torch import load_model

    load_model(trainer.accelerator.unwrap_model(trainer.ref_model), checkpoint / REFERENCE)


class _Finite(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Stops a training whose loss, gradient or weights are no longer finite, before the step is taken."""

    def __init__(self, job: TrainingJob, trainer: Trainer) -> None:
        self.job = job
        self.losses: list[torch.Tensor] = []
        step = trainer.training_step

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.losses.append(loss := step(*args, **kwargs))
            return loss

        trainer.training_step = watched

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the step's losses and gradients."""
        gradients = finite.gradients(kwargs["model"])
        quantities = {"loss": self.losses, **({"gradient": gradients} if gradients else {})}
        finite.check(self.job, state.global_step + 1, quantities, args.learning_rate)
        self.losses.clear()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the weights that the step has made."""
        weights = [weight for weight in kwargs["model"].parameters() if weight.requires_grad]
        finite.check(self.job, state.global_step, {"weights": weights}, args.learning_rate)


class _Pace(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Says when to log and when to save, passes logs on, and marks checkpoints complete.

    Every checkpoint falls on a step that was just logged, so that no running mean is cut by a resume. The
    last step needs none: the trained model follows at once.
    """

    def __init__(self, job: TrainingJob, reference: Any = None) -> None:
        self.job, self.reference = job, reference
        steps = job.settings.checkpoint_steps
        self.log_steps = next(n for n in range(min(LOG_STEPS, steps), 0, -1) if steps % n == 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Decide after each optimiser step."""
        last = state.global_step >= state.max_steps
        control.should_log = last or state.global_step % self.log_steps == 0
        control.should_save = not last and state.global_step % self.job.settings.checkpoint_steps == 0

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **_: Any) -> None:
        """Report what the trainer logs."""
        numbers = {k: float(v) for k, v in logs.items() if k not in UNTOLD and isinstance(v, (int, float))}
        metrics = {name: value for name, value in numbers.items() if math.isfinite(value)}
        if state.is_world_process_zero and "loss" in metrics:
            self.job.report(metrics, state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark the checkpoint once every process has written its part."""
        processes.wait()
        if state.is_world_process_zero:
            place = checkpoints.folder(Path(args.output_dir), state.global_step)
            if self.reference is not None:
                from safetensors.torch import save_model

                save_model(getattr(self.reference, "module", self.reference), str(place / REFERENCE))
            checkpoints.complete(place)
        processes.wait()
