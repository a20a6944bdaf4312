"""Being told what a runner does. A hook sees an outcome that stands already; nothing that it does can change it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Literal, Protocol

from flowli_core._running.threads import Threads
from flowli_core.errors import DefinitionError

logger = logging.getLogger("flowli")

HOOK_TIMEOUT = timedelta(seconds=5)
"""How long a hook may take. An async one is cancelled then; a plain one, in its thread, is no longer waited for."""

_MOST_THREADS = 8

HookName = Literal[
    "on_job_started",
    "on_job_completed",
    "on_job_failed",
    "on_job_retry_scheduled",
    "on_lease_recovered",
    "on_lease_lost",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """What happened to a job.

    `error` is set where an attempt failed, `retry_in` where another follows, `duration` where a handler has ended.
    `attempt` counts from 1; it is 0 for a recovered lease, whose attempts are not known here.
    """

    id: str
    name: str
    queue: str
    worker: str
    attempt: int
    recoveries: int
    error: BaseException | None = None
    retry_in: timedelta | None = None
    duration: timedelta | None = None


Hook = Callable[[JobEvent], Awaitable[None] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Functions to call, async or plain (these run in a thread). For one job they are called in order.

    on_job_completed, on_job_failed (for good) and on_job_retry_scheduled are called once the store has accepted the
    outcome; on_lease_recovered when this runner recovered somebody's lease, and on_job_failed with a LeaseLost where
    that was one time too many; on_lease_lost when this runner lost one.
    """

    on_job_started: Hook | None = None
    on_job_completed: Hook | None = None
    on_job_failed: Hook | None = None
    on_job_retry_scheduled: Hook | None = None
    on_lease_recovered: Hook | None = None
    on_lease_lost: Hook | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            hook: object = getattr(self, field.name)
            if hook is not None and not callable(hook):
                raise DefinitionError(f"{field.name} must be a function, got {type(hook).__name__}")


Happening = Literal["started", "completed", "failed", "retried", "released", "cancelled", "lost", "recovered"]


class Observer(Protocol):
    """Is told of everything at once, on the runner's own loop: for metrics. It must be quick, and must not block.

    Unlike a hook it costs no task. What it raises is logged, and changes nothing.
    """

    def observe(self, what: Happening, event: JobEvent) -> None:
        """Take note of what happened."""
        ...


class HookCalls:
    """Calls hooks beside the jobs, in tasks of the runner's group."""

    def __init__(self, hooks: Hooks, tasks: asyncio.TaskGroup) -> None:
        self._hooks = hooks
        self._tasks = tasks
        self._last: dict[str, asyncio.Task[None]] = {}
        self._threads = Threads(_MOST_THREADS, name="flowli-hook")

    def emit(self, name: HookName, event: JobEvent) -> None:
        """Call a hook, where there is one, after the earlier ones for the same job."""
        hook: Hook | None = getattr(self._hooks, name)
        if hook is None:
            return
        task = self._tasks.create_task(self._call(hook, name, event, self._last.get(event.id)))
        self._last[event.id] = task
        task.add_done_callback(lambda done: self._forget(event.id, done))

    def close(self) -> None:
        """Let go of the threads; call none after that."""
        self._threads.close()

    def _forget(self, job_id: str, task: asyncio.Task[None]) -> None:
        if self._last.get(job_id) is task:
            del self._last[job_id]

    async def _call(self, hook: Hook, name: HookName, event: JobEvent, earlier: asyncio.Task[None] | None) -> None:
        if earlier is not None:
            await asyncio.wait((earlier,))
        # A task of its own, in no group: a hook that ignores its cancellation would hold up whoever waits for it.
        calling = asyncio.create_task(_error_of(hook, event, self._threads))
        try:
            done, _ = await asyncio.wait((calling,), timeout=HOOK_TIMEOUT.total_seconds())
        finally:
            calling.cancel()
        error = calling.result() if done else TimeoutError(f"no longer waited for after {HOOK_TIMEOUT}")
        if error is not None:
            logger.warning("hook %s failed for job %s (%s)", name, event.id, event.name, exc_info=error)


async def _error_of(hook: Hook, event: JobEvent, threads: Threads) -> BaseException | None:
    """Call a hook; answer what it raised, its SystemExit too, for none of that may end the worker."""
    try:
        if inspect.iscoroutinefunction(hook):
            await hook(event)
            return None
        answer, error = await threads.call(hook, event)
        if answer is not None:
            await answer
    except BaseException as raised:  # noqa: BLE001 - see above
        return raised
    return error
