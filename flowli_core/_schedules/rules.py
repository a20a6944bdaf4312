"""What recurs: a cron expression in a time zone, or an interval."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from flowli_core._checks import aware, instance
from flowli_core._schedules import zones
from flowli_core._schedules.cron import walk
from flowli_core.durations import duration
from flowli_core.errors import SchedulingError

SHORTEST = timedelta(seconds=1)
_MS = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression: five fields, or one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually.

    Fields are numbers, names (mon, jan), ranges, lists and steps, as in a crontab; besides `L` as the day of the month
    is its last one, and `fri#2` as the day of the week the second Friday. Where the day of the month and the day of the
    week are both restricted either will do, unless one begins with a star. `_zones` has what happens when the clock is
    set. Raises SchedulingError for what cannot be, and for what does not fire within eight years.
    """

    expression: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        walk(_text(self.expression, argument="cron"))
        zones.zone(_text(self.timezone, argument="timezone"))

    def next_after(self, moment: datetime, *, base: datetime | None = None) -> datetime | None:
        """Answer the first tick after this moment, in UTC, or None where there is none before the year 10000."""
        del base
        walked, place, after = walk(self.expression), zones.zone(self.timezone), aware(moment, argument="moment")
        find = zones.next_fixed if walked.is_fixed else zones.next_in_real_time
        try:
            return find(walked, place, after)
        except OverflowError:
            return None


@dataclass(frozen=True, slots=True)
class Every:
    """Again and again after an interval of at least a second. Raises SchedulingError for what cannot be."""

    interval: timedelta

    def __post_init__(self) -> None:
        interval = duration(self.interval, argument="every", error=SchedulingError)
        if interval < SHORTEST or interval % _MS:
            raise SchedulingError("every must be at least 1s, and whole milliseconds; each tick is a stored job")
        object.__setattr__(self, "interval", interval)

    def next_after(self, moment: datetime, *, base: datetime | None = None) -> datetime | None:
        """Answer the first tick after this moment, in UTC: `base` is one, by default the moment itself."""
        after = aware(moment, argument="moment")
        first = after if base is None else aware(base, argument="base")
        try:
            return first if after < first else first + ((after - first) // self.interval + 1) * self.interval
        except OverflowError:
            return None


Rule: TypeAlias = Cron | Every


def rule_from(*, cron: object, every: object, timezone: object) -> Rule:
    """Read what a call gives: either `cron` or `every`. Raises SchedulingError."""
    if (cron is None) == (every is None):
        raise SchedulingError('a schedule is either cron="0 8 * * *" or every="15m"; give one of them')
    if every is None:
        return Cron(_text(cron, argument="cron"), _text(timezone, argument="timezone"))
    if timezone != "UTC":
        raise SchedulingError("timezone goes with cron; an interval is the same in all zones")
    return Every(duration(every, argument="every", error=SchedulingError))


def _text(value: object, *, argument: str) -> str:
    cure = '; leave it out for "UTC"' if argument == "timezone" else ""
    return instance(value, str, argument=argument, cure=cure, error=SchedulingError)
