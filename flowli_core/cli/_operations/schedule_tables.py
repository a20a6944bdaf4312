"""Schedules as tables."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo

from flowli_core._jobs.records import ScheduleRecord
from flowli_core.cli._common.show import format_moment, format_table
from flowli_core.durations import format_duration


def format_schedules(schedules: Iterable[ScheduleRecord], now: datetime) -> str:
    """Format schedules as a table, one a row."""
    rows = [[one.key, one.name, one.queue, _format_rule(one), _format_next(one, now)] for one in schedules]
    return format_table(["schedule", "job", "queue", "recurs", "next"], rows)


def format_runs(schedule: ScheduleRecord, runs: Iterable[datetime], now: datetime) -> str:
    """Format the times of runs as a table: in UTC, in the schedule's own time zone, and from now."""
    zone = ZoneInfo(schedule.timezone)
    rows = [[run, run.astimezone(zone).isoformat(sep=" "), format_moment(run, now)] for run in runs]
    return format_table(["utc", "local", "from now"], rows)


def _format_rule(one: ScheduleRecord) -> str:
    if one.cron is not None:
        return f"{one.cron} {one.timezone}"
    return "" if one.every is None else f"every {format_duration(one.every)}"


def _format_next(one: ScheduleRecord, now: datetime) -> str:
    if one.paused:
        return "paused"
    if not one.readable:
        return "unreadable"
    return "ended" if one.next_tick is None else format_moment(one.next_tick, now)
