"""Parked jobs: a worker could not run them, and returned them to the queue for a worker of another release."""

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flowli_core._jobs.cursor import encode_cursor
from flowli_core._jobs.inspect import MOST_PER_PAGE
from flowli_core._jobs.registry import Jobs
from flowli_core._running.slots import UNKNOWN_JOB_DELAY
from flowli_core._wire.progress import PARKED
from flowli_core.driver import Check
from flowli_core.stored import Overview, State

_LAST_ID = "~"
_SPARE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedJobs:
    """The parked jobs with the same name and reason. `count` is how many were found."""

    name: str
    reason: str
    count: int

    def __str__(self) -> str:
        """Return one line for people."""
        return f"{self.count} {self.name}: {self.reason}"


async def read_parked(jobs: Jobs[Any], overview: Overview) -> tuple[ParkedJobs, ...]:
    """Find parked jobs, the most frequent first.

    A parked job is due again half a minute after a worker has met it. So it is among the jobs that are due until then,
    of which the last 1,000 are read, or among those that are due now, of which the newest 1,000 are read.
    """
    found: Counter[tuple[str, str]] = Counter()
    before = encode_cursor((overview.now + UNKNOWN_JOB_DELAY + _SPARE).isoformat(), _LAST_ID)
    places: tuple[tuple[State, str | None], ...] = (("scheduled", before), ("queued", None))
    for state, cursor in places:
        if getattr(overview.counts, state):
            page = await jobs.inspect.get_jobs_by_state(state, limit=MOST_PER_PAGE, cursor=cursor, payloads=False)
            found.update(
                (job.name, job.last_error.message)
                for job in page.items
                if job.last_error is not None and job.last_error.type in PARKED
            )
    return tuple([ParkedJobs(name=name, reason=why, count=count) for (name, why), count in found.most_common()])


def check_parked(parked: tuple[ParkedJobs, ...]) -> Check:
    """Return the finding of `flowli doctor`."""
    if not parked:
        return Check(name="parked jobs", value="none")
    cure = "deploy a worker that can run them, or cancel them"
    return Check(name="parked jobs", value="\n".join(map(str, parked)), verdict="warning", cure=cure)
