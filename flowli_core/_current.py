"""The job that the running code belongs to."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from flowli_core.errors import StrategyError


@dataclass(slots=True, kw_only=True, eq=False)
class CurrentJob:
    """The job that is running, as its own code sees it."""

    id: str
    name: str
    queue: str
    attempt: int = 1
    """The number of this attempt, from 1."""
    recoveries: int = 0
    """The number of workers that have died while they ran this job."""
    token: int = 0
    """The fencing token: it grows with each delivery, so your own store can refuse an outdated writer. 0 in `run()`.

    It needs 64 bits, because it is at least the store's time in microseconds.
    """
    _should_end: Callable[[], bool] = field(default=lambda: False, repr=False)
    _registry: object = field(default=None, repr=False)
    _stored_meta: bytes | None = field(default=None, repr=False)

    @property
    def cancelled(self) -> bool:
        """True if the handler should end: it was cancelled or timed out, its lease is lost, or its worker is stopping.

        An async handler also gets a CancelledError. A handler in a thread can only check this.
        """
        return self._should_end()


_current: ContextVar[CurrentJob] = ContextVar("flowli_current_job")


def current_job() -> CurrentJob:
    """Return the running job. Raises StrategyError outside of a handler."""
    try:
        return _current.get()
    except LookupError:
        raise StrategyError("current_job() was called outside of a job") from None


def running_job() -> CurrentJob | None:
    """Return the running job, or None outside of a handler."""
    return _current.get(None)


def running_meta() -> bytes | None:
    """Return what is stored as the meta of the running job: its trace and its meta. None in `run`."""
    return current_job()._stored_meta  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - hidden from users


def running_registry() -> object:
    """Return the registry whose job is running, or None outside of a handler."""
    job = _current.get(None)
    return None if job is None else job._registry  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - hidden from users


def set_current(job: CurrentJob) -> None:
    """Make this the current job of this task, until it ends."""
    _current.set(job)


@contextmanager
def as_current(job: CurrentJob) -> Generator[CurrentJob]:
    """Make this the current job within a `with` block."""
    token = _current.set(job)
    try:
        yield job
    finally:
        _current.reset(token)
