"""A rule between its start and its end, and which of its ticks are to be made up for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from flowli_core._checks import aware, one_of, whole_number
from flowli_core._schedules.rules import Every, Rule
from flowli_core.errors import SchedulingError

MOST_MISSED = 1_000

ON_TIME = timedelta(minutes=1)
"""A tick that is noticed within this is not missed: a busy store or a restarted worker is no miss."""

_FIRST_WINDOW = timedelta(hours=1)
_MS = timedelta(milliseconds=1)
_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class AllMissed:
    """Make up for each missed tick, but for no more than the `limit` latest. Raises SchedulingError over 1,000."""

    limit: int = 100

    def __post_init__(self) -> None:
        whole_number(self.limit, argument="limit", low=1, high=MOST_MISSED, error=SchedulingError)


Missed: TypeAlias = Literal["skip", "once", "all"] | AllMissed
"""What becomes of ticks that no runner was there for: nothing, one job for all of them, or one for each."""

Overlap: TypeAlias = Literal["allow", "skip"]
"""Whether a tick makes a job while the one of an earlier tick is not finished."""


_MISSED: tuple[Literal["skip", "once", "all"], ...] = ("skip", "once", "all")
_OVERLAP: tuple[Overlap, ...] = ("allow", "skip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """A rule, and the first and the last moment of its ticks. Raises SchedulingError where there can be none."""

    rule: Rule
    start: datetime | None = None
    end: datetime | None = None

    def __post_init__(self) -> None:
        for argument in ("start", "end"):
            given = getattr(self, argument)
            if given is not None:
                moment = aware(given, argument=argument)
                object.__setattr__(self, argument, moment - timedelta(microseconds=moment.microsecond % 1000))
        if self.start is not None and self.end is not None and self.next_after(_EARLIEST) is None:
            raise SchedulingError("there is no tick between start and end")

    def next_after(self, moment: datetime, *, base: datetime | None = None) -> datetime | None:
        """Answer the first tick after this moment; `base` is one of an interval's ticks, where there has been any."""
        if self.start is not None:
            if base is None and isinstance(self.rule, Every):
                base = self.start
            if moment < self.start:
                moment = self.start - _MS
        found = self.rule.next_after(moment, base=base)
        return None if found is None or (self.end is not None and found > self.end) else found

    def latest(self, count: int, *, since: datetime, until: datetime) -> list[datetime]:
        """Answer the latest ticks from `since`, which is one, until `until`: at the most `count`, in order."""
        if isinstance(self.rule, Every):
            interval = self.rule.interval
            number = (min(until, self.end or until) - since) // interval
            return [since + index * interval for index in range(max(number - count + 1, 0), number + 1)]
        window = _FIRST_WINDOW
        while True:
            ticks = self._ticks(max(until - window, since), until)
            if until - window <= since:
                return [since, *ticks][-count:]
            if len(ticks) >= count:
                return ticks[-count:]
            window *= 2

    def _ticks(self, after: datetime, until: datetime) -> list[datetime]:
        ticks: list[datetime] = []
        while (tick := self.next_after(ticks[-1] if ticks else after)) is not None and tick <= until:
            ticks.append(tick)
        return ticks


def due_ticks(timing: Timing, tick: datetime, now: datetime, missed: Missed) -> tuple[list[datetime], datetime | None]:
    """Decide what a tick that is due comes to: which ticks are to have a job, and when the next one is."""
    limit = missed.limit if isinstance(missed, AllMissed) else AllMissed().limit if missed == "all" else 1
    fired = timing.latest(limit, since=tick, until=now)
    if missed == "skip":
        fired = [one for one in fired if now - one <= ON_TIME]
    return fired, timing.next_after(now, base=tick)


def check_missed(missed: object) -> Missed:
    """Accept a policy. Raises SchedulingError."""
    if isinstance(missed, AllMissed):
        return missed
    return one_of(missed, _MISSED, argument="missed", other="AllMissed(limit=...)", error=SchedulingError)


def check_overlap(overlap: object) -> Overlap:
    """Accept a policy. Raises SchedulingError."""
    return one_of(overlap, _OVERLAP, argument="overlap", error=SchedulingError)
