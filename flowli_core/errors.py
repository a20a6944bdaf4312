"""Every error that Flowli raises on its own account.

FlowliError
├── DefinitionError      a job, a registry or an option is declared wrongly; most are raised at import
├── ValidationError      an input, a meta, an id, a key or a page limit is not what it must be
├── StrategyError        this runtime cannot do that: no driver, closed, already running
├── SchedulingError      a time, a duration or a recurring definition makes no sense
└── DriverError          the store refused or failed
    ├── StoreUnavailable     it cannot be reached just now; the same call may be repeated
    └── LeaseLost            the lease under which a job ran has gone to somebody else

`Abort` and `RetryAfter` are no errors of ours but words that a handler says to its runner; `JobTimeout` is what a
record shows when a handler ran for longer than its `timeout`.

A message names the argument, the limit and the cure. It never holds a payload or a password.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class FlowliError(Exception):
    """The root of the tree."""


class DefinitionError(FlowliError):
    """A job, a registry or an option is declared wrongly."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing wrong with a payload: where it is, and what was expected there. Never the value itself."""

    path: str
    problem: str

    def __str__(self) -> str:
        """`path: problem`, or the problem alone where it concerns the whole."""
        return f"{self.path}: {self.problem}" if self.path else self.problem


class ValidationError(FlowliError):
    """A value that a caller gave is not what it must be; `issues` lists each place."""

    def __init__(self, message: str, issues: Sequence[Issue] = ()) -> None:
        super().__init__(message)
        self.issues = tuple(issues)


class StrategyError(FlowliError):
    """This runtime cannot do what was asked of it: it has no driver, is closed, or runs already."""


class SchedulingError(FlowliError):
    """A time, a duration or a recurring definition makes no sense."""


class DriverError(FlowliError):
    """The store refused or failed. `ids` are the records that the failed call was about, where it was about records.

    Enqueueing is idempotent by id, so after a doubtful failure the same job may be sent again with `options(id=...)`.
    """

    def __init__(self, message: str, *, ids: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.ids = tuple(ids)


class StoreUnavailable(DriverError):
    """The store cannot be reached just now; the same call may be repeated."""


class LeaseLost(DriverError):
    """The lease under which a job ran has gone: its record was recovered, cancelled or removed."""
