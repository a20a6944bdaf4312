"""One run of a runner, from its start to its stop: the loop between the store and the handlers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from flowli_core._jobs.runtime import Runtime
from flowli_core._pauses import is_cancelled, pauses
from flowli_core._running.events import Events, RunCounts
from flowli_core._running.hooks import Hooks, Observer
from flowli_core._running.leases import LeaseRenewer
from flowli_core._running.slots import Slots
from flowli_core._running.steps import Link, Lookout, Told
from flowli_core._running.threads import Threads
from flowli_core._running.ticker import Ticker
from flowli_core.driver import Driver
from flowli_core.durations import ZERO
from flowli_core.errors import StoreUnavailable, StrategyError

DRAIN = timedelta(seconds=10)

_LEAST_HALF = 25
"""A step asks for half of the slots, so that one half runs while the store is asked for the other; but not for so few
that the round trips cost more than the running."""

_MOST_AHEAD = 10
"""What a step that travels with a wait asks for at the most: a worker that died without a word may yet be given it."""

_TRIES_ONCE = 3
_LAST_WORDS = 2.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOptions:
    """What a runner was made with, checked."""

    concurrency: int
    queues: tuple[str, ...]
    lease: timedelta
    hooks: Hooks
    cancel_grace: timedelta
    stall_limit: timedelta
    on_stall: Callable[[], None] | None = None
    observers: tuple[Observer, ...] = ()
    remove_vanished_schedules: bool = False


class Session:
    """Steps, and runs what is reserved, until there is nothing left to do (`once`) or until it is stopped."""

    def __init__(self, runtime: Runtime, options: RunnerOptions, *, once: bool) -> None:
        self._runtime = runtime
        self._options = options
        self._once = once
        worker = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.link = Link(runtime, worker=worker, queues=options.queues, lease=options.lease, keep=runtime.defaults.keep)
        self._lookout = Lookout(self.link, on_told=self._take_ahead)
        self._threads = Threads(options.concurrency, name="flowli-job")
        self._slots = Slots(
            runtime,
            threads=self._threads,
            concurrency=options.concurrency,
            lease=options.lease,
            cancel_grace=options.cancel_grace,
            wake=self._lookout.wake,
            step_soon=self._lookout.look,
            on_interrupt=lambda: self.begin_stop(DRAIN),
        )
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._most_at_once = max((options.concurrency + 1) // 2, _LEAST_HALF)
        self._leave_at: float | None = None
        self._limit: asyncio.Timeout | None = None
        self._events: Events
        self._ticker: Ticker

    @property
    def active(self) -> int:
        """How many handlers run now."""
        return len(self._slots.running)

    async def serve(self) -> RunCounts:
        """Open the runtime and serve. What the store throws ends it only where it runs `once`, or is to leave."""
        try:
            driver = await self._within_limit(self._open())
            return RunCounts() if driver is None else await self._serve(driver)
        finally:
            self._threads.close()
            self._ended.set()

    def begin_stop(self, drain: timedelta) -> None:
        """Reserve no more, and end what still runs after `drain`."""
        loop, seconds = asyncio.get_running_loop(), drain.total_seconds()
        latest = loop.time() + _LAST_WORDS
        if self._slots.held or self.link.last_error is None:
            # Otherwise nothing is left to do but to give back what a failed step may have reserved.
            latest += seconds + self._options.cancel_grace.total_seconds()
        self._leave_at = latest if self._leave_at is None else min(self._leave_at, latest)
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(self._leave_at)
        loop.call_later(seconds, self._slots.stop_all)
        self._stopping.set()
        self._lookout.wake()

    async def ended(self) -> None:
        """Wait until `serve` is over."""
        await self._ended.wait()

    async def _serve(self, driver: Driver) -> RunCounts:
        failure: Exception | None = None
        renewer = LeaseRenewer(
            self._slots,
            driver=driver,
            worker=self.link.worker,
            lease=self._options.lease,
            stall_limit=self._options.stall_limit,
            on_stall=self._options.on_stall,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                self._events = self._slots.events = Events(
                    self._options.hooks, worker=self.link.worker, tasks=tasks, observers=self._options.observers
                )
                self._ticker = self._make_ticker(driver, tasks)
                try:
                    with renewer:
                        await self._work_until_cancelled(tasks)
                except Exception as error:  # noqa: BLE001 - raised below: the task group would wrap it
                    failure = error
                finally:
                    self._let_go()
        finally:
            self._events.close()
            await renewer.ended()
        if failure is not None:
            raise failure
        return self._events.counts()

    async def _within_limit(self, work: Coroutine[Any, Any, T]) -> T:
        """Do this, but no longer than a stop allows: also where the store hangs."""
        limit = self._limit = asyncio.timeout_at(self._leave_at)
        try:
            async with limit:
                return await work
        except TimeoutError:
            if not limit.expired():
                raise
            raise StoreUnavailable(
                f"the store did not answer in the time that the stop allowed ({self.link.last_error})"
            ) from None
        finally:
            self._limit = None

    async def _open(self) -> Driver | None:
        for pause in pauses():
            try:
                await self._runtime.open()
                return await self._runtime.store()
            except StoreUnavailable as error:
                if self._once:
                    raise
                self.link.note_failure(error)
            await self._pause(pause)
            if self._stopping.is_set():
                break
        return None

    async def _work_until_cancelled(self, tasks: asyncio.TaskGroup) -> None:
        try:
            await self._within_limit(self._work(tasks))
        except asyncio.CancelledError:
            # Gives back what is held. A second cancellation leaves at once; the leases end by themselves then.
            self.begin_stop(ZERO)
            with contextlib.suppress(Exception):  # the link has said what the store has against it
                await self._within_limit(self._work(tasks))
            raise

    async def _work(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            is_stopping = self._stopping.is_set()
            free = 0 if is_stopping else self._options.concurrency - len(self._slots.running)
            is_owed = self._slots.has_acks or self.link.is_unanswered or self._lookout.owes_step
            if self.link.owes_recall and not self._lookout.is_listening:
                self._take_ahead(await self._until_answered(self.link.recall))
            elif is_owed or (free and self._lookout.has_work):
                self._take(await self._step(min(free, self._most_at_once)))
            elif is_stopping and self._lookout.is_listening:
                self._lookout.hush()
                await self._lookout.wait()
            elif not self._slots.held and (is_stopping or (self._once and self._is_all_settled())):
                if self._ticker.failure is not None:
                    raise self._ticker.failure
                return
            else:
                if free and not self._once:
                    want = min(free, _MOST_AHEAD)
                    self._lookout.listen(tasks, want=want, suspect=self._slots.can_take_suspect)
                await self._lookout.wait()

    async def _step(self, want: int) -> Told:
        """Exchange a step with the store, however long that takes."""

        async def exchange() -> Told:
            if self.link.is_unanswered:
                return await self.link.resend()
            self._lookout.asks(want)
            return await self.link.step(acks=self._slots.take_acks(), want=want, suspect=self._slots.can_take_suspect)

        return await self._until_answered(exchange)

    async def _until_answered(self, ask: Callable[[], Awaitable[Told]]) -> Told:
        failures = 0
        for pause in pauses():
            try:
                return await ask()
            except StrategyError:
                raise  # The registry was closed: no store to wait for.
            except (Exception, asyncio.CancelledError) as error:
                failures += 1
                if is_cancelled(error) or (self._once and failures >= _TRIES_ONCE):
                    raise
                self.link.note_failure(error)
            await self._pause(pause)
        raise AssertionError("pauses never end")

    def _take(self, told: Told) -> None:
        """Act on what the store answered."""
        self._slots.apply_answers(told.answer.acks)
        self._take_ahead(told)

    def _take_ahead(self, told: Told) -> None:
        """Act on the answer to a step that came with a wait, or on the rest of another's; one may be under way now."""
        for recovered in told.answer.recovered:
            self._events.recovered(recovered)
        lease_until, store_time = told.since + self._options.lease.total_seconds(), self.link.store_time()
        for reserved in told.answer.reserved:
            if self._stopping.is_set():
                self._slots.release(reserved)
            else:
                self._slots.start(reserved, lease_until=lease_until, store_time=store_time)
        self._lookout.hears(told.answer, is_full=self._slots.is_full)
        if self._slots.can_take_suspect and not told.suspect:
            self._lookout.look()
        if not self._stopping.is_set():
            self._ticker.after_step(told.answer)
        self._lookout.wake()

    def _is_all_settled(self) -> bool:
        return not self._ticker.is_busy and self._slots.is_settled

    def _make_ticker(self, driver: Driver, tasks: asyncio.TaskGroup) -> Ticker:
        return Ticker(
            driver,
            tasks,
            schedules=self._runtime.schedules,
            owner=self._runtime.owner,
            remove_undeclared=self._options.remove_vanished_schedules,
            once=self._once,
            on_error=self.link.note_failure,
            step_soon=self._lookout.look,
        )

    async def _pause(self, seconds: float) -> None:
        """Sleep, yet not past the moment when a stop begins."""
        if self._stopping.is_set():
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _let_go(self) -> None:
        """End what would outlive the session. A handler that ignores that is named in the log, and left behind."""
        self._lookout.close()
        self._ticker.close()
        self._slots.abandon_all()
