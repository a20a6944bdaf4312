"""One run of a runner, from its start to its stop: the loop between the store and the handlers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from flowli_core._attempt import Attempt, End
from flowli_core._link import Link, Lookout, Told, is_cancelled, pauses
from flowli_core._policy import (
    LastError,
    NewerVersionError,
    Policy,
    pack_progress,
    unpack_policy,
    unpack_progress,
)
from flowli_core._report import Report, RunCounts
from flowli_core._threads import Threads
from flowli_core._ticker import Declared, Ticker
from flowli_core._upkeep import Upkeep
from flowli_core.driver import Ack, Released
from flowli_core.durations import ZERO
from flowli_core.errors import StoreUnavailable, StrategyError
from flowli_core.hooks import Hooks, Observer
from flowli_core.retry import Fixed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine
    from datetime import datetime

    from flowli_core._runtime import Runtime
    from flowli_core.driver import Driver, Reserved

DRAIN = timedelta(seconds=10)

PARKED = timedelta(seconds=30)
"""For how long a record that this worker does not know how to run is given back."""

_LEAST_HALF = 25
"""A step asks for half of the slots, so that one half runs while the store is asked for the other; but not for so few
that the round trips cost more than the running."""

_MOST_AHEAD = 10
"""What a step that travels with a wait asks for at the most: a worker that died without a word may yet be given it."""

_TRIES_ONCE = 3
_LAST_WORDS = 2.0

_NO_POLICY = Policy(max_attempts=1, backoff=Fixed(delay=ZERO))
"""Of a record whose own cannot be read: it fails at once."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOptions:
    """What a runner was made with, checked."""

    concurrency: int
    queues: tuple[str, ...]
    lease: timedelta
    hooks: Hooks
    grace: timedelta
    stall_limit: timedelta
    on_stall: Callable[[], None] | None = None
    observers: tuple[Observer, ...] = ()
    remove_vanished_schedules: bool = False


