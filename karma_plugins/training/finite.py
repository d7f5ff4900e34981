"""Numbers that are not finite stop a training at once: a loss, a gradient, a weight, an answer's logits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from karma_plugins.errors import TrainingError
from karma_plugins.runtime import processes

if TYPE_CHECKING:
    import torch

    from karma_plugins.contracts import TrainingJob

#: Beyond it the squares that layers normalise by are no longer finite in 32 bits.
LARGEST_WEIGHT = 1e18


def check(
    job: TrainingJob, step: int, quantities: Mapping[str, Iterable[torch.Tensor]], learning_rate: float
) -> None:
    """Raise TrainingError, in every process, where one of the named quantities is not finite in any of them.

    `step` counts from 1 in the phase; `learning_rate` is what the message says to lower.
    """
    largest = {name: _largest(tensors) for name, tensors in quantities.items()}
    values = _over_processes(largest.values())
    for name, value in zip(largest, values, strict=True):
        if not value < (LARGEST_WEIGHT if name == "weights" else float("inf")):
            raise TrainingError(_complaint(job, step, name, value, learning_rate))


def check_model(job: TrainingJob, model: Any, tokens: list[int], learning_rate: float) -> None:
    """Raise TrainingError where a trained model says no finite number of a sequence of tokens."""
    import torch

    training = model.training
    device = next(model.parameters()).device
    with torch.no_grad():
        logits = model.eval()(input_ids=torch.tensor([tokens], device=device)).logits
    model.train(training)
    check(job, job.steps, {"weights": model.parameters(), "logits": [logits]}, learning_rate)


def gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    """The gradients of a model's parameters."""
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def _largest(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """The largest magnitude of all; not a number where one is not."""
    import torch
    from torch.distributed.tensor import DTensor

    local = [t.to_local() if isinstance(t, DTensor) else t for t in (t.detach() for t in tensors)]
    local = [t for t in local if t.numel() and t.is_floating_point()]
    return torch.nn.utils.get_total_norm(local, norm_type=float("inf"))


def _over_processes(largest: Iterable[torch.Tensor]) -> list[float]:
    """The values on this machine's first device in one transfer; of several processes the worst."""
    import torch

    first, *others = [value.float().reshape(()) for value in largest]
    together = torch.stack([first, *(value.to(first.device) for value in others)])
    if processes.count() > 1:
        # A maximum over processes need not carry a NaN along.
        together = together.nan_to_num(nan=float("inf"))
        torch.distributed.all_reduce(together, op=torch.distributed.ReduceOp.MAX)
    return [float(value) for value in together.tolist()]


def _complaint(job: TrainingJob, step: int, name: str, value: float, learning_rate: float) -> str:
    what = f"train: {name} of value {value} at step {step} of phase {job.phase}"
    if step == 1 and name == "loss":
        return (
            f"{what}, before any weight has moved: '{job.start.location}' computes no finite number for "
            "these pairs. Look at its weights, set train.bf16: false, or remove 'dtype' from its descriptor."
        )
    cure = f"Lower the learning rate (it is {learning_rate:g}) or raise train.warmup"
    return f"{what}. {cure}; no model was written."
