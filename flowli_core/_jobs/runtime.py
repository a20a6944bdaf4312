"""What stands behind a registry: its driver, its context, its defaults, and how its jobs are run in process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flowli_core import _checks
from flowli_core._current import CurrentJob, as_current
from flowli_core._jobs.context import ContextScope
from flowli_core._jobs.definition import Definition
from flowli_core._jobs.outbox import Outbox
from flowli_core._jobs.tracer import Tracer
from flowli_core._schedules.spec import Planned
from flowli_core._wire.policy import Policy, pack_policy
from flowli_core.driver import Driver, Keep
from flowli_core.durations import Duration, duration
from flowli_core.errors import StrategyError
from flowli_core.retry import Retry

MOST_RECOVERIES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What holds for each job of a runtime that says nothing else. Raises DefinitionError for what cannot be.

    A finished record is removed once it is older than `keep_completed` or `keep_failed` (which holds for cancelled ones
    too), or once there are more of its state than `keep` allows. After more than `max_recoveries` lost
    workers a record fails.
    """

    retry: Retry = Retry()  # noqa: RUF009 - frozen, so safe to share
    timeout: Duration | None = None
    queue: str = "default"
    keep_completed: Duration = "1h"
    keep_failed: Duration = "14d"
    keep: Keep = Keep()  # noqa: RUF009 - frozen, so safe to share
    max_recoveries: int = 3

    def __post_init__(self) -> None:
        _checks.instance(self.retry, Retry, argument="retry")
        _checks.name(self.queue, argument="queue")
        if self.timeout is not None:
            duration(self.timeout, argument="timeout")
        duration(self.keep_completed, argument="keep_completed", zero=True)
        duration(self.keep_failed, argument="keep_failed", zero=True)
        _checks.whole_number(self.max_recoveries, argument="max_recoveries", low=0, high=MOST_RECOVERIES)
        for state in ("completed", "failed", "cancelled"):
            _checks.whole_number(getattr(self.keep, state, None), argument=f"keep.{state}", low=0, high=10**9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How records of one job are made: the job's settings over the runtime's."""

    retry: Retry
    timeout: timedelta | None
    queue: str
    keep_completed: timedelta
    keep_failed: timedelta
    max_recoveries: int
    policy: bytes


class Runtime:
    """One registry's driver, context and jobs. Opened lazily, closed once."""

    def __init__(
        self,
        *,
        jobs: Mapping[str, Definition],
        driver: Driver | None,
        context: ContextScope,
        defaults: Defaults,
        owner: str = "",
    ) -> None:
        self.jobs = jobs
        self.owner = owner
        """The name of the registry, by which the schedules that it declares are known."""
        self.schedules: tuple[Planned, ...] = ()
        self.context = context
        self.defaults = defaults
        self.outbox = Outbox()
        self.plans = {name: _plan(definition, defaults) for name, definition in jobs.items()}
        self.tracer: Tracer | None = None
        self.host: object = None
        """What `embedded` knows of the application that has opened this runtime."""
        self._driver = driver
        self._open_lock = asyncio.Lock()
        self._is_open = False
        self._is_closed = False

    async def store(self) -> Driver:
        """Answer the open driver. Raises StrategyError where there is none, or after `close`."""
        driver = self.require_driver()
        self._refuse_closed()
        if not self._is_open:
            async with self._open_lock:
                if not self._is_open:
                    await driver.open()
                    self._is_open = True
        return driver

    def require_driver(self) -> Driver:
        """Answer the driver, open or not. Raises StrategyError where there is none."""
        if self._driver is None:
            raise StrategyError("this runtime has no driver: AppJobs(..., driver=MemoryDriver()); run() needs none")
        return self._driver

    async def open(self) -> None:
        """Open the driver, where there is one, and make the shared context."""
        self._refuse_closed()
        if self._driver is not None:
            await self.store()
        await self.context.open()

    async def close(self) -> None:
        """Close the context, and the driver if it was opened here. Again does nothing."""
        self._is_closed = True
        try:
            await self.context.close()
        finally:
            # Not while it is being opened: nobody would close it then.
            async with self._open_lock:
                if self._is_open and self._driver is not None:
                    self._is_open = False
                    await self._driver.close()

    def reopen(self) -> None:
        """Let a closed runtime be opened again, on another event loop perhaps: an application may start twice."""
        if self._is_closed and not self._is_open:
            self._is_closed = False
            self._open_lock = asyncio.Lock()
            self.context.reopen()

    async def run(self, definition: Definition, *, input: object, meta: object, queue: str | None = None) -> Any:
        """Call a handler here and now, with the runtime's context; its error is the caller's."""
        self._refuse_closed()
        plan = self.plans[definition.name]
        current = CurrentJob(id="run", name=definition.name, queue=queue or plan.queue)
        with as_current(current):
            async with self.context.execution() as ctx:
                return await call(definition, input=input, meta=meta, ctx=ctx)

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise StrategyError("this runtime is closed; make a new one")


async def call(definition: Definition, *, input: object, meta: object, ctx: object) -> Any:
    """Call a handler with what it asks for: a coroutine here, a plain function in a thread."""
    given = {"input": input, "meta": meta, "ctx": ctx}
    arguments = {name: given[name] for name in definition.parameters}
    if definition.is_async:
        return await definition.handler(**arguments)
    return await asyncio.to_thread(_in_thread, definition.handler, arguments)


def _in_thread(handler: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        return handler(**arguments)
    except StopIteration as error:
        # No future can carry it. A coroutine that raises one ends in the same way.
        raise RuntimeError("the handler raised StopIteration") from error


def _plan(definition: Definition, defaults: Defaults) -> Plan:
    retry = definition.retry or defaults.retry
    keep_completed, keep_failed = definition.keep_completed, definition.keep_failed
    timeout = definition.timeout
    if timeout is None and defaults.timeout is not None:
        timeout = duration(defaults.timeout, argument="timeout")
    if keep_completed is None:
        keep_completed = duration(defaults.keep_completed, argument="keep_completed", zero=True)
    if keep_failed is None:
        keep_failed = duration(defaults.keep_failed, argument="keep_failed", zero=True)
    return Plan(
        retry=retry,
        timeout=timeout,
        queue=definition.queue or defaults.queue,
        keep_completed=keep_completed,
        keep_failed=keep_failed,
        max_recoveries=defaults.max_recoveries,
        policy=pack_policy(Policy(max_attempts=retry.max_attempts, backoff=retry.backoff, timeout=timeout)),
    )
