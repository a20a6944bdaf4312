"""How recurring definitions are shown."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from flowli_core._jobs.records import ScheduleRecord
from flowli_core.cli._common.show import table, when
from flowli_core.durations import format_duration


def schedule_rows(schedules: Iterable[ScheduleRecord], now: datetime) -> str:
    """A table of them."""
    return table(["schedule", "job", "queue", "recurs", "next"], [_row(one, now) for one in schedules])


def foreseen(schedule: ScheduleRecord, ticks: Iterable[datetime], now: datetime) -> str:
    """A table of ticks: in UTC, in the schedule's own time zone, and how far away."""
    place = ZoneInfo(schedule.timezone)
    rows = [[tick, tick.astimezone(place).isoformat(sep=" "), when(tick, now)] for tick in ticks]
    return table(["utc", "local", "from now"], rows)


def pairs(schedule: ScheduleRecord) -> list[tuple[str, object]]:
    """All of one, name by name, without what it has not."""
    shown: list[tuple[str, object]] = []
    for name in ScheduleRecord.__slots__:
        value = getattr(schedule, name)
        if value is not None:
            shown.append((name, format_duration(value) if isinstance(value, timedelta) else value))
    return shown


def _row(one: ScheduleRecord, now: datetime) -> list[object]:
    return [one.key, one.name, one.queue, _rule(one), _next(one, now)]


def _rule(one: ScheduleRecord) -> str:
    if one.cron is not None:
        return f"{one.cron} {one.timezone}"
    return "" if one.every is None else f"every {format_duration(one.every)}"


def _next(one: ScheduleRecord, now: datetime) -> str:
    if one.paused:
        return "paused"
    if not one.readable:
        return "unreadable"
    return "ended" if one.next_tick is None else when(one.next_tick, now)
