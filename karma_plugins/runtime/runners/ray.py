"""Runner `ray`: the workers of a Ray cluster, or of one that is started on this machine.

Ray places the pieces, starts a worker anew that died, and takes another node where one is gone. Only the
process that hands out the work writes, so that nodes need not see `.karma/`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from karma_plugins.contracts import Options, Piece, Runner, hookimpl
from karma_plugins.errors import RunnerError


class RayOptions(Options):
    """Which cluster, and what of it a piece needs."""

    address: str | None = Field(
        None,
        description="of a cluster: 'auto', 'host:6379' or 'ray://host:10001'; null: RAY_ADDRESS, or one that "
        "is started here",
    )
    num_cpus: float = Field(1, ge=0, description="of each piece, and the threads that it gets")
    num_gpus: float = Field(0, ge=0, description="of each piece; 0.5: two pieces share one")
    resources: dict[str, float] = Field(default_factory=dict, description="custom resources of each piece")
    retries: int = Field(3, ge=0, description="how often a piece is tried again whose worker or node died")
    in_flight: int | None = Field(
        None, ge=1, description="pieces handed out at once; null: twice what the cluster has room for"
    )
    runtime_env: dict[str, Any] = Field(
        default_factory=dict, description="what Ray is to set up for workers, such as {env_vars: {…}}"
    )


@hookimpl
def karma_register_runners() -> Sequence[Runner]:
    """Register this runner."""
    return [Runner(name="ray", options=RayOptions, run=run, needs=("ray",))]


def run(pieces: Iterator[Piece], options: RayOptions) -> Iterator[tuple[str, bytes]]:
    """Compute the pieces on the cluster, yielding results as they come.

    Raises what a piece raises, and RunnerError where there is no such cluster, a piece finds no room on one
    that was started here, or ends its worker at every try.
    """
    import ray

    room = _joined(options)
    compute = ray.remote(
        num_cpus=options.num_cpus,
        num_gpus=options.num_gpus,
        resources=options.resources or None,
        max_retries=options.retries,
    )(computed)
    flying: dict[Any, Piece] = {}
    try:
        while True:
            while len(flying) < room and (piece := next(pieces, None)) is not None:
                flying[compute.remote(piece)] = piece
            if not flying:
                return
            (done,), _ = ray.wait(list(flying), num_returns=1)
            piece = flying.pop(done)
            yield piece.key, _received(done, piece, options)
    finally:
        for reference in flying:
            ray.cancel(reference, force=True)


def computed(piece: Piece) -> bytes:
    """What a worker does."""
    rows: bytes = piece()
    return rows


def _received(reference: Any, piece: Piece, options: RayOptions) -> bytes:
    """The result of a piece, or its own error."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        rows: bytes = ray.get(reference)
    except RayTaskError as error:
        cause = getattr(error, "cause", None)
        raise (cause if isinstance(cause, Exception) else error) from None
    except RayError as error:
        reason = str(error).strip().partition("\n")[0]
        raise RunnerError(
            f"{piece.label or piece.key}: its worker died {options.retries + 1} times over it "
            f"({type(error).__name__}: {reason}). Run with `KARMA_RUNNER=local` to see where, or give each "
            "piece more memory."
        ) from None
    return rows


def _joined(options: RayOptions) -> int:
    """Be part of the cluster; returns how many pieces to hand out at once."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not ray.is_initialized():
        try:
            ray.init(
                address=options.address,
                runtime_env=options.runtime_env or None,
                logging_level="ERROR",
                log_to_driver=False,
                **({} if options.address else {"include_dashboard": False}),
            )
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            raise RunnerError(
                f"runner.runners.ray.address: no Ray cluster can be joined at '{options.address or 'auto'}' "
                f"({' '.join(str(error).split())[:300]}). Start one (`ray start --head`), or correct the "
                "address."
            ) from error
    wanted = {"CPU": options.num_cpus, "GPU": options.num_gpus, **options.resources}
    rooms = _rooms(ray.cluster_resources(), wanted)
    if rooms == 0 and options.address is None and "RAY_ADDRESS" not in os.environ:
        needs = ", ".join(f"{name} {count:g}" for name, count in wanted.items() if count)
        raise RunnerError(
            f"params.yaml, runner.runners.ray: a piece asks for more than this machine has ({needs}). Ask "
            "for less, or name a cluster in `address`."
        )
    return options.in_flight or max(2 * rooms, 2)


def _rooms(there: Mapping[str, float], wanted: Mapping[str, float]) -> int:
    """How many pieces a cluster computes at once."""
    shares = [int(there.get(name, 0) / count) for name, count in wanted.items() if count]
    return min(shares, default=int(there.get("CPU", 1)))
