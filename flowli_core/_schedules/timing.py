"""A rule between its start and its end, and the choice of the missed ticks that still fire."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from flowli_core._checks import aware, one_of, whole_number
from flowli_core._schedules.rules import Every, Rule
from flowli_core.errors import SchedulingError

MOST_MISSED = 1_000

ON_TIME = timedelta(minutes=1)
"""A tick that is this late is not missed, so that a busy store or the restart of a worker skips none."""

_FIRST_WINDOW = timedelta(hours=1)
_MS = timedelta(milliseconds=1)
_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class AllMissed:
    """Fire each missed tick, but at most the `limit` latest ones. Raises SchedulingError over 1,000."""

    limit: int = 100

    def __post_init__(self) -> None:
        whole_number(self.limit, argument="limit", low=1, high=MOST_MISSED, error=SchedulingError)


Missed: TypeAlias = Literal["skip", "once", "all"] | AllMissed
"""The handling of ticks that came due while no worker was running: skip them, run once for all, or once for each."""

Overlap: TypeAlias = Literal["allow", "skip"]
"""The effect of a tick while an earlier tick's job is unfinished: "allow" stores another job, "skip" stores none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """A rule with the first and the last moment of its ticks. Raises SchedulingError if there is none between."""

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
        """Return the first tick after this moment. `base` is an earlier tick, from which an interval counts."""
        if self.start is not None:
            if base is None and isinstance(self.rule, Every):
                base = self.start
            if moment < self.start:
                moment = self.start - _MS
        found = self.rule.next_after(moment, base=base)
        return None if found is None or (self.end is not None and found > self.end) else found

    def latest(self, count: int, *, since: datetime, until: datetime) -> list[datetime]:
        """Return the latest ticks from `since`, itself a tick, to `until`: at most `count`, in order."""
        if isinstance(self.rule, Every):
            interval = self.rule.interval
            number = (min(until, self.end or until) - since) // interval
            return [since + index * interval for index in range(max(number - count + 1, 0), number + 1)]
        window = _FIRST_WINDOW
        while True:
            ticks = self._ticks(max(until - window, since), until)
            if until - window <= since:
                return [since, *ticks][-count:]  # `_ticks` leaves out the tick at its start
            if len(ticks) >= count:
                return ticks[-count:]
            window *= 2

    def _ticks(self, after: datetime, until: datetime) -> list[datetime]:
        ticks: list[datetime] = []
        while (tick := self.next_after(ticks[-1] if ticks else after)) is not None and tick <= until:
            ticks.append(tick)
        return ticks


def due_ticks(timing: Timing, tick: datetime, now: datetime, missed: Missed) -> tuple[list[datetime], datetime | None]:
    """Return the ticks to fire now that `tick` is due, and the next tick."""
    limit = missed.limit if isinstance(missed, AllMissed) else AllMissed().limit if missed == "all" else 1
    fired = timing.latest(limit, since=tick, until=now)
    if missed == "skip":
        fired = [late for late in fired if now - late <= ON_TIME]
    return fired, timing.next_after(now, base=tick)


def check_missed(missed: object) -> Missed:
    """Accept a policy for missed ticks. Raises SchedulingError."""
    if isinstance(missed, AllMissed):
        return missed
    policies: tuple[Literal["skip", "once", "all"], ...] = ("skip", "once", "all")
    return one_of(missed, policies, argument="missed", other="AllMissed(limit=...)", error=SchedulingError)


def check_overlap(overlap: object) -> Overlap:
    """Accept a policy for overlapping jobs. Raises SchedulingError."""
    policies: tuple[Overlap, ...] = ("allow", "skip")
    return one_of(overlap, policies, argument="overlap", error=SchedulingError)
