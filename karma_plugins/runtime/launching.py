"""A stage that starts itself in several processes, as a configuration of accelerate says."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from karma_plugins.errors import ParamsError, require

if TYPE_CHECKING:
    from accelerate.commands.config.config_args import ClusterConfig

#: What accelerate calls a configuration of one machine without a cluster.
ONE = "NO"
#: Set for what is launched, which is not to launch anything itself.
LAUNCHED = "KARMA_LAUNCHED"

Configuration = str | Mapping[str, Any]


def is_launched() -> bool:
    """Whether a launcher started this process: ours, `torchrun` or `accelerate launch`."""
    return LAUNCHED in os.environ or "RANK" in os.environ


def read(configuration: Configuration, *, where: str) -> ClusterConfig:
    """A configuration of accelerate, the path of its file or what it would hold, as accelerate reads it.

    Raises ParamsError where it is not there, holds keys that accelerate does not know, or says that another
    service trains.
    """
    require(where, "accelerate")
    with TemporaryDirectory() as folder:
        return _read(_file(configuration, Path(folder)), where)


def launch(configuration: Configuration, module: str, arguments: Sequence[str], *, where: str) -> None:
    """Run `python -m module arguments` in the processes that the configuration names, and wait for them.

    GPUs, FSDP, DeepSpeed and several machines are accelerate's to start. Several processes on CPUs are
    torch's, as `accelerate launch` starts one there. Raises SystemExit with the first status of a process
    that failed, which has said why, and ParamsError as `read` does.
    """
    with TemporaryDirectory() as folder:
        file = _file(configuration, Path(folder))
        config = _read(file, where)
        os.environ[LAUNCHED] = "1"
        logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # a failed process says why itself
        try:
            _launch(config, file, module, arguments, where)
        finally:
            del os.environ[LAUNCHED]


def _launch(config: ClusterConfig, file: Path, module: str, arguments: Sequence[str], where: str) -> None:
    from subprocess import CalledProcessError

    from torch.distributed.elastic.agent.server.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        if config.use_cpu or config.distributed_type == ONE:
            from torch.distributed import run

            count = str(max(1, config.num_processes))
            run.main(["--standalone", "--nproc_per_node", count, "-m", module, *arguments])
        else:
            from accelerate.commands.launch import launch_command, launch_command_parser

            written = ["--config_file", str(file), "-m", module, *arguments]
            launch_command(launch_command_parser().parse_args(written))
    except ChildFailedError as error:
        status = next((failure.exitcode for _, failure in sorted(error.failures.items())), 1)
        raise SystemExit(status if status > 0 else 128 - status) from error
    except CalledProcessError as error:
        raise SystemExit(error.returncode if error.returncode > 0 else 128 - error.returncode) from error
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from error
        raise SystemExit(128 + error.sigval) from error
    except (ValueError, ImportError, OSError) as error:
        raise ParamsError(f"{where}: accelerate can't start this ({error}). Correct it.") from error


def _file(configuration: Configuration, folder: Path) -> Path:
    if isinstance(configuration, str):
        return Path(configuration)
    file = folder / "accelerate.json"
    file.write_text(json.dumps({"distributed_type": ONE, **configuration}), encoding="utf-8")
    return file


def _read(file: Path, where: str) -> ClusterConfig:
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

    try:
        config = load_config_from_file(str(file))
    except FileNotFoundError as error:
        raise ParamsError(f"{where}: '{file}' is not there. Write it with `accelerate config`.") from error
    except Exception as error:  # YAML, unknown keys, missing arguments: each library says it in its own class
        reason = " ".join(str(error).split())
        raise ParamsError(
            f"{where}: accelerate does not take this ({reason}). Correct it, or write it anew with "
            "`accelerate config`."
        ) from error
    if not isinstance(config, ClusterConfig):
        raise ParamsError(f"{where}: only 'compute_environment: LOCAL_MACHINE' can be launched. Name that.")
    return config
