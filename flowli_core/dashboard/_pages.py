"""The pages of the dashboard, and the data that each of them reads."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from operator import attrgetter

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from flowli_core._jobs.history import History
from flowli_core._jobs.inspect import MOST_PER_PAGE
from flowli_core._jobs.lanes import explain_wait
from flowli_core._jobs.outbox_state import OutboxState, read_outbox
from flowli_core._jobs.parked import ParkedJobs
from flowli_core._jobs.records import JobRecord, Page, ScheduleRecord
from flowli_core._jobs.registry import runtime_of
from flowli_core._jobs.workers import WorkerRecord, to_workers
from flowli_core.dashboard._attention import Situation, find_problems
from flowli_core.dashboard._charts import make_charts
from flowli_core.dashboard._filters import read_filters
from flowli_core.dashboard._site import KEPT_SECONDS, Drawn, Site
from flowli_core.dashboard._timeline import make_timeline
from flowli_core.diagnosis import Check, Diagnosable
from flowli_core.errors import ValidationError
from flowli_core.stored import STATES, Overview, StateCounts

PER_PAGE = 50

_MOST_NEXT = 5
_MOST_JOBS = 15
_SPANS = {"1h": "hour", "1d": "day", "7d": "week"}
"""The spans of the charts, and their names."""
_MOST_QUEUES = 100
_SEARCH_KEPT = 5.0
_SLOWLY = 10.0
"""Seconds for which the answers of longer reads are kept. A list that is kept under the time of the overview is read
again with the next overview, so that no page shows an older list beside it."""

_CHECKED_SECONDS = 60.0
"""Seconds for which the checks of the store itself are kept: its memory, disk, clock and persistence."""

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    """A queue in the table of the overview. `workers` counts the living ones that serve it."""

    name: str
    counts: StateCounts
    oldest: datetime | None
    paused: datetime | None
    workers: int


class Pages:
    """The pages of a dashboard."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._inspect = site.jobs.inspect

    async def overview(self, request: Request) -> Response:
        """Show what needs attention, the queues, the workers and the next schedules."""
        return await self._site.share(request, self._draw_overview)

    async def _draw_overview(self, request: Request, overview: Overview) -> Drawn:
        workers = to_workers(overview)
        schedules = await self._schedules()
        found = Situation(
            overview=overview,
            workers=workers,
            parked=await self._parked(overview),
            schedules=schedules,
            jobs={name: settings.queue for name, settings in runtime_of(self._site.jobs).settings.items()},
            last_hour=(await self._history("1h")).by_job,
            outbox=await self._outbox(),
            checks=await self._site.shared.get("checks", self._read_checks, seconds=_CHECKED_SECONDS),
            is_private=bool(getattr(runtime_of(self._site.jobs).driver, "is_private", False)),
        )
        upcoming = sorted((one for one in schedules if one.next_tick), key=lambda one: one.next_tick or _NEVER)
        last = request.query_params.get("last", "")
        last = last if last in _SPANS else "1h"
        history = await self._history(last)
        by_job = sorted(history.by_job, key=lambda one: (one.failed, one.completed), reverse=True)
        queues = _queue_rows(overview, workers)
        shown = queues if request.query_params.get("queues") == "all" else queues[:_MOST_QUEUES]
        values = {
            "overview": overview,
            "outbox": found.outbox,
            "history": history,
            "charts": make_charts(history),
            "spans": _SPANS,
            "last": last,
            "span": _SPANS[last],
            "busiest": by_job[:_MOST_JOBS],
            "others": len(by_job[_MOST_JOBS:]),
            "problems": find_problems(found),
            "queues": sorted(shown, key=attrgetter("name")),
            "hidden_queues": len(queues) - len(shown),
            "workers": workers,
            "upcoming": upcoming[:_MOST_NEXT],
        }
        return self._site.draw(request, "overview.html", values)

    async def jobs(self, request: Request) -> Response:
        """List the jobs of a state, newest first."""
        return await self._site.share(request, self._draw_jobs)

    async def _draw_jobs(self, request: Request, overview: Overview) -> Drawn:
        filters = read_filters(request.query_params, state=_first_state(overview.counts))
        cursor = request.query_params.get("cursor") or None

        async def read() -> Page[JobRecord]:
            return await self._inspect.find(**filters.arguments, limit=PER_PAGE, cursor=cursor, payloads=False)

        problem: str | None = None
        page: Page[JobRecord] = Page(())
        try:
            if filters.is_narrow:  # a search may take a second
                page = await self._site.shared.get(("jobs", filters, cursor), read, seconds=_SEARCH_KEPT)
            else:
                page = await self._site.shared.get(("jobs", filters, cursor, overview.now), read, seconds=KEPT_SECONDS)
        except ValidationError as error:
            problem = str(error)
        values = {
            "overview": overview,
            "filters": filters,
            "page": page,
            "cursor": cursor,
            "problem": problem,
            "names": sorted(runtime_of(self._site.jobs).jobs),
        }
        return self._site.draw(request, "jobs.html", values, status=400 if problem else 200)

    async def job(self, request: Request) -> Response:
        """Show a job."""
        await self._site.admit(request)
        record = await self._inspect.get_job(request.query_params.get("id", "").strip())
        if record is None:
            why = "There is no job with this id. It was never stored, or it was removed after its retention time."
            raise HTTPException(HTTPStatus.NOT_FOUND, why)
        overview = await self._site.overview()
        values = {
            "overview": overview,
            "record": record,
            "timeline": make_timeline(record),
            "waits": explain_wait(record, overview),
        }
        return self._site.render(request, "job.html", values)

    async def schedules(self, request: Request) -> Response:
        """List the schedules with their next runs."""
        return await self._site.share(request, self._draw_schedules)

    async def _draw_schedules(self, request: Request, overview: Overview) -> Drawn:
        page = await self._inspect.get_schedules(limit=PER_PAGE, cursor=request.query_params.get("cursor") or None)
        runs = {one.key: await self._inspect.next_runs(one.key) for one in page.items if one.next_tick}
        declared = {spec.key for spec in runtime_of(self._site.jobs).schedules}
        values = {"overview": overview, "page": page, "runs": runs, "declared": declared}
        return self._site.draw(request, "schedules.html", values)

    async def workers(self, request: Request) -> Response:
        """List the workers with the jobs that they run."""
        return await self._site.share(request, self._draw_workers)

    async def _draw_workers(self, request: Request, overview: Overview) -> Drawn:
        active = await self._site.shared.get(("active", overview.now), self._read_active, seconds=KEPT_SECONDS)
        workers = to_workers(overview)
        names = {worker.name for worker in workers}
        values = {
            "overview": overview,
            "workers": workers,
            "running": _by_worker(active),
            "orphans": [record for record in active if record.worker not in names],
            "most": MOST_PER_PAGE,
        }
        return self._site.draw(request, "workers.html", values)

    async def _read_active(self) -> tuple[JobRecord, ...]:
        return (await self._inspect.find("active", limit=MOST_PER_PAGE, payloads=False)).items

    async def _read_checks(self) -> list[Check]:
        driver = await runtime_of(self._site.jobs).store()
        return await driver.diagnose(quick=True) if isinstance(driver, Diagnosable) else []

    async def _history(self, last: str) -> History:
        async def read() -> History:
            return await self._inspect.history(last)

        return await self._site.shared.get(("history", last), read, seconds=2.0 if last == "1h" else _SLOWLY)

    async def _parked(self, overview: Overview) -> tuple[ParkedJobs, ...]:
        return await self._site.shared.get("parked", partial(self._inspect.get_parked, overview), seconds=_SLOWLY)

    async def _outbox(self) -> OutboxState | None:
        return await self._site.shared.get("outbox", lambda: read_outbox(self._site.jobs), seconds=_SLOWLY)

    async def _schedules(self) -> tuple[ScheduleRecord, ...]:
        async def read() -> tuple[ScheduleRecord, ...]:
            return (await self._inspect.get_schedules(limit=MOST_PER_PAGE)).items

        return await self._site.shared.get("schedules", read, seconds=_SLOWLY)


