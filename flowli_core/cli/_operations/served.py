"""Jobs that no worker serves, as `flowli status`, `check` and `doctor` name them."""

import socket
from collections.abc import Iterable, Mapping
from datetime import datetime
from heapq import nlargest
from typing import Any

from flowli_core._jobs.lanes import is_blocked
from flowli_core._jobs.parked import ParkedJobs
from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._jobs.workers import WorkerRecord, unserved_jobs, unserved_queues
from flowli_core.cli._common.show import format_moment
from flowli_core.durations import format_span
from flowli_core.stored import Overview, StateCounts

MOST_NAMED = 10


def is_here(worker: str) -> bool:
    """Return True if a worker runs on this host: its name begins with that of its host."""
    return worker.startswith(f"{socket.gethostname()}:")


def format_parked(parked: Iterable[ParkedJobs], now: datetime) -> list[str]:
    """Format the parked jobs, those of one name and reason on one line."""
    return [
        f"{one.count} {one.name}: {one.reason} (oldest enqueued {format_moment(one.oldest, now)})" for one in parked
    ]


def name_some(waiting: Mapping[str, int]) -> tuple[list[str], int, int]:
    """Return the ten queues in which the most jobs wait, and how many other queues there are, with how many jobs."""
    named = nlargest(MOST_NAMED, sorted(waiting), key=waiting.__getitem__)
    return named, len(waiting) - len(named), sum(waiting.values()) - sum(waiting[queue] for queue in named)


def format_paused(overview: Overview) -> list[str]:
    """Name ten paused queues, those with the most waiting jobs first, and count the others."""
    by_queue = overview.counts.by_queue
    queues = {queue: by_queue.get(queue, StateCounts()).queued for queue in overview.paused}
    named, others, count = name_some(queues)
    lines = [
        f"{queue}: paused for {format_span(overview.now - overview.paused[queue])}, {queues[queue]} queued"
        for queue in named
    ]
    return [*lines, f"other paused queues: {others} ({count} queued)"] if others else lines


def excuse(queue: str, overview: Overview) -> str:
    """Return the reason for which jobs of a queue may wait, or an empty text."""
    if queue in overview.paused:
        return ", which is paused"
    return ", where lanes have reached their limits" if is_blocked(queue, overview) else ""


def _complain_of_queue(queue: str, count: int) -> str:
    waiting = "1 job waits" if count == 1 else f"{count} jobs wait"
    return f"{waiting} in the queue {queue}, which no worker serves"


def complain_of_unserved(jobs: Jobs[Any], overview: Overview, workers: Iterable[WorkerRecord]) -> list[str]:
    """Name ten queues in which jobs wait for no living worker, count the others, and name jobs that no worker runs.

    Paused queues are left out: no worker is missing there.
    """
    known = tuple(workers)
    queues = unserved_queues(overview, known)
    named, others, count = name_some(queues)
    complaints = [_complain_of_queue(queue, queues[queue]) for queue in named]
    if others:
        complaints.append(f"other queues with waiting jobs that no worker serves: {others} ({count} waiting)")
    all_jobs = runtime_of(jobs).settings.items()
    declared = {name: settings.queue for name, settings in all_jobs if settings.queue not in overview.paused}
    for job, queue in unserved_jobs(declared, known).items():
        if any(worker.is_alive and worker.serves(queue) for worker in known):
            complaints.append(f"no worker of the queue {queue} knows the job {job}")
        elif queue not in queues:
            complaints.append(f"no worker serves the queue {queue} of the job {job}")
    return complaints
