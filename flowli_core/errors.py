"""The errors that Flowli raises.

FlowliError
├── DefinitionError      a job, a registry or an option is declared wrongly; usually raised at import
├── ValidationError      an input, a meta, an id, a key, a page limit or a progress is invalid
├── StrategyError        the registry cannot do this: it has no driver, is closed, or already runs
├── SchedulingError      a time, a duration or a schedule is invalid
├── RecordNotFound       no record has this id: it was never stored, or its retention time is over
├── JobFailed            the job whose result is awaited has failed
├── JobCancelled         the job whose result is awaited was cancelled
├── OutboxUnavailable    the database of an outbox failed; the same call may be repeated
└── DriverError          the store refused a call, or failed
    ├── StoreUnavailable     the store is unreachable or full; the same call may be repeated
    ├── StoreDamaged         stored data cannot be read
    └── LeaseLost            the lease of a running job was lost

Beside these, a handler raises `Abort` and `RetryAfter` to decide about its retries, and an attempt that ran for longer
than its `timeout` ends with `JobTimeout` (all in `retry`).

A message names the argument, the limit and the cure. It never holds a payload or a password.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class FlowliError(Exception):
    """The base class of all errors of Flowli.

    `is_internal` is False if a call was refused because of an invalid value: in an input or a meta, or of an id, a key,
    a time, a rule, a cursor, a limit. It is True if the program or the store is at fault. That includes arguments of
    the wrong type, unknown options, undeclared queues, and stored records that no longer fit their job.
    """

    is_internal: bool = True


class DefinitionError(FlowliError):
    """A job, a registry or an option is declared wrongly."""


@dataclass(frozen=True, slots=True)
class Issue:
    """A problem in a payload: its path, and what was expected there. It holds no value; `[...]` hides a key."""

    path: str
    problem: str

    def __str__(self) -> str:
        """Return `path: problem`, or only the problem if it concerns the whole payload."""
        return f"{self.path}: {self.problem}" if self.path else self.problem


class ValidationError(FlowliError):
    """A value of a call is invalid. `issues` lists the problems of a payload, at most 100."""

    is_internal: bool = False

    def __init__(self, message: str, issues: Sequence[Issue] = ()) -> None:
        super().__init__(message)
        self.issues: tuple[Issue, ...] = tuple(issues)


class StrategyError(FlowliError):
    """The registry cannot do this: it has no driver, is closed, or already runs."""


class SchedulingError(FlowliError):
    """A time, a duration or a schedule is invalid."""

    is_internal: bool = False


class RecordNotFound(FlowliError):
    """No record has this id: it was never stored, or it was removed after its retention time."""

    is_internal: bool = False


@dataclass(frozen=True, slots=True)
class LastError:
    """The error that ended an attempt. `type` is its class with the module; message and traceback are shortened."""

    type: str
    message: str
    traceback: str = ""


class JobFailed(FlowliError):
    """The job whose result is awaited has failed. `error` is that of its last attempt, `attempts` their number."""

    def __init__(self, message: str, *, error: LastError | None = None, attempts: int = 0) -> None:
        super().__init__(message)
        self.error = error or LastError("", message)
        self.attempts = attempts


class JobCancelled(FlowliError):
    """The job whose result is awaited was cancelled."""


class OutboxUnavailable(FlowliError):
    """The database of an outbox failed. The same call may be repeated."""


class DriverError(FlowliError):
    """The store refused a call, or failed. `ids` are the ids of the records in the failed call.

    A failed call may have been stored. To repeat it safely, give it an id from the start, with `options(id=...)`: such
    an id is stored only once, until five minutes after its job has ended.
    """

    def __init__(self, message: str, *, ids: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.ids: tuple[str, ...] = tuple(ids)


class StoreUnavailable(DriverError):
    """The store is unreachable, full, or refuses calls for now. The same call may be repeated."""


class StoreDamaged(DriverError):
    """Stored data cannot be read. The message names it; `flowli doctor` lists all damage that it finds."""


class LeaseLost(DriverError):
    """The lease of a running job was lost, because its record was recovered, cancelled or removed."""
