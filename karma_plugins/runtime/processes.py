"""The processes of one stage under `torchrun`: the first writes outs, tracks and reports, all compute."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

from karma_plugins.errors import ParamsError, installed

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


def check_launch() -> None:
    """Raise ParamsError where fewer processes have met than were launched: each would train by itself."""
    launched = {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= os.environ.keys()
    if launched and "WORLD_SIZE" not in os.environ:
        raise ParamsError(
            "`accelerate launch --cpu` starts one process, however many it is told. Use `torchrun "
            "--nproc_per_node 2 -m stages.train`, or `accelerate launch` with a configuration for several."
        )
    if count() > 1 and state().num_processes != count():
        raise ParamsError(
            f"{count()} processes were launched, of which {state().num_processes} met. Launch them by "
            "`torchrun` or `accelerate launch`."
        )


def state() -> PartialState:
    """Accelerate's view of the processes: the device of this one, and how they meet."""
    from accelerate import PartialState

    return PartialState(cpu=on_cpu())


def device() -> str:
    """The kind of device that this process computes on: other kinds give other last bits."""
    if installed("torch"):
        import torch

        if torch.cuda.is_available():
            return str(torch.cuda.get_device_name(0))
        return f"{platform.machine()} CPU, {torch.backends.cpu.get_cpu_capability()}"
    return f"{platform.machine()} CPU"