def _first_state(counts: StateCounts) -> str:
    """Return the state that a list begins with: failed jobs, if there are any, else the first state that has jobs."""
    return next((state for state in ("failed", *STATES) if getattr(counts, state)), "failed")


def _queue_rows(overview: Overview, workers: Iterable[WorkerRecord]) -> list[QueueRow]:
    """Return the queues: first the paused ones, then those with the most waiting and running jobs."""
    alive = [worker for worker in workers if worker.is_alive]
    served = {queue for worker in alive for queue in worker.queues or ()}
    counts = overview.counts.by_queue
    names = sorted({*counts, *overview.paused, *served})
    names.sort(key=lambda name: (name in overview.paused, _load(counts.get(name))), reverse=True)
    return [
        QueueRow(
            name=name,
            counts=counts.get(name, StateCounts()),
            oldest=overview.oldest.get(name),
            paused=overview.paused.get(name),
            workers=sum(worker.serves(name) for worker in alive),
        )
        for name in names
    ]


def _load(counts: StateCounts | None) -> int:
    return 0 if counts is None else counts.queued + counts.active


def _by_worker(records: Iterable[JobRecord]) -> dict[str, list[JobRecord]]:
    found: dict[str, list[JobRecord]] = {}
    for record in records:
        found.setdefault(record.worker or "", []).append(record)
    return found
