"""When a failed attempt is made again: policies as values, and the decision as a pure function."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

from flowli_core._checks import instance, whole_number
from flowli_core.durations import LONGEST, Duration, duration
from flowli_core.errors import DefinitionError

Random = Callable[[], float]
"""Gives a number in [0, 1), as `random.random` does."""

MOST_ATTEMPTS = 1_000_000

Jitter = bool | tuple[float, float]
"""True spreads a delay over 0.5 to 1 times its length; a pair gives other ratios."""

_SPREAD = (0.5, 1.0)


class Abort(Exception):
    """Raised by a handler: fail for good, whatever the policy says."""


class RetryAfter(Exception):
    """Raised by a handler: try again after this long, whatever the policy says.

    It counts as an attempt, yet is not refused for lack of one: a handler that might say it for ever looks at
    `current_job().attempt`. Raises DefinitionError where the delay is no duration.
    """

    def __init__(self, delay: Duration, reason: str = "") -> None:
        self.delay = duration(delay, argument="delay", zero=True)
        super().__init__(reason or f"asked for another attempt after {self.delay}")


class JobTimeout(TimeoutError):
    """What a record shows, and the policy sees, where a handler ran for longer than its `timeout`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """The same delay before each attempt."""

    delay: timedelta
    jitter: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_delay(self.delay, "delay", zero=True)
        _check_jitter(self.jitter)

    def after(self, failures: int, random: Random) -> timedelta:
        """How long to wait after so many failed attempts in a row."""
        del failures
        return _spread(self.delay, self.jitter, random)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential:
    """Delays that grow from `first` by `factor`, up to `max_delay`."""

    first: timedelta
    max_delay: timedelta = LONGEST
    factor: float = 2.0
    jitter: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_delay(self.first, "first")
        _check_delay(self.max_delay, "max_delay")
        if _number(self.factor, "factor") < 1:
            raise DefinitionError(f"factor must be at least 1, got {self.factor!r}")
        if self.max_delay < self.first:
            raise DefinitionError(
                f"max_delay must not be shorter than the first delay, got {self.max_delay!r} and {self.first!r}"
            )
        _check_jitter(self.jitter)

    def after(self, failures: int, random: Random) -> timedelta:
        """How long to wait after so many failed attempts in a row."""
        try:
            grown = self.first * float(self.factor) ** (failures - 1)
        except OverflowError:
            grown = self.max_delay
        return _spread(min(grown, self.max_delay), self.jitter, random)


Backoff = Fixed | Exponential


def fixed(delay: Duration, *, jitter: Jitter = False) -> Fixed:
    """Wait equally long before each attempt. Raises DefinitionError for what is no duration or jitter."""
    return Fixed(delay=duration(delay, argument="delay", zero=True), jitter=_ratios(jitter))


def exponential(
    first: Duration, *, max_delay: Duration | None = None, factor: float = 2.0, jitter: Jitter = False
) -> Exponential:
    """Wait for `first`, then each time `factor` times as long, at most `max_delay`. Raises DefinitionError."""
    return Exponential(
        first=duration(first, argument="first"),
        max_delay=LONGEST if max_delay is None else duration(max_delay, argument="max_delay"),
        factor=_number(factor, "factor"),
        jitter=_ratios(jitter),
    )


def _default_backoff() -> Backoff:
    return exponential("1s", max_delay="10m", jitter=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a job is attempted, and after which errors. Unless given, delays grow from 1 s to 10 min, with jitter.

    With `retry_on`, only these exceptions lead to another attempt; those of `give_up_on` never do. Both belong to the
    job's definition: a call's own `options(retry=...)` changes `max_attempts` and `backoff` alone.
    """

    max_attempts: int = 1
    backoff: Backoff = field(default_factory=_default_backoff)
    retry_on: tuple[type[BaseException], ...] | None = None
    give_up_on: tuple[type[BaseException], ...] = field(default=())

    def __post_init__(self) -> None:
        whole_number(self.max_attempts, argument="max_attempts", low=1, high=MOST_ATTEMPTS)
        _check_backoff(self.backoff)
        _check_exceptions(() if self.retry_on is None else self.retry_on, "retry_on")
        _check_exceptions(self.give_up_on, "give_up_on")


def next_delay(
    error: BaseException,
    *,
    attempt: int,
    failures: int,
    rules: Retry,
    max_attempts: int,
    backoff: Backoff,
    random: Random,
) -> timedelta | None:
    """Decide what follows a failed attempt: how long until the next one, or None where there is none.

    `attempt` counts from 1 and `failures` includes this one; `max_attempts` and `backoff` are the record's, the rules
    about exceptions the definition's.
    """
    if isinstance(error, Abort):
        return None
    if isinstance(error, RetryAfter):
        return error.delay
    if isinstance(error, rules.give_up_on) or (rules.retry_on is not None and not isinstance(error, rules.retry_on)):
        return None
    return backoff.after(failures, random) if attempt < max_attempts else None


def _spread(delay: timedelta, jitter: tuple[float, float] | None, random: Random) -> timedelta:
    if jitter is None:
        return delay
    low, high = jitter
    return delay * (low + (high - low) * random())


def _ratios(jitter: object) -> tuple[float, float] | None:
    if isinstance(jitter, bool):
        return _SPREAD if jitter else None
    if not isinstance(jitter, tuple):
        raise DefinitionError(
            f"jitter must be True, False or a pair of ratios such as (0.5, 1.0), got {type(jitter).__name__}"
        )
    _check_jitter(cast("Any", jitter))
    low, high = cast("tuple[float, float]", jitter)
    return (float(low), float(high))


def _check_delay(delay: object, argument: str, *, zero: bool = False) -> None:
    cure = "; fixed() and exponential() take durations"
    duration(instance(delay, timedelta, argument=argument, cure=cure), argument=argument, zero=zero)


def _check_jitter(jitter: object) -> None:
    if jitter is None:
        return
    pair = cast("tuple[object, ...]", jitter if isinstance(jitter, tuple) else ())
    if len(pair) != 2 or not 0 <= _number(pair[0], "jitter") <= _number(pair[1], "jitter") <= 1:  # noqa: PLR2004 - a pair
        raise DefinitionError(f"jitter must be two ratios between 0 and 1, the lower first, got {jitter!r}")


def _number(value: object, argument: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DefinitionError(f"{argument} must be a finite number, got {value!r}")
    return value


def _check_backoff(backoff: object) -> None:
    if not isinstance(backoff, Fixed | Exponential):
        raise DefinitionError(f"backoff must be made by fixed(...) or exponential(...), got {type(backoff).__name__}")


def _check_exceptions(given: object, argument: str) -> None:
    members = cast("tuple[object, ...]", given) if isinstance(given, tuple) else (None,)
    if not all(isinstance(member, type) and issubclass(member, BaseException) for member in members):
        raise DefinitionError(f"{argument} must be a tuple of exception classes, such as {argument}=(ConnectionError,)")
