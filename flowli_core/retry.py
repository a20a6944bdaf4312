"""Retries: backoffs and policies as values, and the decision after a failed attempt as a pure function."""

import sys
from asyncio import CancelledError
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

from flowli_core._checks import instance, shown, whole_number
from flowli_core.durations import LONGEST, Duration, duration, format_duration
from flowli_core.errors import DefinitionError

Random = Callable[[], float]
"""A function that returns a number in [0, 1), such as `random.random`."""

MOST_ATTEMPTS = 1_000_000

Jitter = bool | tuple[float, float]
"""True shortens a delay at random to 0.5 to 1 times its length. A pair sets other ratios."""

_DEFAULT_JITTER = (0.5, 1.0)

_LARGEST = sys.float_info.max


class Abort(Exception):
    """Raised by a handler to fail the job now, however many attempts are left. It may be within an ExceptionGroup."""


class RetryAfter(Exception):
    """Raised by a handler to retry the job after `delay`, whatever its retry policy is.

    The attempt counts, but the retry is made even after the last one. A handler that might raise this for ever must
    check `current_job().attempt`. If an ExceptionGroup holds several, the longest delay counts. Raises DefinitionError
    if the delay is not a duration.
    """

    def __init__(self, delay: Duration, reason: str = "") -> None:
        self.delay: timedelta = duration(delay, argument="delay", zero=True)
        super().__init__(reason or f"the handler asked for a retry after {format_duration(self.delay)}")


class JobTimeout(TimeoutError):
    """The error of an attempt whose handler ran for longer than its `timeout`. `retry_on` may name it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """A backoff with the same delay before each retry."""

    delay: timedelta
    jitter: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_delay(self.delay, "delay", zero=True)
        _check_jitter(self.jitter)

    def after(self, failures: int, random: Random) -> timedelta:
        """Return the delay before the next attempt, after this number of failed attempts."""
        del failures
        return _with_jitter(self.delay, self.jitter, random)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential:
    """A backoff whose delays grow from `first` by `factor`, up to `max_delay`."""

    first: timedelta
    max_delay: timedelta = LONGEST
    factor: float = 2.0
    jitter: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_delay(self.first, "first")
        _check_delay(self.max_delay, "max_delay")
        if _number(self.factor, "factor") < 1:
            raise DefinitionError(f"factor must be at least 1, got {shown(self.factor)}")
        if self.max_delay < self.first:
            raise DefinitionError(
                f"max_delay must not be shorter than the first delay, got "
                f"{format_duration(self.max_delay)} and {format_duration(self.first)}"
            )
        _check_jitter(self.jitter)

    def after(self, failures: int, random: Random) -> timedelta:
        """Return the delay before the next attempt, after this number of failed attempts."""
        try:
            grown = self.first * float(self.factor) ** (failures - 1)
        except OverflowError:
            grown = self.max_delay
        return _with_jitter(min(grown, self.max_delay), self.jitter, random)


Backoff = Fixed | Exponential


def fixed(delay: Duration, *, jitter: Jitter = False) -> Fixed:
    """Make a backoff that waits equally long before each retry. Raises DefinitionError."""
    return Fixed(delay=duration(delay, argument="delay", zero=True), jitter=_ratios(jitter))


def exponential(
    first: Duration, *, max_delay: Duration | None = None, factor: float = 2.0, jitter: Jitter = False
) -> Exponential:
    """Make a backoff that waits for `first`, then each time `factor` times as long, but at most `max_delay`.

    Raises DefinitionError.
    """
    return Exponential(
        first=duration(first, argument="first"),
        max_delay=LONGEST if max_delay is None else duration(max_delay, argument="max_delay"),
        factor=_number(factor, "factor"),
        jitter=_ratios(jitter),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """The retry policy of a job: how many attempts, after which errors, and how long apart.

    By default the delays grow from 1 s to 10 min, with jitter. With `retry_on`, only these exceptions are retried.
    Those of `give_up_on` never are. An ExceptionGroup is retried if all errors within it are of `retry_on` and none of
    `give_up_on`. Both belong to the job's definition: `options(retry=...)` of a call changes only `max_attempts` and
    `backoff`.
    """

    max_attempts: int = 1
    backoff: Backoff = field(default_factory=lambda: exponential("1s", max_delay="10m", jitter=True))
    retry_on: tuple[type[BaseException], ...] | None = None
    give_up_on: tuple[type[BaseException], ...] = ()

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
    """Return how long to wait for the next attempt, or None if the job has failed for good.

    `attempt` is the number of the failed attempt, counted from 1, and again from 1 after a requeue. `failures` counts
    all failed attempts including this one, also those before a requeue. `max_attempts` and `backoff` were stored when
    the job was enqueued. Of `rules`, the retry policy of its definition, only retry_on and give_up_on are used.
    """
    leaves = leaf_errors(error)
    if any(isinstance(leaf, Abort) for leaf in leaves):
        return None
    asked = [leaf.delay for leaf in leaves if isinstance(leaf, RetryAfter)]
    if asked:
        return max(asked)
    if any(isinstance(member, rules.give_up_on) for member in (error, *leaves)):
        return None
    if rules.retry_on is not None and not isinstance(error, rules.retry_on):
        others = [leaf for leaf in leaves if not isinstance(leaf, rules.retry_on)]
        if others:
            return None
    return backoff.after(failures, random) if attempt < max_attempts else None


def leaf_errors(error: BaseException) -> list[BaseException]:
    """Return the errors within a group and the groups in it, or the error itself if it is no group.

    An error in a group cancels the tasks beside it, so a CancelledError is left out if there is another error.
    """
    leaves: list[BaseException] = []
    rest = [error]
    while rest:
        member = rest.pop()
        if isinstance(member, BaseExceptionGroup):
            rest += reversed(cast("BaseExceptionGroup[BaseException]", member).exceptions)
        else:
            leaves.append(member)
    return [leaf for leaf in leaves if not isinstance(leaf, CancelledError)] or leaves


def _with_jitter(delay: timedelta, jitter: tuple[float, float] | None, random: Random) -> timedelta:
    if jitter is None:
        return delay
    low, high = jitter
    return delay * (low + (high - low) * random())


def _ratios(jitter: object) -> tuple[float, float] | None:
    if isinstance(jitter, bool):
        return _DEFAULT_JITTER if jitter else None
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
    given = jitter  # keeps the type object
    pair = cast("tuple[object, ...]", jitter if isinstance(jitter, tuple) else ())
    if len(pair) != 2 or not 0 <= _number(pair[0], "jitter") <= _number(pair[1], "jitter") <= 1:  # noqa: PLR2004 - a pair
        raise DefinitionError(f"jitter must be two ratios between 0 and 1, the lower first, got {shown(given)}")


def _number(value: object, argument: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LARGEST <= value <= _LARGEST:
        raise DefinitionError(f"{argument} must be a finite number, got {shown(value)}")
    return value


def _check_backoff(backoff: object) -> None:
    if not isinstance(backoff, Fixed | Exponential):
        raise DefinitionError(f"backoff must be made by fixed(...) or exponential(...), got {type(backoff).__name__}")


def _check_exceptions(given: object, argument: str) -> None:
    members = cast("tuple[object, ...]", given) if isinstance(given, tuple) else (None,)
    if not all(isinstance(member, type) and issubclass(member, BaseException) for member in members):
        raise DefinitionError(f"{argument} must be a tuple of exception classes, such as {argument}=(ConnectionError,)")
