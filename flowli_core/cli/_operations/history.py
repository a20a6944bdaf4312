"""`flowli history`: how many jobs were enqueued and how they ended, over time and by job."""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import timedelta
from math import ceil
from operator import attrgetter
from typing import Any

import click

from flowli_core._jobs.history import Durations, History, HistoryNumbers
from flowli_core._jobs.registry import Jobs
from flowli_core.cli._common.operation import complete_job_name, operation
from flowli_core.cli._common.options import DurationType, json_option
from flowli_core.cli._common.show import format_json, format_table, is_terminal, styled
from flowli_core.durations import ZERO, format_duration, format_span
from flowli_core.history import OTHERS

_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.:-=+*#"
_SIDES = 40
"""The columns of a terminal that are left for the name of a sparkline and its numbers."""
_NARROWEST = 10

_COUNTS = ("enqueued", "completed", "failed")
_OTHER_COUNTS = ("retried", "cancelled", "recovered")
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_MOST_WITH_TENTHS = 10
_SECOND, _MS = timedelta(seconds=1), timedelta(milliseconds=1)


@click.command()
@click.option("--last", type=DurationType(), default="1h", help="How far to look back, up to 7d.", show_default=True)
@click.option("--job", help="Only jobs with this name.", shell_complete=complete_job_name)
@click.option("--queue", help="Only jobs in this queue.")
@json_option
@operation
async def history(jobs: Jobs[Any], *, last: timedelta, job: str | None, queue: str | None, is_json: bool) -> None:
    """Show how many jobs were enqueued and how they ended, over time and by job.

    The store counts the jobs of all workers, by minute for three hours and by hour for seven days. A job waits from
    when it is due until its handler starts, and runs until its outcome is stored. The p95 of both is the time that 95
    of 100 attempts did not exceed, estimated within a factor of two. In a pipe, each minute or hour is a line.
    """
    found = await jobs.inspect.history(last, job=job, queue=queue)
    if not is_json:
        click.echo(format_history(found, last))
        return
    points, by_job = map(to_json, found.points), map(to_json, found.by_job)
    sums = {"total": to_json(found.total), "points": list(points), "by_job": list(by_job)}
    click.echo(format_json({"now": found.now, "resolution": found.resolution, **sums}))


def format_history(history: History, last: timedelta) -> str:
    """Format a history: on a terminal as sparklines, in a pipe line by line. Then its sums by job."""
    names = _names()
    if is_terminal():
        head = _draw(history, last)
    else:
        head = format_table(["start", *names], [[point.start, *_cells(point)] for point in history.points])
    rows = [[job.job if job.job != OTHERS else "(others)", job.queue, *_cells(job)] for job in history.by_job]
    return f"{head}\n\n{format_table(['job', 'queue', *names], rows, right=names)}"


def format_numbers(numbers: HistoryNumbers) -> str:
    """Format the most important numbers in one line."""
    p95 = numbers.waits.quantile(0.95)
    wait = "" if p95 is None else f", p95 wait {_format_estimate(p95)}"
    return f"{numbers.completed:,} completed, {numbers.failed:,} failed{wait}"


def to_json(numbers: HistoryNumbers) -> dict[str, object]:
    """Return the numbers for JSON, with quantiles in place of the histograms."""
    values = {field.name: getattr(numbers, field.name) for field in fields(numbers)}
    for name in ("waits", "runs"):
        durations: Durations = values[name]
        quantiles = {label: durations.quantile(q) for label, q in _QUANTILES.items()}
        values[name] = {"count": durations.count, **quantiles}
    return values


def _names() -> list[str]:
    """Return the headers of a table of numbers."""
    p95 = ("wait p95", "run p95") if is_terminal() else ("wait_p95_ms", "run_p95_ms")
    return [*_COUNTS, *p95, *_OTHER_COUNTS]


def _cells(numbers: HistoryNumbers) -> list[object]:
    """Return the cells of a table of numbers."""
    quantiles = [durations.quantile(0.95) for durations in (numbers.waits, numbers.runs)]
    p95 = [_format_estimate(one) if is_terminal() else "" if one is None else round(one / _MS) for one in quantiles]
    return [*(getattr(numbers, name) for name in _COUNTS), *p95, *(getattr(numbers, name) for name in _OTHER_COUNTS)]


def _draw(history: History, last: timedelta) -> str:
    """Draw a sparkline for each of the most important numbers. If there are many points, a bar shows several."""
    points, total = history.points, history.total
    per_bar = -(-len(points) // max(shutil.get_terminal_size().columns - _SIDES, _NARROWEST))
    bars = [sum(points[first : first + per_bar], HistoryNumbers()) for first in range(0, len(points), per_bar)]
    span, bar_span = format_duration(last), format_duration(per_bar * history.resolution)
    lines = [f"last {span}, each bar {bar_span}, up to {history.now:%Y-%m-%d %H:%M} UTC"]
    for name in _COUNTS:
        counts = [getattr(bar, name) for bar in bars]
        lines.append(_line(name, counts, getattr(total, name), "{:,}".format))
    for name, of in (("wait p95", attrgetter("waits")), ("run p95", attrgetter("runs"))):
        p95 = [of(bar).quantile(0.95) or ZERO for bar in bars]
        lines.append(_line(name, p95, of(total).quantile(0.95), _format_estimate))
    return "\n".join(lines)


def _line(name: str, values: Sequence[Any], overall: Any, form: Callable[[Any], str]) -> str:
    most = max(values)
    return f"{styled(f'{name:9}', bold=True)}  {_sparkline(values, most)}  {form(overall):>9}  max {form(most)}"


def _sparkline(values: Sequence[Any], most: Any) -> str:
    """Draw a bar for each value. Only a value of zero has the lowest bar."""
    try:
        _BARS.encode(sys.stdout.encoding)
        bars = _BARS
    except UnicodeEncodeError:
        bars = _ASCII_BARS
    return "".join([bars[ceil(value / most * (len(bars) - 1)) if value else 0] for value in values])


def _format_estimate(value: timedelta | None) -> str:
    """Format an estimated duration in few digits."""
    if value is None:
        return ""
    seconds = value / _SECOND
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < _MOST_WITH_TENTHS else format_span(value)
