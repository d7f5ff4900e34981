"""Many calls of MLflow's client as one transaction, where it writes to a database itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

T = TypeVar("T")


def together(client: MlflowClient, work: Callable[[], T], undo: Callable[[], None]) -> T:
    """What `work` gives, all of whose calls of the client are there afterwards, or none.

    MLflow opens some fifteen sessions for a run, each with a commit and with settings of its own; here they
    are one. Where anything is refused, or MLflow takes back what it wrote, all of it is taken back, `undo` is
    called, and `work` is done again call by call: what is refused then is refused. The registry of models has
    a connection of its own, so `work` must not write to it. An error that is none of MLflow's takes all back
    and is raised. To a server the calls go as they are.
    """
    store = getattr(getattr(client, "_tracking_client", None), "store", None)
    maker = getattr(store, "ManagedSessionMaker", None)
    if maker is None:
        return work()
    try:
        with _one_session(store, maker):
            return work()
    except (_BackError, MlflowException, SQLAlchemyError):
        undo()
        return work()


class _BackError(Exception):
    """MLflow would go back over what was written before in the same transaction."""


@contextmanager
def _one_session(store: Any, maker: Callable[..., Any]) -> Iterator[None]:
    """Have MLflow's store use one session for all; what it commits is only there at the end."""
    gone_back, depth = False, 0
    reason: Exception | None = None

    def go_back() -> None:
        nonlocal gone_back
        gone_back = True
        raise _BackError

    with _as_raised(lambda: reason), maker(read_only=False) as session:

        @contextmanager
        def joined(read_only: bool = True) -> Iterator[Any]:
            nonlocal depth
            if read_only and not depth:
                session.expire_all()  # as after a commit: what was read before is read anew
            depth += 1
            try:
                yield session
            finally:
                depth -= 1
            if not read_only and not depth:
                session.flush()

        session.commit, session.rollback = session.flush, go_back
        store.ManagedSessionMaker = joined
        try:
            with _without_repeats(store):
                yield
        except Exception as error:
            reason = error
            raise
        finally:
            store.ManagedSessionMaker = maker
            del session.commit, session.rollback
        if gone_back:
            raise _BackError


@contextmanager
def _as_raised(reason: Callable[[], Exception | None]) -> Iterator[None]:
    """MLflow makes an error of its own of any: what was no error of MLflow's is raised as it was."""
    try:
        yield
    except MlflowException:
        first = reason()
        if first is not None and not isinstance(first, (_BackError, MlflowException, SQLAlchemyError)):
            raise first from None
        raise


@contextmanager
def _without_repeats(store: Any) -> Iterator[None]:
    """Have MLflow look up the experiment once, not for each run, and no inputs of a run that it just made."""
    inputs_of, create, creating = store._get_run_inputs, store.create_run, False

    def no_inputs_yet(session: Any, run_uuids: list[str]) -> Any:
        return [[] for _ in run_uuids] if creating else inputs_of(session, run_uuids)

    def create_run(*arguments: Any, **named: Any) -> Any:
        nonlocal creating
        creating = True
        try:
            return create(*arguments, **named)
        finally:
            creating = False

    replaced = {
        "get_experiment": cache(store.get_experiment),
        "create_run": create_run,
        "_get_run_inputs": no_inputs_yet,
    }
    vars(store).update(replaced)
    try:
        yield
    finally:
        for name in replaced:
            vars(store).pop(name, None)
