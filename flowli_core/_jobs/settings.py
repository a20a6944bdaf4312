"""The settings of a job: those of its declaration, and the registry's defaults for what it leaves out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flowli_core import _checks
from flowli_core._jobs.definition import Definition
from flowli_core._wire.policy import Policy, pack_policy
from flowli_core.durations import Duration, duration
from flowli_core.limits import Keep
from flowli_core.retry import Retry
from flowli_core.stored import FINISHED

MOST_RECOVERIES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """The settings of every job of a registry that sets none itself. Raises DefinitionError for an invalid one.

    A finished record is removed when it is older than `keep_completed` or `keep_failed` (which also holds for cancelled
    ones), or when there are more of its state than `keep` allows. A record that has lost more than `max_recoveries`
    workers fails. Before the last of these losses it runs alone in its worker; with 0, every record does.
    """

    retry: Retry = Retry()  # noqa: RUF009 - frozen, so safe to share
    timeout: Duration | None = None
    queue: str = "default"
    keep_completed: Duration = "1h"
    keep_failed: Duration = "14d"
    keep: Keep = Keep()  # noqa: RUF009 - frozen, so safe to share
    max_recoveries: int = 3

    def __post_init__(self) -> None:
        _checks.instance(self.retry, Retry, argument="retry")
        _checks.name(self.queue, argument="queue")
        if self.timeout is not None:
            object.__setattr__(self, "timeout", duration(self.timeout, argument="timeout"))
        for argument in ("keep_completed", "keep_failed"):
            object.__setattr__(self, argument, duration(getattr(self, argument), argument=argument, zero=True))
        _checks.whole_number(self.max_recoveries, argument="max_recoveries", low=0, high=MOST_RECOVERIES)
        for state in FINISHED:  # a `keep` of another type has no such attributes, and None is refused
            _checks.whole_number(getattr(self.keep, state, None), argument=f"keep.{state}", low=0, high=10**9)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """The settings that every record of one job is made with, unless its call has options of its own."""

    retry: Retry
    timeout: timedelta | None
    expires: timedelta | None
    queue: str
    keep_completed: timedelta
    keep_failed: timedelta
    max_recoveries: int
    policy: bytes


def settings_of(jobs: Mapping[str, Definition], defaults: Defaults) -> Mapping[str, JobSettings]:
    """Return the settings of each job by its name."""
    return {name: _settings(definition, defaults) for name, definition in jobs.items()}


def _settings(definition: Definition, defaults: Defaults) -> JobSettings:
    retry = definition.retry or defaults.retry
    timeout = _parsed(definition.timeout, defaults.timeout)
    return JobSettings(
        retry=retry,
        timeout=timeout,
        expires=definition.expires,
        queue=definition.queue or defaults.queue,
        keep_completed=_parsed(definition.keep_completed, defaults.keep_completed),
        keep_failed=_parsed(definition.keep_failed, defaults.keep_failed),
        max_recoveries=defaults.max_recoveries,
        policy=pack_policy(Policy(max_attempts=retry.max_attempts, backoff=retry.backoff, timeout=timeout)),
    )


def _parsed(own: timedelta | None, default: object) -> Any:
    """Return the job's own duration, or the default, which `Defaults` has parsed."""
    return default if own is None else own
