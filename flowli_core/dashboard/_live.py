"""Streams of server-sent events, which make pages load themselves again when something has changed."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

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


class _Stream(StreamingResponse):
    """The response of a stream. It calls `on_end` even if it has never begun."""

    def __init__(self, events: AsyncGenerator[bytes], *, on_end: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=_HEADERS)
        self._events = events
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self._events):
                await super().__call__(scope, receive, send)
        finally:
            self._on_end()


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
        self._open += 1
        return _Stream(self._events(changes), on_end=self._close)

    def _close(self) -> None:
        self._open -= 1

    async def _events(self, changes: AsyncGenerator[bool]) -> AsyncGenerator[bytes]:
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
