"""The lanes in which jobs wait, and the reasons for it in words."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from flowli_core._jobs.records import JobRecord
from flowli_core._jobs.workers import WorkerRecord
from flowli_core.durations import format_duration, format_span
from flowli_core.lanes import Rate, StoredLane
from flowli_core.stored import Overview

OVERDUE = timedelta(minutes=1)
"""A lane whose turn is due for longer needs attention, if workers serve its queue."""


def overdue_lanes(overview: Overview, workers: Iterable[WorkerRecord]) -> list[StoredLane]:
    """Return the lanes whose turn has been due for over a minute, although living workers serve their queues.

    Lanes of paused queues are left out, and those that wait for a place or for their rate.
    """
    alive = [worker for worker in workers if worker.is_alive]
    return [
        lane
        for lane in overview.lanes
        if lane.blocked is None
        and lane.next_turn is not None
        and overview.now - lane.next_turn > OVERDUE
        and lane.queue not in overview.paused
        and any(worker.serves(lane.queue) for worker in alive)
    ]


def is_blocked(queue: str, overview: Overview) -> bool:
    """Return True if a listed lane of a queue waits for a place or for its rate."""
    return any(lane.queue == queue and lane.blocked is not None for lane in overview.lanes)


def describe_overdue(lane: StoredLane, now: datetime) -> str:
    """Return since when the turn of a lane is due. The value of the lane is not named, because it comes from inputs."""
    waited = format_span(now - (lane.next_turn or now))
    return f"a lane of the limit {lane.limit} in the queue {lane.queue} could have started a job {waited} ago"


def describe_lane(lane: StoredLane) -> str:
    """Return the limit and the value of a lane."""
    return f"{lane.limit} {lane.value}".rstrip()


def describe_running(lane: StoredLane) -> str:
    """Return how many jobs of a lane run, and how many may."""
    return str(lane.active) if lane.concurrency is None else f"{lane.active} of {lane.concurrency}"


def describe_rate(rate: Rate) -> str:
    """Return a rate as it is written in code."""
    return f"{rate.count}/{format_duration(rate.period)}"


def describe_block(lane: StoredLane) -> str:
    """Return what keeps a lane from its turn, or an empty text if that is only the time or the order."""
    if lane.blocked == "rate" and lane.rate is not None:
        return f"rate {describe_rate(lane.rate)}"
    return lane.blocked or ""


def explain_wait(record: JobRecord[Any, Any, Any], overview: Overview) -> str | None:
    """Return why a queued job with a limit waits, or None. The reason is only known of the lanes that are listed."""
    if record.state != "queued" or record.limit is None:
        return None
    wanted = (record.queue, record.limit, record.lane)
    lane = next((lane for lane in overview.lanes if (lane.queue, lane.limit, lane.value) == wanted), None)
    if lane is not None:
        return _explain(lane, overview.now)
    if overview.lane_count > len(overview.lanes):
        return "in its lane, which is not among the deepest, so what blocks it is not known"
    return None


def _explain(lane: StoredLane, now: datetime) -> str:
    ahead = timedelta(0) if lane.next_turn is None else lane.next_turn - now
    turn = f"in {format_span(ahead)}" if ahead > timedelta(0) else "now"
    if lane.blocked == "concurrency":
        return f"its lane has no free place: {describe_running(lane)} running"
    if lane.blocked == "rate":
        return f"its lane has used its {describe_block(lane)}; the next start is allowed {turn}"
    jobs = "1 job waits" if lane.waiting == 1 else f"{lane.waiting:,} jobs wait"
    return f"{jobs} in its lane, whose next turn is {turn}"
