"""The workers of a store, what they serve, and what none of them serves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from flowli_core._wire.about import unpack_about
from flowli_core.stored import Overview

WORKER_ALIVE = timedelta(seconds=30)
"""A worker is alive if it was seen less than this long ago. It is seen at least every 20 seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """A worker that was seen within the last minute and has not stopped.

    `queues` are those that it serves, in their order, and `jobs` those that it knows. Both are None if its
    description cannot be read; then it counts as one that serves and runs everything.
    """

    name: str
    seen: datetime
    is_alive: bool
    queues: tuple[str, ...] | None
    jobs: frozenset[str] | None

    def serves(self, queue: str) -> bool:
        """Return True if it takes jobs from a queue."""
        return self.queues is None or queue in self.queues

    def runs(self, job: str, queue: str) -> bool:
        """Return True if it takes jobs from this queue and knows this job."""
        return self.serves(queue) and (self.jobs is None or job in self.jobs)


def to_workers(overview: Overview) -> tuple[WorkerRecord, ...]:
    """Return the workers of an overview, in the order of their names."""
    workers: list[WorkerRecord] = []
    for name, stored in sorted(overview.workers.items()):
        about = unpack_about(stored.about)
        workers.append(
            WorkerRecord(
                name=name,
                seen=stored.seen,
                is_alive=overview.now - stored.seen < WORKER_ALIVE,
                queues=None if about is None else about.queues,
                jobs=None if about is None else frozenset(about.jobs),
            )
        )
    return tuple(workers)


def unserved_queues(overview: Overview, workers: Iterable[WorkerRecord]) -> dict[str, int]:
    """Return the queues that no living worker serves and that are not paused, and how many jobs wait in each."""
    alive = [worker for worker in workers if worker.is_alive]
    waiting = {queue: counts.queued + counts.scheduled for queue, counts in overview.counts.by_queue.items()}
    return {
        queue: count
        for queue, count in waiting.items()
        if count and queue not in overview.paused and not any(worker.serves(queue) for worker in alive)
    }


def unserved_jobs(jobs: Mapping[str, str], workers: Iterable[WorkerRecord]) -> dict[str, str]:
    """Return those of the jobs, given as name and queue, that no living worker runs."""
    alive = [worker for worker in workers if worker.is_alive]
    return {job: queue for job, queue in jobs.items() if not any(worker.runs(job, queue) for worker in alive)}
