"""The job that the running code belongs to."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from flowli_core._progress import LogLine, Progress, log_lines
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
    _report: Callable[[Progress | None, Sequence[LogLine]], None] | None = field(default=None, repr=False)
    _last_progress: Progress | None = field(default=None, init=False, repr=False)

    @property
    def cancelled(self) -> bool:
        """True if the handler should end: it was cancelled or timed out, its lease is lost, or its worker is stopping.

        An async handler also gets a CancelledError. A handler in a thread can only check this.
        """
        return self._should_end()

    @property
    def last_progress(self) -> Progress | None:
        """The progress that this attempt reported last."""
        return self._last_progress

    def progress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Report how much is done: `progress(3, 10, "page 3 of 10")`. It is stored with the job, and replaces the last.

        Any thread may call it, as often as it likes: it does not wait, and a worker stores the latest at most once a
        second, and with the outcome of the job. An error of the store is not raised here. `run()` stores nothing.

        Raises ValidationError unless `done` and `total` are numbers from 0, `done` is at most `total`, and `note` is a
        text of at most 1 KiB.
        """
        self._last_progress = Progress(done=done, total=total, note=note)
        if self._report is not None:
            self._report(self._last_progress, ())

    def log(self, text: str) -> None:
        """Append a text to the log of the job, one line for each of its lines.

        The last 100 lines are stored with the job, also those of earlier attempts. A line is cut to 1 KiB. Otherwise
        this is like `progress`. Raises ValidationError if `text` is no str.
        """
        lines = log_lines(text)
        if self._report is not None:
            self._report(None, lines)


MakeJob = Callable[[], CurrentJob]

_current: ContextVar[CurrentJob | MakeJob] = ContextVar("flowli_current_job")


def current_job() -> CurrentJob:
    """Return the running job. Raises StrategyError outside of a handler."""
    job = running_job()
    if job is None:
        raise StrategyError("current_job() was called outside of a job")
    return job


def running_job() -> CurrentJob | None:
    """Return the running job, or None outside of a handler."""
    job = _current.get(None)
    return job if job is None or isinstance(job, CurrentJob) else job()


def running_meta() -> bytes | None:
    """Return what is stored as the meta of the running job: its trace and its meta. None in `run`."""
    return current_job()._stored_meta  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - hidden from users


def running_registry() -> object:
    """Return the registry whose job is running, or None outside of a handler."""
    job = running_job()
    return None if job is None else job._registry  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - hidden from users


def set_current(make_job: MakeJob) -> None:
    """Make this the current job of this task, until it ends. The function is called when the job is asked for."""
    _current.set(make_job)


@contextmanager
def as_current(job: CurrentJob) -> Generator[CurrentJob]:
    """Make this the current job within a `with` block."""
    token = _current.set(job)
    try:
        yield job
    finally:
        _current.reset(token)
