"""One run of a runner, from its start to its stop: the loop between the store and the handlers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from flowli_core._attempt import Attempt, End
from flowli_core._link import FIRST_PAUSE, Link, pauses
from flowli_core._policy import (
    LastError,
    NewerVersionError,
    describe_error,
    pack_progress,
    unpack_policy,
    unpack_progress,
)
from flowli_core._report import Report, RunCounts
from flowli_core._upkeep import Upkeep
from flowli_core.driver import Ack, Failed, Released
from flowli_core.durations import ZERO
from flowli_core.errors import StoreUnavailable
from flowli_core.hooks import Hooks

if TYPE_CHECKING:
    from flowli_core._policy import Policy
    from flowli_core._runtime import Runtime
    from flowli_core.driver import Driver, Reserved, StepAnswer

DRAIN = timedelta(seconds=10)

PARKED = timedelta(seconds=30)
"""For how long a record that this worker does not know how to run is given back."""

IDLE = timedelta(seconds=5)
"""How long an idle runner waits before it looks again: what a dead worker left behind is found no later than this."""

_TRIES_ONCE = 3
_LAST_WORDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOptions:
    """What a runner was made with, checked."""

    concurrency: int
    queues: tuple[str, ...]
    lease: timedelta
    hooks: Hooks
    grace: timedelta
    stall_limit: timedelta


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
        self._has_work = True
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._leave_at = float("inf")
        self._listener: asyncio.Task[None] | None = None
        self._look_again: asyncio.TimerHandle | None = None
        self._executor = ThreadPoolExecutor(options.concurrency, thread_name_prefix="flowli-job")
        self._report: Report

    async def serve(self) -> RunCounts:
        """Open the runtime and serve. What the store throws ends it only where it runs `once`, or is to leave."""
        try:
            driver = await self._open()
            return RunCounts() if driver is None else await self._serve(driver)
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._ended.set()

    def begin_stop(self, drain: timedelta) -> None:
        """Reserve no more, and end what still runs after `drain`."""
        seconds = drain.total_seconds()
        latest = time.monotonic() + seconds + self._options.grace.total_seconds() + _LAST_WORDS
        self._leave_at = min(self._leave_at, latest)
        asyncio.get_running_loop().call_later(seconds, self._end_all)
        self._stopping.set()
        self._wake.set()

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
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                self._report = Report(self._options.hooks, worker=self.link.worker, tasks=tasks)
                try:
                    with upkeep:
                        await self._work_until_cancelled(driver, tasks)
                except Exception as error:  # noqa: BLE001 - raised below: the task group would wrap it
                    failure = error
                finally:
                    self._let_go()
        finally:
            await upkeep.ended()
        if failure is not None:
            raise failure
        return self._report.counts()

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

    async def _work_until_cancelled(self, driver: Driver, tasks: asyncio.TaskGroup) -> None:
        try:
            await self._work(driver, tasks)
        except asyncio.CancelledError:
            # Gives back what is held. A second cancellation leaves at once; the leases end by themselves then.
            self.begin_stop(ZERO)
            with contextlib.suppress(Exception):  # the link has said what the store has against it
                await self._work(driver, tasks)
            raise

    async def _work(self, driver: Driver, tasks: asyncio.TaskGroup) -> None:
        while True:
            is_stopping = self._stopping.is_set()
            free = 0 if is_stopping else self._options.concurrency - len(self.running)
            if self._settled or self.link.is_unanswered or (free and self._has_work):
                self._take(await self._step(free))
            elif not self._held and (is_stopping or (self._once and not self.running)):
                return
            else:
                if free and not self._once and self._listener is None:
                    self._listener = tasks.create_task(self._listen(driver))
                await self._wake.wait()
                self._wake.clear()

    async def _step(self, want: int) -> StepAnswer:
        """Exchange a step with the store, however long that takes."""
        failures = 0
        for pause in pauses():
            try:
                if self.link.is_unanswered:
                    return await self.link.resend()
                self._sent, self._settled = self._settled, []
                # Before it is sent: a wake-up that comes while it is under way is about what it may have missed.
                self._has_work = self._has_work and not want
                suspect = not any(attempt.reserved.suspect for attempt in self.running)
                return await self.link.step(acks=[ack for ack, _ in self._sent], want=want, suspect=suspect)
            except Exception as error:
                failures += 1
                self.link.note_failure(error)
                if (self._once and failures >= _TRIES_ONCE) or time.monotonic() > self._leave_at:
                    raise
            await self._pause(pause)
        raise AssertionError("pauses never end")

    def _take(self, answer: StepAnswer) -> None:
        """Act on what the store answered."""
        sent, self._sent = self._sent, []
        for (_, attempt), code in zip(sent, answer.acks, strict=True):
            if attempt is None:
                continue
            if code == "lost":
                self._lose(attempt)
            else:
                self._drop(attempt)
                self._report.accepted(attempt)
        for recovered in answer.recovered:
            self._report.recovered(recovered)
        for reserved in answer.reserved:
            self._start(reserved)
        self._has_work = self._has_work or answer.next_due == ZERO
        self._arm(answer.next_due)

    def _start(self, reserved: Reserved) -> None:
        if self._stopping.is_set():
            self._settled.append((Ack(reserved.id, reserved.token, Released()), None))
            return
        definition = self._runtime.jobs.get(reserved.name)
        if definition is None:
            self._park(reserved, LastError("UnknownJob", f"this worker knows no job {reserved.name!r}"))
            return
        policy = self._policy(reserved)
        if policy is None:
            return
        attempt = Attempt(
            reserved,
            definition=definition,
            rules=self._runtime.plans[reserved.name].retry,
            policy=policy,
            runtime=self._runtime,
            executor=self._executor,
            started_at=self.link.store_time(),
            on_settled=self._on_settled,
            on_ended=self._on_ended,
        )
        attempt.lease_until = attempt.started + self._options.lease.total_seconds()
        self.running.add(attempt)
        self._held[reserved.id] = attempt
        self._report.started(attempt)
        # Not in the task group: that would wait for ever for a handler that ignores its cancellation.
        attempt.task = asyncio.create_task(attempt.execute(grace=self._options.grace))

    def _policy(self, reserved: Reserved) -> Policy | None:
        try:
            return unpack_policy(reserved.policy)
        except NewerVersionError:
            self._park(reserved, LastError("NewerRecord", "written by a later release than this worker's"))
        except ValueError as error:
            failed = Failed(pack_progress(unpack_progress(reserved.progress).failed(describe_error(error))))
            self._settled.append((Ack(reserved.id, reserved.token, failed), None))
        return None

    def _park(self, reserved: Reserved, why: LastError) -> None:
        """Give back what another worker may know: a rolling deploy must neither lose nor fail a job."""
        self._report.parked(reserved, PARKED, why.message)
        progress = pack_progress(unpack_progress(reserved.progress).noted(why))
        self._settled.append((Ack(reserved.id, reserved.token, Released(PARKED, progress)), None))

    def _on_ended(self, attempt: Attempt) -> None:
        self.running.discard(attempt)
        self._wake.set()

    def _on_settled(self, attempt: Attempt) -> None:
        if isinstance(attempt.error, KeyboardInterrupt):
            self.begin_stop(DRAIN)
        if attempt.end_reason is not End.LEASE_LOST:
            self._settled.append((attempt.ack(), attempt))
        self._wake.set()

    def _on_heartbeat(self, lost: list[Attempt], cancelled: list[Attempt]) -> None:
        for attempt in lost:
            # A settled one is left to the answer to its ack, which may be on its way, or be why the lease is gone.
            if attempt.outcome is None:
                attempt.end(End.LEASE_LOST, self._options.grace)
                self._lose(attempt)
        for attempt in cancelled:
            attempt.end(End.CANCELLED, self._options.grace)

    def _lose(self, attempt: Attempt) -> None:
        if self._drop(attempt):
            self._report.lost(attempt)
            self._wake.set()

    def _drop(self, attempt: Attempt) -> bool:
        # The same record may have been reserved here again after its lease was lost.
        is_held = self._held.get(attempt.reserved.id) is attempt
        if is_held:
            del self._held[attempt.reserved.id]
        return is_held

    async def _listen(self, driver: Driver) -> None:
        try:
            await driver.wait(self._options.queues, IDLE)
        except Exception as error:  # noqa: BLE001 - the step that follows meets the same trouble, and has the patience
            self.link.note_failure(error)
            await asyncio.sleep(FIRST_PAUSE)
        self._listener = None
        self._look()

    def _look(self) -> None:
        self._has_work = True
        self._wake.set()

    def _arm(self, next_due: timedelta | None) -> None:
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None
        if next_due:
            delay = min(next_due, IDLE).total_seconds()
            self._look_again = asyncio.get_running_loop().call_later(delay, self._look)

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
        if self._listener is not None:
            self._listener.cancel()
        self._arm(None)
        for attempt in self.running:
            self._report.left_behind(attempt)
            if attempt.task is not None:
                attempt.task.cancel()
