"""`flowli lanes`: list the deepest lanes, and the reasons for which their jobs wait."""

from datetime import datetime, timedelta
from typing import Any

import click

from flowli_core._jobs.lanes import describe_block, describe_lane, describe_running
from flowli_core._jobs.registry import Jobs
from flowli_core._text import escape_controls
from flowli_core.cli._common.operation import operation
from flowli_core.cli._common.options import json_option
from flowli_core.cli._common.show import format_json, format_moment, format_table, is_terminal
from flowli_core.durations import format_span
from flowli_core.lanes import StoredLane
from flowli_core.stored import Overview

_NONE = "no job waits in a lane; jobs get lanes by a limit: @job(Crawl, limit=Limit(concurrency=2, by=...))"

_SECOND = timedelta(seconds=1)
_LONGEST = 24
"""The most characters of the value of a lane in a table on a terminal, so that the other columns have space."""


@click.command()
@json_option
@operation
async def lanes(jobs: Jobs[Any], *, is_json: bool) -> None:
    """List the lanes with the most waiting jobs, at most 20.

    The jobs of a limit that have the same value of its `by` share a lane. For each lane and queue: how many jobs wait
    in the queue, how many run in all queues and how many may, what keeps the lane from its next turn, and when that is.
    A lane without a free place has its next turn when one of its jobs ends.
    """
    overview = await jobs.inspect.get_overview()
    if is_json:
        click.echo(format_json({"lanes": overview.lanes, "lane_count": overview.lane_count}))
    elif overview.lanes:
        click.echo(_format_lanes(overview))
    else:
        click.echo(_NONE)


def name_deepest(overview: Overview) -> str:
    """Return the number of lanes with waiting jobs, and the deepest of them."""
    if not overview.lanes:
        return f"{overview.lane_count:,}"
    lane = overview.lanes[0]
    reason = describe_block(lane)
    blocked = f", blocked by {reason}" if reason else ""
    text = f"{overview.lane_count:,}, the deepest {describe_lane(lane)} in queue {lane.queue}: {lane.waiting:,} waiting"
    return escape_controls(f"{text}, {describe_running(lane)} running{blocked}")


def _format_lanes(overview: Overview) -> str:
    rows = [_row(lane, overview.now) for lane in overview.lanes]
    others = overview.lane_count - len(rows)
    if others > 0:
        rows.append([f"({others} others)", *[""] * 6])
    headers = ["limit", "lane", "queue", "waiting", "running", "blocked by", "next turn"]
    return format_table(headers, rows, right=["waiting", "running"])


def _row(lane: StoredLane, now: datetime) -> list[object]:
    turn = format_moment(lane.next_turn, now)
    if lane.next_turn is not None and now - lane.next_turn >= _SECOND:
        turn = f"due for {format_span(now - lane.next_turn)}"
    value = lane.value
    if is_terminal() and len(value) > _LONGEST:
        value = f"{value[: _LONGEST - 1]}~"
    return [lane.limit, value, lane.queue, lane.waiting, describe_running(lane), describe_block(lane), turn]
