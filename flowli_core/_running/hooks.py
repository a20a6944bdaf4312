"""Hooks and observers: functions that a runner calls when something has happened to a job. They cannot change it."""

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Literal, Protocol

from flowli_core._logger import logger
from flowli_core._running.threads import Threads
from flowli_core.durations import format_duration
from flowli_core.errors import DefinitionError

HOOK_TIMEOUT = timedelta(seconds=5)
"""The time limit of a hook. After that an async hook is cancelled; a plain one keeps its thread, and is not awaited."""

_MAX_THREADS = 8

HookName = Literal[
    "on_job_started",
    "on_job_completed",
    "on_job_failed",
    "on_job_retry_scheduled",
    "on_job_expired",
    "on_lease_recovered",
    "on_lease_lost",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """Something that happened to a job.

    `error` is set if an attempt failed, `retry_in` if another attempt follows, `duration` if the handler has ended.
    `attempt` counts from 1. It is 0 for a recovered lease, because this worker does not know the attempts of others,
    and for an expired or damaged record.
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
    """Functions that a runner calls. Each may be async, or plain: then it runs in a thread.

    The hooks of one job are called in order. on_job_completed, on_job_failed (no retry follows) and
    on_job_retry_scheduled are called once the store has accepted the outcome. on_lease_recovered is called when this
    runner has recovered the expired lease of another worker; if the job fails because of it, on_job_failed follows,
    with a LeaseLost as the error. on_job_failed is also called, with a StoreDamaged and no name, for a record that this
    runner has set aside because it cannot be read. on_lease_lost is called when this runner has lost a lease.
    on_job_expired is called when this runner has cancelled a job that expired before a worker began it.
    """

    on_job_started: Hook | None = None
    on_job_completed: Hook | None = None
    on_job_failed: Hook | None = None
    on_job_retry_scheduled: Hook | None = None
    on_job_expired: Hook | None = None
    on_lease_recovered: Hook | None = None
    on_lease_lost: Hook | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            hook: object = getattr(self, field.name)
            if hook is not None and not callable(hook):
                raise DefinitionError(f"{field.name} must be a function, got {type(hook).__name__}")


EventKind = Literal[
    "started", "completed", "failed", "retried", "released", "cancelled", "lost", "recovered", "expired"
]


class Observer(Protocol):
    """An object that a runner calls directly on its event loop, for metrics: it must be quick and must not block.

    Unlike a hook it costs no task. An error that it raises is logged.
    """

    def observe(self, kind: EventKind, event: JobEvent, /) -> None:
        """Record that something has happened to a job."""
        ...


class HookCalls:
    """Calls the hooks, in tasks of the run's task group that begin with these context variables."""

    def __init__(self, hooks: Hooks, tasks: asyncio.TaskGroup, *, variables: contextvars.Context) -> None:
        self._hooks = hooks
        self._tasks = tasks
        self._variables = variables
        self._last: dict[str, asyncio.Task[None]] = {}
        self._threads = Threads(_MAX_THREADS, name="flowli-hook")
        self.names = {field.name for field in fields(hooks) if getattr(hooks, field.name) is not None}

    def emit(self, name: HookName, event: JobEvent) -> None:
        """Call a hook, if it is set, once the earlier hooks of the same job have returned."""
        hook: Hook | None = getattr(self._hooks, name)
        if hook is None:
            return
        call = self._call(hook, name, event, self._last.get(event.id))
        task = self._tasks.create_task(call, context=self._variables.copy())
        self._last[event.id] = task
        task.add_done_callback(lambda done: self._forget(event.id, done))

    def close(self) -> None:
        """End the threads of plain hooks. No hook may be called after that."""
        self._threads.close()

    def _forget(self, job_id: str, task: asyncio.Task[None]) -> None:
        if self._last.get(job_id) is task:
            del self._last[job_id]

    async def _call(self, hook: Hook, name: HookName, event: JobEvent, earlier: asyncio.Task[None] | None) -> None:
        if earlier is not None:
            await asyncio.wait((earlier,))
        # Not in the task group, which would wait for a hook that ignores its cancellation.
        calling = asyncio.create_task(_error_of(hook, event, self._threads))
        try:
            done, _ = await asyncio.wait((calling,), timeout=HOOK_TIMEOUT.total_seconds())
        finally:
            calling.cancel()
        limit = format_duration(HOOK_TIMEOUT)
        error = calling.result() if done else TimeoutError(f"the hook did not return within {limit}")
        if error is not None:
            logger.warning(
                "hook %s failed for job %s (%s), whose outcome stays as it is",
                name,
                event.id,
                event.name,
                exc_info=error,
            )


async def _error_of(hook: Hook, event: JobEvent, threads: Threads) -> BaseException | None:
    """Call a hook, and return the error that it raised. Not even a SystemExit may end the worker."""
    try:
        if inspect.iscoroutinefunction(hook):
            await hook(event)
            return None
        result, error = await threads.call(hook, event)
        if inspect.isawaitable(result):
            await result
    except BaseException as raised:  # noqa: BLE001 - returned
        return raised
    return error
