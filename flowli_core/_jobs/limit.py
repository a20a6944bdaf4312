"""Limits: how many calls of a job run at once, how many start in a period, and which calls share these numbers."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Generic, Never, TypeAlias
from uuid import UUID

from typing_extensions import TypeVar

from flowli_core import _checks
from flowli_core.durations import duration
from flowli_core.errors import DefinitionError, ValidationError
from flowli_core.lanes import MOST_CONCURRENCY, MOST_LANE_BYTES, MOST_RATE, Lane, Rate

In_contra = TypeVar("In_contra", contravariant=True, default=Any)

LaneValue = str | int | UUID | Enum | None
"""The value that `by` returns. That of an enum is the value of its member. None: the call is not limited."""

_RATE = re.compile(r"([0-9]{1,9})/([0-9.]*)([a-z]+)", re.ASCII)
_LONGEST_PERIOD = timedelta(days=1)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit(Generic[In_contra]):
    """A limit on the calls of a job, over all workers: `@job(Crawl, limit=Limit(concurrency=2, rate="100/1m"))`.

    At most `concurrency` calls are active at once. A `rate` such as "100/1m" or "10/s", or a `Rate`, is the most calls
    that start in any period of that length, by the store's clock. It is a sliding window: so many may start at once,
    and the next one when the first of them began a period ago. Calls over the limit wait in the store and occupy no
    worker. Retries count as calls do. `run` in this process does not count.

    With `by=lambda input: input.domain`, each value has these numbers for itself, and the values of a queue take turns,
    however many calls of one of them wait. `Limit(by=...)` without numbers only takes turns. `by` is called with the
    validated input when a call is stored, and returns a str, an int, a UUID or an Enum of these; or None, if the call
    is not limited.

    Each job has a limit of its own, unless the limit has a `name`: jobs with the same name share it.

    A call is limited by the numbers of the last call that was stored with this limit. So after a deploy new numbers
    hold as soon as the first call is stored. Raises DefinitionError for an invalid limit.
    """

    concurrency: int | None = None
    rate: str | Rate | None = None
    by: Callable[[In_contra], LaneValue] | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.concurrency is None and self.rate is None and self.by is None:
            raise DefinitionError(
                'Limit() limits nothing: give concurrency=2, rate="100/1m", or by=lambda input: ... for fair turns'
            )
        if self.concurrency is not None:
            _checks.whole_number(self.concurrency, argument="concurrency", low=1, high=MOST_CONCURRENCY)
        if self.rate is not None:
            object.__setattr__(self, "rate", _to_rate(self.rate))
        _check_by(self.by)
        if self.name is not None:
            _checks.name(self.name, argument="name of a limit")

    def lane(self, job: str, input: In_contra) -> Lane | None:
        """Return the lane of a call of this job. Return None if it is not limited. Raises ValidationError."""
        value = "" if self.by is None else _lane_value(self.by, input, job)
        if value is None:
            return None
        rate = None if self.rate is None else _to_rate(self.rate)
        return Lane(self.name or job, value, self.concurrency, rate)


T = TypeVar("T")
LimitOf: TypeAlias = Limit[T] | Callable[[T], Never]
"""A limit for an input of this type."""


def _to_rate(given: object) -> Rate:
    """Return a rate that was given as text or as such. Its period is rounded up to whole milliseconds."""
    if isinstance(given, Rate):
        count, period = given.count, duration(given.period, argument="period of rate", longest=_LONGEST_PERIOD)
    else:
        found = _RATE.fullmatch(_checks.instance(given, str, argument="rate", cure=_RATE_CURE))
        if found is None:
            raise DefinitionError(f"rate is not a rate: {_checks.shown(given)}{_RATE_CURE}")
        count = int(found[1])
        period = duration((found[2] or "1") + found[3], argument="period of rate", longest=_LONGEST_PERIOD)
    _checks.whole_number(count, argument="count of rate", low=1, high=MOST_RATE)
    return Rate(count, -(-period // _MILLISECOND) * _MILLISECOND)


_RATE_CURE = '; write it as "100/1m", "10/s" or Rate(100, timedelta(minutes=1))'


def _check_by(by: object) -> None:
    if by is None:
        return
    if not callable(by):
        raise DefinitionError(f"by must be a function of the input, got {type(by).__name__}")
    if inspect.iscoroutinefunction(by) or inspect.iscoroutinefunction(type(by).__call__):
        raise DefinitionError("by must be a plain function, because it is called when a call is stored, not in a task")


def _lane_value(by: Callable[[In_contra], object], input: In_contra, job: str) -> str | None:
    try:
        found = by(input)
    except Exception as error:
        raise _checks.internal(
            ValidationError(f"{job}: the function `by` of its limit raised {type(error).__name__}")
        ) from error
    if found is None:
        return None
    try:
        text = _to_text(found.value if isinstance(found, Enum) else found)
        size = None if text is None else len(text.encode())
    except ValueError:  # a lone surrogate, or an int of more than 4,300 digits
        raise _by_error(job, "a value that is no valid text") from None
    if text is None or size is None:
        raise _checks.internal(_by_error(job, f"a value of {type(found).__name__}"))
    if size > MOST_LANE_BYTES:
        raise _by_error(job, f"{size} bytes")
    return text


def _to_text(value: object) -> str | None:
    match value:
        case str():
            return str.__str__(value)
        case int():
            return int.__repr__(value)
        case UUID():
            return str(value)
        case _:
            return None


def _by_error(job: str, got: str) -> ValidationError:
    return ValidationError(
        f"{job}: the function `by` of its limit must return a str, an int, a UUID or an Enum of these, of at most "
        f"{MOST_LANE_BYTES} bytes, or None; got {got}"
    )
