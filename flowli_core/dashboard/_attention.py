"""The problems that need attention: "is all well, and if not, what is wrong?"."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from flowli_core._jobs.history import JobHistory
from flowli_core._jobs.lanes import describe_overdue, is_blocked, overdue_lanes
from flowli_core._jobs.outbox_state import OutboxState
from flowli_core._jobs.parked import ParkedJobs
from flowli_core._jobs.records import ScheduleRecord
from flowli_core._jobs.workers import WorkerRecord, unserved_jobs, unserved_queues
from flowli_core.diagnosis import Check
from flowli_core.durations import format_span
from flowli_core.stored import Overview

Level = Literal["bad", "warning", "note"]

LONG_WAIT = timedelta(minutes=5)
"""A due job that has waited for longer needs attention."""

OVERDUE = timedelta(minutes=1)
"""A schedule that is due for longer is fired by no worker."""

MANY_FAILURES = 0.05
"""The part of the finished jobs that may fail before it needs attention."""

_MOST_OF_A_KIND = 5
_LEVELS: tuple[Level, ...] = ("bad", "warning", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A sentence about something that needs attention, and the page that shows more of it, if there is one."""

    level: Level
    text: str
    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The parts of a store in which problems are found.

    `jobs` are the declared jobs with their queues, and `checks` what the driver finds wrong with the store itself.
    `is_private` is True if the store is in the memory of this process.
    """

    overview: Overview
    workers: Sequence[WorkerRecord]
    parked: Sequence[ParkedJobs]
    schedules: Sequence[ScheduleRecord]
    jobs: Mapping[str, str]
    last_hour: Sequence[JobHistory]
    outbox: OutboxState | None = None
    checks: Sequence[Check] = ()
    is_private: bool = False


def find_problems(found: Situation) -> list[Problem]:
    """Return what needs attention, the worst first."""
    kinds = (
        _store(found),
        _workers(found),
        _unserved(found),
        _parked(found),
        _outbox(found),
        _failing(found),
        _waiting(found),
        _lanes(found),
        _schedules(found),
        _paused(found),
    )
    problems = [problem for kind in kinds for problem in _some(kind)]
    return sorted(problems, key=lambda problem: _LEVELS.index(problem.level))


def _some(problems: Iterable[Problem]) -> list[Problem]:
    """Return the first problems of a kind, and one more that counts the others."""
    found = list(problems)
    first, others = found[:_MOST_OF_A_KIND], found[_MOST_OF_A_KIND:]
    if others:
        first.append(Problem(level=others[0].level, text=f"and {len(others):,} more like this", path=others[0].path))
    return first


def _store(found: Situation) -> Iterator[Problem]:
    for check in found.checks:
        if check.verdict != "ok":
            # A store in memory is chosen for a test or a trial.
            level: Level = "bad" if check.verdict == "bad" and not found.is_private else "note"
            cure = f"; {check.cure}" if check.cure else ""
            yield Problem(level=level, text=f"Store, {check.name}: {check.value}{cure}.")


def _workers(found: Situation) -> Iterator[Problem]:
    counts = found.overview.counts
    alive = sum(worker.is_alive for worker in found.workers)
    if not alive:
        waiting = counts.queued + counts.scheduled + counts.active
        text = "No worker is alive, so no job runs."
        yield Problem(level="bad" if waiting else "warning", text=text, path="/workers")
    for worker in found.workers:
        if not worker.is_alive:
            seen = format_span(found.overview.now - worker.seen)
            yield Problem(level="warning", text=f"Worker {worker.name} was last seen {seen} ago.", path="/workers")


def _unserved(found: Situation) -> Iterator[Problem]:
    if not any(worker.is_alive for worker in found.workers):
        return  # said already
    queues = unserved_queues(found.overview, found.workers)
    for queue, count in sorted(queues.items(), key=lambda pair: (-pair[1], pair[0])):
        waiting = "1 job waits" if count == 1 else f"{count:,} jobs wait"
        yield Problem(level="bad", text=f"{waiting} in the queue {queue}, which no worker serves.", path="/workers")
    for job, queue in unserved_jobs(found.jobs, found.workers).items():
        if queue not in queues:
            yield Problem(level="warning", text=f"No worker runs the job {job} of the queue {queue}.", path="/workers")


def _parked(found: Situation) -> Iterator[Problem]:
    for one in found.parked:
        jobs = "1 job" if one.count == 1 else f"{one.count:,} jobs"
        age = format_span(found.overview.now - one.oldest)
        text = f"{jobs} of {one.name} cannot run, the oldest for {age}: {one.reason}"
        yield Problem(level="bad", text=text, path="/jobs", query={"state": "scheduled", "name": one.name})


def _outbox(found: Situation) -> Iterator[Problem]:
    if found.outbox is not None and found.outbox.needs_attention:
        yield Problem(level="bad", text=f"Outbox: {found.outbox}.")


def _failing(found: Situation) -> Iterator[Problem]:
    for one in sorted(found.last_hour, key=lambda one: -one.failed):
        finished = one.failed + one.completed
        if one.failed and one.job:
            text = f"{one.failed:,} of {finished:,} jobs of {one.job} failed in the last hour."
            level: Level = "warning" if one.failed >= MANY_FAILURES * finished else "note"
            yield Problem(level=level, text=text, path="/jobs", query={"state": "failed", "name": one.job})


def _waiting(found: Situation) -> Iterator[Problem]:
    unserved = unserved_queues(found.overview, found.workers)
    for queue, since in sorted(found.overview.oldest.items(), key=lambda pair: pair[1]):
        waited = found.overview.now - since
        if waited > LONG_WAIT and queue not in unserved and queue not in found.overview.paused:
            text = f"The oldest job of the queue {queue} has waited for {format_span(waited)}."
            level: Level = "warning"
            if is_blocked(queue, found.overview):
                level, text = "note", f"{text} Lanes of the queue have reached their limits."
            yield Problem(level=level, text=text, path="/jobs", query={"state": "queued", "queue": queue})


def _lanes(found: Situation) -> Iterator[Problem]:
    for lane in overdue_lanes(found.overview, found.workers):
        text = describe_overdue(lane, found.overview.now)
        yield Problem(level="warning", text=f"{text[0].upper()}{text[1:]}.", path="/")


def _schedules(found: Situation) -> Iterator[Problem]:
    for schedule in found.schedules:
        late = timedelta(0) if schedule.next_tick is None else found.overview.now - schedule.next_tick
        if not schedule.readable:
            text = f"The schedule {schedule.key} cannot be read: it is damaged, or a later release wrote it."
        elif late > OVERDUE:
            text = f"The schedule {schedule.key} was due {format_span(late)} ago, and no worker has fired it."
        else:
            continue
        yield Problem(level="bad", text=text, path="/schedules")


def _paused(found: Situation) -> Iterator[Problem]:
    for queue, since in found.overview.paused.items():
        text = f"The queue {queue} has been paused for {format_span(found.overview.now - since)}."
        yield Problem(level="note", text=text, path="/")
