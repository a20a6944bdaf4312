"""Jobs that no worker serves, as `flowli status`, `check` and `doctor` name them."""

import socket
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from flowli_core._jobs.parked import ParkedJobs
from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._jobs.workers import WorkerRecord, unserved_jobs, unserved_queues
from flowli_core.cli._common.show import format_moment
from flowli_core.stored import Overview


def is_here(worker: str) -> bool:
    """Return True if a worker runs on this host: its name begins with that of its host."""
    return worker.startswith(f"{socket.gethostname()}:")


def format_parked(parked: Iterable[ParkedJobs], now: datetime) -> list[str]:
    """Format the parked jobs, those of one name and reason on one line."""
    return [
        f"{one.count} {one.name}: {one.reason} (oldest enqueued {format_moment(one.oldest, now)})" for one in parked
    ]


def _complain_of_queue(queue: str, count: int) -> str:
    waiting = "1 job waits" if count == 1 else f"{count} jobs wait"
    return f"{waiting} in the queue {queue}, which no worker serves"


def complain_of_unserved(jobs: Jobs[Any], overview: Overview, workers: Iterable[WorkerRecord]) -> list[str]:
    """Name the queues in which jobs wait for no living worker, and the declared jobs that none would run."""
    known = tuple(workers)
    queues = unserved_queues(overview, known)
    complaints = [_complain_of_queue(queue, count) for queue, count in queues.items()]
    declared = {name: settings.queue for name, settings in runtime_of(jobs).settings.items()}
    for job, queue in unserved_jobs(declared, known).items():
        if any(worker.is_alive and worker.serves(queue) for worker in known):
            complaints.append(f"no worker of the queue {queue} knows the job {job}")
        elif queue not in queues:
            complaints.append(f"no worker serves the queue {queue} of the job {job}")
    return complaints
