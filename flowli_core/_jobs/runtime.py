"""The runtime of a registry: its jobs, its driver, its context and its middleware."""

import asyncio
import contextvars
import difflib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from flowli_core import _checks
from flowli_core._current import CurrentJob, as_current
from flowli_core._jobs.collector import Collector
from flowli_core._jobs.context import CLOSED, ContextScope
from flowli_core._jobs.definition import Definition
from flowli_core._jobs.deliveries import Deliveries
from flowli_core._jobs.execution import CallHandler, Middleware, Replaced, call_handler, call_in_thread, call_through
from flowli_core._jobs.settings import Defaults, JobSettings
from flowli_core._jobs.tracer import Tracer
from flowli_core._jobs.watching import Watching, not_found
from flowli_core._loops import LoopLock, capture, run_on
from flowli_core._schedules.spec import ScheduleSpec
from flowli_core._sync import is_background
from flowli_core.driver import Driver
from flowli_core.errors import StrategyError, ValidationError
from flowli_core.outbox import Outbox
from flowli_core.stored import FINISHED, RecordById, RecordsById, StoredRecord


@dataclass(kw_only=True, eq=False)
class Runtime:
    """The jobs, driver, context and middleware of one registry. Opened when first needed, closed once.

    Any thread may call it, from an event loop of its own.

    `queues` are the declared queues, in the order in which a runner serves them: those of the jobs, the default queue,
    and those that the registry declares beside them.

    `registry` is the registry itself, and `owner` its name, which is stored with the schedules that it declares. `host`
    is the state of the application that has opened this runtime, if one has: see `embedded`. `variables` are the
    context variables with which jobs and hooks begin: those at the creation of the registry, because a runner may be
    started in a request.
    """

    jobs: Mapping[str, Definition]
    settings: Mapping[str, JobSettings]
    queues: tuple[str, ...]
    schedules: tuple[ScheduleSpec, ...]
    registry: object
    owner: str
    driver: Driver | None
    context: ContextScope
    defaults: Defaults
    tracer: Tracer | None
    middleware: tuple[Middleware[Any], ...] = ()
    outbox: Outbox | None = None
    collector: Collector = field(default_factory=Collector)
    watching: Watching = field(default_factory=Watching)
    host: object = None
    variables: contextvars.Context = field(default_factory=contextvars.copy_context)
    _open_lock: LoopLock = field(default_factory=LoopLock)
    _is_open: bool = False
    _is_closed: bool = False
    deliveries: Deliveries | None = field(init=False)
    """Sends the records of the outbox, if there is one."""
    call_handler: CallHandler = field(init=False)
    """Calls a handler, through the middleware if there is any."""
    _by_alias: Mapping[str, Definition] = field(init=False)

    def __post_init__(self) -> None:
        self.deliveries = None if self.outbox is None else Deliveries(self.outbox, self.store)
        self.call_handler = partial(call_through, self.middleware) if self.middleware else call_handler
        self._by_alias = {alias: job for job in self.jobs.values() for alias in job.aliases}

    @property
    def known_names(self) -> tuple[str, ...]:
        """The names under which records are run here: those of the jobs, and their aliases."""
        return (*self.jobs, *self._by_alias)

    def find_definition(self, name: str) -> Definition | None:
        """Return the job of this name, or the job that has it among its aliases, or None."""
        return self.jobs.get(name) or self._by_alias.get(name)

    def check_queue(self, queue: str) -> None:
        """Refuse a queue that is not declared, because no worker may serve it. Raises ValidationError."""
        if queue not in self.queues:
            registry = self.owner.rpartition(".")[2]
            near = difflib.get_close_matches(queue, self.queues, n=1)
            cure = f"did you mean {near[0]!r}?" if near else f"declare it in {registry}: queues = ({queue!r},)"
            raise _checks.internal(ValidationError(f"{registry} declares no queue {queue!r}; {cure}"))

    async def store(self) -> Driver:
        """Return the driver, opened. Raises StrategyError if there is none, or after `close`."""
        driver = self.require_driver()
        self._refuse_closed()
        if not self._is_open:
            async with self._open_lock:
                self._refuse_closed()
                if not self._is_open:
                    await driver.open()
                    self._is_open = True
        return driver

    async def find_record(self, id: str) -> StoredRecord | None:
        """Return the stored record with this id, or None. Raises ValidationError for an invalid id."""
        query = RecordById(_checks.record_id(id))
        found = (await (await self.current_store()).records(query)).records
        return found[0] if found else None

    async def find_state(self, id: str) -> StoredRecord | None:
        """Return the stored record with this id, without its input, meta and log, or None."""
        found = (await (await self.current_store()).records(RecordsById(ids=(id,)))).records
        return found[0] if found else None

    async def follow(self, id: str) -> AsyncGenerator[StoredRecord]:
        """Yield a record as `find_state` does, and again after each change, until it has finished.

        One wait serves all callers of this event loop. Raises RecordNotFound if there is no such record.
        """
        await self.current_store()
        async with self.watching.follow(self.store, id) as follower:
            while True:
                stored = await follower.next()
                if stored is None:
                    raise not_found(id)
                yield stored
                if stored.state in FINISHED:
                    return

    async def current_store(self) -> Driver:
        """Return the driver, as `store` does, once it has the jobs that were just committed on this event loop."""
        if self.deliveries is not None:
            await self.deliveries.stored()
        return await self.store()

    def require_driver(self) -> Driver:
        """Return the driver, open or not. Raises StrategyError if there is none."""
        if self.driver is None:
            raise StrategyError(
                "this registry has no driver, and only run() works without one: AppJobs(..., driver=MemoryDriver())"
            )
        return self.driver

    def require_deliveries(self) -> Deliveries:
        """Return the way through the outbox. Raises StrategyError if there is no outbox, or no driver."""
        self.require_driver()
        if self.deliveries is None:
            raise StrategyError(
                "this registry has no outbox for the jobs of a session: AppJobs(..., outbox=SqlOutbox(engine, table)), "
                "with `from flowli_core.sqlalchemy import SqlOutbox, outbox_table`"
            )
        return self.deliveries

    async def open(self) -> None:
        """Open the driver, if there is one, and make the shared context."""
        self._refuse_closed()
        if self.driver is not None:
            await self.store()
        await self.context.open()

    async def close(self) -> None:
        """Close the context, and the driver if it was opened here. A second call does nothing."""
        if self.deliveries is not None:
            await self.deliveries.close()
        self._is_closed = True
        await self.watching.close()
        try:
            await self.context.close()
        finally:
            # Wait for an `open` that is under way: nobody else would close the driver after it.
            async with self._open_lock:
                if self._is_open and self.driver is not None:
                    self._is_open = False
                    await self.driver.close()

    def reopen(self) -> None:
        """Let a closed runtime be opened again, even on another event loop: an application may be started twice."""
        if self._is_closed and not self._is_open:
            self._is_closed = False
            self.context.reopen()

    async def run(self, definition: Definition, *, input: object, meta: object, queue: str | None = None) -> Any:
        """Call a handler directly, without the store, with the context that a worker would give it.

        Raises its exceptions.
        """
        self._refuse_closed()
        queue = queue or self.settings[definition.name].queue
        current = CurrentJob(id="run", name=definition.name, queue=queue, _registry=self.registry)
        loop, running = self.context.loop, asyncio.get_running_loop()
        if loop is None or loop is running or not loop.is_running() or not is_background(running):
            return await self._run(definition, input, meta, current)
        result, error = await run_on(loop, capture(self._run(definition, input, meta, current)))
        if error is None:
            return result
        try:
            raise error
        finally:
            del error  # Its traceback refers to this frame.

    async def _run(self, definition: Definition, input: object, meta: object, current: CurrentJob) -> Any:
        with as_current(current):
            async with self.context.execution() as ctx:
                result = await self.call_handler(definition, input=input, meta=meta, ctx=ctx, in_thread=call_in_thread)
        return result.checked(definition) if isinstance(result, Replaced) else result

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise StrategyError(CLOSED)
