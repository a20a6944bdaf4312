"""Which job the code that runs now belongs to."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

from flowli_core.errors import StrategyError


class CurrentJob:
    """The job that is running, as its own code sees it."""

    __slots__ = ("_cancelled", "attempt", "id", "name", "queue", "recoveries", "token")

    id: str
    name: str
    queue: str
    attempt: int
    """Counts from 1."""
    recoveries: int
    """How often a worker was lost while it ran this record."""
    token: int
    """The fencing number: greater with each delivery, so a store of yours can refuse a stale writer. 0 under `run`."""

    def __init__(
        self,
        *,
        id: str,
        name: str,
        queue: str,
        attempt: int = 1,
        recoveries: int = 0,
        token: int = 0,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.id = id
        self.name = name
        self.queue = queue
        self.attempt = attempt
        self.recoveries = recoveries
        self.token = token
        self._cancelled = cancelled

    @property
    def cancelled(self) -> bool:
        """Whether this execution is to end: cancelled, timed out, its lease lost, or its worker stopping.

        An async handler is told by a CancelledError; a handler in a thread can only look here.
        """
        return self._cancelled()


_current: ContextVar[CurrentJob] = ContextVar("flowli_current_job")


def current_job() -> CurrentJob:
    """Answer the job that is running. Raises StrategyError outside of one."""
    try:
        return _current.get()
    except LookupError:
        raise StrategyError("current_job() was called outside of a job") from None


def running_job() -> CurrentJob | None:
    """Answer the job that is running, or None outside of one."""
    return _current.get(None)


def set_current(job: CurrentJob) -> None:
    """Make this the current job of a task that does nothing else."""
    _current.set(job)


@contextmanager
def as_current(job: CurrentJob) -> Generator[CurrentJob]:
    """Make this the current job of the code inside."""
    token = _current.set(job)
    try:
        yield job
    finally:
        _current.reset(token)
