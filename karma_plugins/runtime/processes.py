"""The processes of one stage under `torchrun`: the first writes outs, tracks and reports, all compute."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import PartialState


def is_first() -> bool:
    """Whether this process writes outs and tracks the run: true outside `torchrun`."""
    return int(os.environ.get("RANK", "0")) == 0


def count() -> int:
    """How many processes run the stage together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def on_cpu() -> bool:
    """Whether several processes compute without a GPU: accelerate must be told, else each is alone."""
    import torch

    return count() > 1 and not torch.cuda.is_available()


def wait() -> None:
    """Go on once all processes are here."""
    if count() > 1:
        state().wait_for_everyone()


def state() -> PartialState:
    """Accelerate's view of the processes: the device of this one, and how they meet."""
    from accelerate import PartialState

    return PartialState(cpu=on_cpu())
