"""Streams of server-sent events, which make pages load themselves again when something has changed."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from flowli_core._jobs.updates import JobUpdate
from flowli_core._jobs.workers import to_workers
from flowli_core.dashboard._site import Site
from flowli_core.errors import FlowliError
from flowli_core.stored import Overview
from flowli_core.web._stopping import server_stops

MOST_STREAMS = 200
"""The most streams that a dashboard has open in one process."""

READ_EVERY = 2.0
"""Seconds between two reads of the overview, while a page is open."""

TICK_EVERY = 10.0
"""Seconds without a change after which the page is loaded again, because it shows ages. Sending the event also ends the
streams of clients that have disconnected."""

_RETRY_SECONDS = 15
_EVENT = b"event: change\ndata:\n\n"
_HEADERS = {"X-Accel-Buffering": "no"}  # nginx


class Live:
    """The streams of a dashboard."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._open = 0

    async def events(self, request: Request) -> Response:
        """Send an event for each change of one job, or of the overview."""
        await self._site.admit(request)
        if self._open >= MOST_STREAMS:
            headers = {"Retry-After": str(_RETRY_SECONDS)}
            return Response("too many pages are open", HTTPStatus.SERVICE_UNAVAILABLE, headers)
        job = request.query_params.get("job")
        changes = self._overview_changes() if job is None else self._job_changes(job)
        return StreamingResponse(self._stream(changes), media_type="text/event-stream", headers=_HEADERS)

    async def _stream(self, changes: AsyncGenerator[bool]) -> AsyncGenerator[bytes]:
        self._open += 1
        stopped = server_stops()
        pending = asyncio.create_task(anext(changes))
        try:
            yield b"retry: 2000\n\n"
            while True:
                waited: tuple[asyncio.Future[Any], ...] = (stopped, pending)
                await asyncio.wait(waited, timeout=TICK_EVERY, return_when=asyncio.FIRST_COMPLETED)
                if stopped.done():
                    return
                if pending.done():
                    pending.result()
                    pending = asyncio.create_task(anext(changes))
                yield _EVENT
        finally:
            self._open -= 1
            stopped.cancel()
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)

    async def _overview_changes(self) -> AsyncGenerator[bool]:
        """Yield when the overview has changed, and when the store becomes unreachable or reachable."""
        seen: object = None
        while True:
            try:
                shown: object = _shown(await self._site.overview())
            except FlowliError as error:
                shown = type(error)
            if seen not in (None, shown):
                yield True
            seen = shown
            await asyncio.sleep(READ_EVERY)

    async def _job_changes(self, id: str) -> AsyncGenerator[bool]:
        """Yield when a job has changed. A finished job may be requeued, so it is read again, but less often."""
        seen: JobUpdate | None = None
        while True:
            with suppress(FlowliError):
                async with aclosing(self._site.jobs.inspect.watch(id)) as updates:
                    async for update in updates:
                        if seen not in (None, update):
                            yield True
                        seen = update
            await asyncio.sleep(TICK_EVERY)


def _shown(overview: Overview) -> object:
    """Return the parts of an overview that pages show, without ages."""
    return overview.counts, overview.paused, tuple((one.name, one.is_alive) for one in to_workers(overview))