class Session:
    """Steps, and runs what is reserved, until there is nothing left to do (`once`) or until it is stopped.

    `running` are the attempts that hold a slot, `held` those whose lease is renewed: from being reserved until the
    store has answered their ack.
    """

    def __init__(self, runtime: Runtime, options: RunnerOptions, *, once: bool) -> None:
        self._runtime = runtime
        self._options = options
        self._once = once
        worker = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.link = Link(runtime, worker=worker, queues=options.queues, lease=options.lease, keep=runtime.defaults.keep)
        self.running: set[Attempt] = set()
        self._held: dict[str, Attempt] = {}
        self._settled: list[tuple[Ack, Attempt | None]] = []
        self._sent: list[tuple[Ack, Attempt | None]] = []
        self._lookout = Lookout(self.link, on_told=self._take_ahead)
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._most_at_once = max((options.concurrency + 1) // 2, _LEAST_HALF)
        self._leave_at: float | None = None
        self._limit: asyncio.Timeout | None = None
        self._threads = Threads(options.concurrency, name="flowli-job")
        self._report: Report
        self._ticker: Ticker

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
        if self._held or self.link.last_error is None:
            # Otherwise nothing is left to do but to give back what a failed step may have reserved.
            latest += seconds + self._options.grace.total_seconds()
        self._leave_at = latest if self._leave_at is None else min(self._leave_at, latest)
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(self._leave_at)
        loop.call_later(seconds, self._end_all)
        self._stopping.set()
        self._lookout.wake()

    async def ended(self) -> None:
        """Wait until `serve` is over."""
        await self._ended.wait()

    async def _serve(self, driver: Driver) -> RunCounts:
        failure: Exception | None = None
        upkeep = Upkeep(
            driver=driver,
            worker=self.link.worker,
            lease=self._options.lease,
            stall_limit=self._options.stall_limit,
            held=lambda: list(self._held.values()),
            report=self._on_heartbeat,
            on_stall=self._options.on_stall,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                self._report = Report(
                    self._options.hooks, worker=self.link.worker, tasks=tasks, observers=self._options.observers
                )
                self._ticker = self._make_ticker(driver, tasks)
                try:
                    with upkeep:
                        await self._work_until_cancelled(tasks)
                except Exception as error:  # noqa: BLE001 - raised below: the task group would wrap it
                    failure = error
                finally:
                    self._let_go()
        finally:
            self._report.close()
            await upkeep.ended()
        if failure is not None:
            raise failure
        return self._report.counts()

    async def _within_limit(self, work: Coroutine[Any, Any, T]) -> T:
        """Do this, but no longer than a stop allows: also where the store hangs."""
        limit = self._limit = asyncio.timeout_at(self._leave_at)
        try:
            async with limit:
                return await work
        except TimeoutError:
            if not limit.expired():
                raise
            msg = f"the store did not answer in the time that the stop allowed ({self.link.last_error})"
            raise StoreUnavailable(msg) from None
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
            free = 0 if is_stopping else self._options.concurrency - len(self.running)
            is_owed = self._settled or self.link.is_unanswered or self._lookout.owes_step
            if self.link.owes_recall and not self._lookout.is_listening:
                self._take_ahead(await self._until_answered(self.link.recall))
            elif is_owed or (free and self._lookout.has_work):
                self._take(await self._step(min(free, self._most_at_once)))
            elif is_stopping and self._lookout.is_listening:
                self._lookout.hush()
                await self._lookout.wait()
            elif not self._held and (is_stopping or (self._once and self._is_all_settled())):
                if self._ticker.failure is not None:
                    raise self._ticker.failure
                return
            else:
                if free and not self._once:
                    want = min(free, _MOST_AHEAD)
                    self._lookout.listen(tasks, want=want, suspect=self._may_have_suspect())
                await self._lookout.wait()

    def _may_have_suspect(self) -> bool:
        return not any(attempt.reserved.suspect for attempt in self.running)

    async def _step(self, want: int) -> Told:
        """Exchange a step with the store, however long that takes."""

        async def exchange() -> Told:
            if self.link.is_unanswered:
                return await self.link.resend()
            self._sent, self._settled = self._settled, []
            self._lookout.asks(want)
            acks = [ack for ack, _ in self._sent]
            return await self.link.step(acks=acks, want=want, suspect=self._may_have_suspect())

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
        sent, self._sent = self._sent, []
        for (_, attempt), code in zip(sent, told.answer.acks, strict=True):
            if attempt is None:
                continue
            if code == "lost":
                self._lose(attempt)
            else:
                self._drop(attempt)
                self._report.accepted(attempt)
        self._take_ahead(told)

    def _take_ahead(self, told: Told) -> None:
        """Act on the answer to a step that came with a wait, or on the rest of another's; one may be under way now."""
        for recovered in told.answer.recovered:
            self._report.recovered(recovered)
        lease_until, store_time = told.since + self._options.lease.total_seconds(), self.link.store_time()
        for reserved in told.answer.reserved:
            self._start(reserved, lease_until=lease_until, store_time=store_time)
        self._lookout.hears(told.answer, is_full=len(self.running) >= self._options.concurrency)
        if (self._may_have_suspect() and not told.suspect) or self.link.is_nearly_forgotten:
            self._lookout.look()
        if not self._stopping.is_set():
            self._ticker.hears(told.answer)
        self._lookout.wake()

    def _start(self, reserved: Reserved, *, lease_until: float, store_time: datetime) -> None:
        is_late = time.monotonic() > lease_until - self._options.lease.total_seconds() / 10
        is_full = len(self.running) >= self._options.concurrency
        is_second_suspect = reserved.suspect and not self._may_have_suspect()
        if self._stopping.is_set() or is_late or is_full or is_second_suspect:
            # The runner is to end; or another has the record already, or nearly so; or two steps took the same place.
            self._settled.append((Ack(reserved.id, reserved.token, Released()), None))
            return
        definition = self._runtime.jobs.get(reserved.name)
        if definition is None:
            self._park(reserved, LastError("UnknownJob", f"this worker knows no job {reserved.name!r}"))
            return
        policy, refusal = _NO_POLICY, None
        try:
            policy = unpack_policy(reserved.policy)
        except NewerVersionError:
            self._park(reserved, LastError("NewerRecord", "written by a later release than this worker's"))
            return
        except ValueError as error:
            refusal = error
        earlier = self._held.get(reserved.id)
        if earlier is not None:
            # Its lease had ended unnoticed, and nobody but this runner took it over.
            self._end_lost(earlier)
        attempt = Attempt(
            reserved,
            definition=definition,
            rules=self._runtime.plans[reserved.name].retry,
            policy=policy,
            runtime=self._runtime,
            threads=self._threads,
            started_at=store_time,
            on_settled=self._on_settled,
            on_ended=self._on_ended,
        )
        attempt.lease_until = lease_until
        if refusal is not None:
            attempt.refuse(refusal)
        else:
            self.running.add(attempt)
            self._report.started(attempt)
            # Not in the task group: that would wait for ever for a handler that ignores its cancellation.
            attempt.task = asyncio.create_task(attempt.execute(grace=self._options.grace))
        # Last: from now on the thread may find it cancelled, and a task that is cancelled before it begins never does.
        self._held[reserved.id] = attempt

    def _park(self, reserved: Reserved, why: LastError) -> None:
        """Give back what another worker may know: a rolling deploy must neither lose nor fail a job."""
        self._report.parked(reserved, PARKED, why.message)
        progress = pack_progress(unpack_progress(reserved.progress).noted(why))
        self._settled.append((Ack(reserved.id, reserved.token, Released(PARKED, progress)), None))

    def _on_ended(self, attempt: Attempt) -> None:
        self.running.discard(attempt)
        if attempt.reserved.suspect:
            self._lookout.look()  # for another one, passed over because of this one
        self._lookout.wake()

    def _on_settled(self, attempt: Attempt) -> None:
        if isinstance(attempt.error, KeyboardInterrupt):
            self.begin_stop(DRAIN)
        if attempt.end_reason is not End.LEASE_LOST:
            self._settled.append((attempt.ack(), attempt))
        self._lookout.wake()

    def _on_heartbeat(self, lost: list[Attempt], cancelled: list[Attempt]) -> None:
        for attempt in lost:
            # A settled one is left to the answer to its ack, which may be on its way, or be why the lease is gone.
            if attempt.outcome is None:
                self._end_lost(attempt)
        for attempt in cancelled:
            attempt.end(End.CANCELLED, self._options.grace)

    def _end_lost(self, attempt: Attempt) -> None:
        attempt.end(End.LEASE_LOST, self._options.grace)
        self._lose(attempt)

    def _lose(self, attempt: Attempt) -> None:
        if self._drop(attempt):
            self._report.lost(attempt)
            self._lookout.wake()

    def _drop(self, attempt: Attempt) -> bool:
        # The same record may have been reserved here again after its lease was lost.
        is_held = self._held.get(attempt.reserved.id) is attempt
        if is_held:
            del self._held[attempt.reserved.id]
        return is_held

    def _is_all_settled(self) -> bool:
        return not self._ticker.is_busy and all(attempt.outcome is not None for attempt in self.running)

    def _make_ticker(self, driver: Driver, tasks: asyncio.TaskGroup) -> Ticker:
        declared = Declared(
            schedules=self._runtime.schedules,
            owner=self._runtime.owner,
            removes=self._options.remove_vanished_schedules,
        )
        return Ticker(
            driver, tasks, declared=declared, once=self._once, note=self.link.note_failure, look=self._lookout.look
        )

    def _end_all(self) -> None:
        for attempt in list(self.running):
            attempt.end(End.STOPPED, self._options.grace)

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
        self._held.clear()
        for attempt in self.running:
            self._report.left_behind(attempt)
            attempt.end(End.STOPPED, self._options.grace)
            if attempt.outcome is not None and attempt.task is not None:
                attempt.task.cancel()
