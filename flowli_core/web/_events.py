"""The events of a job: a stream of its states for one HTTP client, which may connect again."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

from pydantic_core import to_json

from flowli_core._jobs.job import BoundJob
from flowli_core._jobs.updates import JobUpdate
from flowli_core._logger import logger
from flowli_core.errors import FlowliError, RecordNotFound
from flowli_core.stored import FINISHED
from flowli_core.web._status import JobStatus, dump_status, to_status
from flowli_core.web._stopping import server_stops

KEEP_ALIVE = 15.0
"""Seconds without an event after which a comment is sent, so that proxies do not close the connection."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """A server-sent event. `id` says which state of the job it shows; a client that connects again sends it back."""

    name: Literal["update", "end"]
    id: str
    data: str


def has_seen_end(status: JobStatus[Any], last_event_id: str | None) -> bool:
    """Return True if a client with this Last-Event-ID has seen the last state of a job."""
    return status.state in FINISHED and _event_id(status) == last_event_id


async def stream_events(
    job: BoundJob[Any, Any, Any, Any], id: str, *, last_event_id: str | None
) -> AsyncGenerator[JobEvent | None]:
    """Yield an event for the state of a job, unless it is that of `last_event_id`, and one after each change.

    None stands for a comment that keeps the connection open. An `end` event follows the finished state, or the removal
    of the record. Without it, the stream has ended because the server stops or the store failed: the client is to
    connect again.
    """
    updates = job.watch(id)
    pending = asyncio.create_task(anext(updates, None))
    stopped = server_stops()
    seen = last_event_id
    try:
        while True:
            waited: tuple[asyncio.Future[Any], ...] = (pending, stopped)
            await asyncio.wait(waited, timeout=KEEP_ALIVE, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                return
            if not pending.done():
                yield None
                continue
            update = _result(pending)
            if update is None:
                yield JobEvent("end", seen or "", "{}")
                return
            if isinstance(update, FlowliError):
                logger.warning("the events of job %s end, because watching it failed: %s", id, update)
                return
            # From here on there is a call of the generator again, for `finally` to cancel: that closes the generator.
            pending = asyncio.create_task(anext(updates, None))
            status = to_status(update)
            if (event_id := _event_id(status)) != seen:
                seen = event_id
                yield JobEvent("update", event_id, dump_status(job, status))
    finally:
        pending.cancel()
        stopped.cancel()
        await asyncio.gather(pending, return_exceptions=True)


def _result(pending: asyncio.Task[JobUpdate[Any] | None]) -> JobUpdate[Any] | FlowliError | None:
    """Return the next update, None if there is none, or the error of the watch."""
    try:
        return pending.result()
    except RecordNotFound:
        return None
    except FlowliError as error:
        return error


def _event_id(status: JobStatus[Any]) -> str:
    """Return the same text for the same state, whatever process has read it."""
    shown = to_json((status.state, status.progress, status.attempts_made, status.error, status.updated_at))
    return blake2b(shown, digest_size=9).hexdigest()
