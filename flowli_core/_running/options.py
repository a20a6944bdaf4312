"""The checked options of a runner."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from flowli_core._running.hooks import Hooks, Observer

DRAIN = timedelta(seconds=10)
"""The time that running jobs have to end after a stop was requested, unless the caller says otherwise."""

TRIES_ONCE = 3
"""The number of times that a run which goes through the due jobs once calls a store that fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOptions:
    """The options of a runner, checked: see `Runner`."""

    concurrency: int
    queues: tuple[str, ...]
    lease: timedelta
    hooks: Hooks
    cancel_grace: timedelta
    stall_limit: timedelta
    on_stall: Callable[[], None] | None = None
    observers: tuple[Observer, ...] = ()
    remove_vanished_schedules: bool = False
    weights: Mapping[str, int] | None = None
