"""The rules of a schedule: a cron expression in a time zone, or an interval. Each time at which one fires is a tick."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from flowli_core._checks import aware, instance, internal
from flowli_core._schedules import zones
from flowli_core._schedules.cron import parse
from flowli_core.durations import duration
from flowli_core.errors import SchedulingError

SHORTEST = timedelta(seconds=1)
_MS = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression: five fields, or one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually.

    A field has numbers, names (mon, jan), ranges, lists and steps, as in a crontab. The day of the month may also be
    `L`, the last day, and the day of the week `fri#2`, the second Friday. If neither day begins with a star, a date
    that matches one of them is enough. The module `zones` says what happens on nights when the clock is set.

    Raises SchedulingError for an invalid expression, and for one that does not fire within eight years.
    """

    expression: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        parse(instance(self.expression, str, argument="cron", error=SchedulingError))
        cure = '; leave it out for "UTC"'
        zones.find_zone(instance(self.timezone, str, argument="timezone", cure=cure, error=SchedulingError))

    def next_after(self, moment: datetime, *, base: datetime | None = None) -> datetime | None:
        """Return the first tick after this moment, in UTC, or None if there is none before the year 10000."""
        del base
        times = parse(self.expression)
        find = zones.next_fixed if times.is_fixed else zones.next_elapsed
        try:
            return find(times, zones.find_zone(self.timezone), aware(moment, argument="moment"))
        except OverflowError:
            return None


@dataclass(frozen=True, slots=True)
class Every:
    """An interval of at least a second between ticks. Raises SchedulingError if it is invalid."""

    interval: timedelta

    def __post_init__(self) -> None:
        interval = duration(self.interval, argument="every", error=SchedulingError)
        if interval < SHORTEST or interval % _MS:
            raise SchedulingError("every must be at least 1s, and whole milliseconds; each tick stores a job")
        object.__setattr__(self, "interval", interval)

    def next_after(self, moment: datetime, *, base: datetime | None = None) -> datetime | None:
        """Return the first tick after this moment, in UTC. `base` is one of the ticks, by default the moment itself."""
        after = aware(moment, argument="moment")
        first = after if base is None else aware(base, argument="base")
        try:
            return first if after < first else first + ((after - first) // self.interval + 1) * self.interval
        except OverflowError:
            return None


Rule: TypeAlias = Cron | Every


def make_rule(*, cron: Any, every: Any, timezone: Any) -> Rule:
    """Make the rule of a call, which gives either `cron` or `every`. Raises SchedulingError."""
    if (cron is None) == (every is None):
        raise internal(SchedulingError('a schedule is either cron="0 8 * * *" or every="15m"; give one of them'))
    if every is None:
        return Cron(cron, timezone)
    if timezone != "UTC":
        raise internal(SchedulingError("timezone goes with cron; an interval is the same in all zones"))
    return Every(every)
