"""One run of a runner, from its start to its end: the loop between the store and the handlers."""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import assert_never

from flowli_core._jobs.runtime import Runtime
from flowli_core._pauses import keep_trying
from flowli_core._running.batches import Batches
from flowli_core._running.events import Events, RunCounts
from flowli_core._running.hooks import HookCalls
from flowli_core._running.leases import MAX_INTERVAL, LeaseRenewer
from flowli_core._running.next import Facts, next_action
from flowli_core._running.options import DRAIN, TRIES_ONCE, RunnerOptions
from flowli_core._running.pacer import Pacer
from flowli_core._running.queue_order import QueueOrder
from flowli_core._running.relay import relay_all, relay_for_ever
from flowli_core._running.reports import ReportSender
from flowli_core._running.slots import Slots
from flowli_core._running.steps import StepClient, StepResult
from flowli_core._running.stop import Stop
from flowli_core._running.ticker import Ticker
from flowli_core.driver import Driver, StepAnswer
from flowli_core.durations import ZERO
from flowli_core.errors import StoreUnavailable

_MIN_BATCH = 25
"""A step asks for half of the slots, so that one half runs while the other is fetched; but for at least this many, so
that the round trips do not cost more than the jobs."""

_MAX_WAITING_BATCH = 10
"""A waiting step asks for at most this many records: the server may hand them to a process that is already dead."""

_LEAVE_WITHIN = 1.0
"""Seconds in which the store must answer the last step of a worker. Without it, the worker is listed for a minute."""

_LAST_CALLS = 2.0
"""Seconds that a stop allows for the last calls to the store, after all handlers have ended."""


class Run:
    """Reserves and runs jobs until it is stopped. With `once`, it ends when no job is due any more."""

    def __init__(self, runtime: Runtime, options: RunnerOptions, *, once: bool) -> None:
        self._runtime = runtime
        self._options = options
        self._once = once
        self._batches = Batches(max((options.concurrency + 1) // 2, _MIN_BATCH))
        self._tasks = asyncio.TaskGroup()
        worker = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        order = QueueOrder(options.queues, options.weights)
        self.client = StepClient(runtime, worker=worker, queues=order, lease=options.lease)
        self._stop = Stop(self.client)
        self._pacer = Pacer(self.client, self._tasks, on_result=self._take)
        calls = HookCalls(options.hooks, self._tasks, variables=runtime.variables)
        self._events = Events(calls, worker=worker, observers=options.observers, tracer=runtime.tracer)
        self._sender = ReportSender(worker)
        self._slots = Slots(
            runtime,
            options,
            worker=worker,
            events=self._events,
            pacer=self._pacer,
            on_interrupt=lambda: self.begin_stop(DRAIN),
            on_report=self._sender.signal,
        )
        self._ticker = Ticker(
            runtime,
            self._tasks,
            client=self.client,
            pacer=self._pacer,
            remove_vanished=options.remove_vanished_schedules,
            once=once,
        )
        self._relayed = 0 if runtime.deliveries is None else runtime.deliveries.count
        self._ended = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    @property
    def active(self) -> int:
        """The number of running handlers."""
        return len(self._slots.running)

    @property
    def last_error(self) -> str | None:
        """The reason why the run takes no jobs: the last call of the store failed, or leases cannot be renewed."""
        return self.client.last_error or self._slots.renewal_problem

    @property
    def is_stuck(self) -> bool:
        """True if every slot is held by a handler that was settled without its end."""
        return self.hung >= self._options.concurrency

    @property
    def hung(self) -> int:
        """The number of slots that are held by handlers that were settled without their end."""
        return self._slots.hung

    async def serve(self) -> RunCounts:
        """Open the registry, and run its jobs to the end of the run. Return the counts.

        Raises an error of the store only with `once`, or if the store is unreachable when the run stops.
        """
        try:
            driver = await self._stop.before_deadline(self._open())
            if driver is not None:
                await self._serve(driver)
            return self._events.counts()
        finally:
            self._slots.close()
            self._ended.set()

    def begin_stop(self, drain: timedelta) -> None:
        """Stop reserving, and ask the handlers that are still running after `drain` to end."""
        within = _LAST_CALLS
        if self._slots.holds_leases or self.client.last_error is None:
            # Otherwise all that is left to do is to return what a failed step may have reserved.
            within += (drain + self._options.cancel_grace).total_seconds()
        self._stop.request(within=within)
        asyncio.get_running_loop().call_later(drain.total_seconds(), self._slots.stop_all)
        self._pacer.wake()

    async def ended(self) -> None:
        """Wait until `serve` has returned."""
        await self._ended.wait()

    async def _open(self) -> Driver | None:
        """Open the registry, and return its driver.

        Return None if a stop was requested while the store is unreachable.
        """

        async def open_store() -> Driver | None:
            if self._stop.is_requested and self.client.last_error is not None:
                return None
            await self._runtime.open()
            return await self._runtime.store()

        def retry_if_unavailable(error: BaseException) -> None:
            if not isinstance(error, StoreUnavailable):
                raise error
            self.client.note_failure(error)

        return await keep_trying(
            open_store, on_error=retry_if_unavailable, tries=1 if self._once else None, sleep=self._stop.sleep
        )

    async def _serve(self, driver: Driver) -> None:
        failure: Exception | None = None
        renewer = LeaseRenewer(
            self._slots, driver=driver, worker=self.client.worker, options=self._options, sender=self._sender
        )
        try:
            async with self._tasks:
                relay = self._start_relay()
                self._ticker.start()
                try:
                    with renewer:
                        await self._stop.before_deadline(renewer.connected())
                        await self._work_until_cancelled()
                except Exception as error:  # noqa: BLE001 - raised below: the task group would wrap it
                    failure = error
                finally:
                    self._pacer.close()
                    self._ticker.close()
                    self._slots.abandon_all()
                    if relay is not None:
                        relay.cancel()
        finally:
            self._events.close()
            await renewer.ended()
            await self._leave()
        if failure is not None:
            raise failure

    def _start_relay(self) -> asyncio.Task[None] | None:
        """Serve the outbox, if the registry has one, for as long as the run lasts."""
        deliveries = self._runtime.deliveries
        if deliveries is None or self._once:
            return None
        return self._tasks.create_task(relay_for_ever(deliveries))

    async def _leave(self) -> None:
        """Send the last step of this worker, if the store is reachable and no leases are held."""
        if self.client.last_error is None and not self._slots.holds_leases:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_LEAVE_WITHIN):
                    await self.client.leave()

    async def _work_until_cancelled(self) -> None:
        try:
            await self._stop.before_deadline(self._work())
        except asyncio.CancelledError:
            # Work until the handlers have ended and the store has their jobs back. After a second cancellation the jobs
            # stay reserved, until other workers recover them when their leases expire.
            self.begin_stop(ZERO)
            with contextlib.suppress(Exception):  # StepClient has logged it.
                await self._stop.before_deadline(self._work())
            raise

    async def _work(self) -> None:  # noqa: C901 - a case for each action
        """Do one action after the other until the run is finished."""
        while True:
            facts = self._facts()
            match next_action(facts):
                case "finish answer":
                    self._finish()
                case "recall":
                    self._take(await self._until_answered(self.client.recall))
                case "resend":
                    await self._send()
                case "step":
                    await self._step(facts)
                case "stop listening":
                    self._pacer.stop_listening()
                    await self._pacer.wait()
                case "listen":
                    want = min(facts.free_slots, _MAX_WAITING_BATCH)
                    self._pacer.listen(want=want)
                case "sleep":
                    await self._pacer.wait(self._slots.turns.seconds_until_change())
                case "finish":
                    if await self._is_finished(facts):
                        return
                case _ as never:
                    assert_never(never)

    async def _step(self, facts: Facts) -> None:
        """Send a step with the outcomes that wait. It asks for records if it carries all of them.

        Otherwise they would pile up on a slow network.
        """
        await self._renew_expired()
        acks, reports = self._slots.take_acks(self._batches.ack_bytes)
        suspect = self._may_take_suspect() and not facts.has_unanswered_wait
        free = self._slots.free if suspect and not facts.is_stopping else facts.free_slots
        want = 0 if self._slots.has_acks else min(free, self._batches.records)
        self._pacer.before_step(want)
        self.client.prepare(acks, reports, want=want, suspect=suspect)
        await self._send()

    async def _is_finished(self, facts: Facts) -> bool:
        """With `once`, send what waits in the outbox. Return False if the store got jobs that way.

        Raises the error of a schedule.
        """
        deliveries = self._runtime.deliveries
        if self._once and not facts.is_stopping and deliveries is not None:
            await relay_all(deliveries)
            before, self._relayed = self._relayed, deliveries.count
            if self._relayed != before:
                self._pacer.step_soon()
                return False
        if self._ticker.failure is not None:
            raise self._ticker.failure
        return True

    async def _renew_expired(self) -> None:
        """Renew the leases that expired while the process stood still: a step would take them from this worker."""
        now = time.monotonic()
        expired = [attempt for attempt in self._slots.held.values() if now > attempt.lease_until]
        if not expired:
            return
        with contextlib.suppress(Exception):  # The step will say what is wrong with the store.
            driver = await self._runtime.store()
            leases = [attempt.lease for attempt in expired]
            async with asyncio.timeout(min(self._options.lease / 3, MAX_INTERVAL).total_seconds()):
                answer = await driver.heartbeat(self.client.worker, leases, self._options.lease)
            for attempt in expired:
                if attempt.reserved.id not in answer.lost:
                    attempt.lease_until = max(attempt.lease_until, now + self._options.lease.total_seconds())
            lost = [attempt for attempt in expired if attempt.reserved.id in answer.lost]
            cancelled = [attempt for attempt in expired if attempt.reserved.id in answer.cancelled]
            self._slots.apply_heartbeat(lost, cancelled)

    def _facts(self) -> Facts:
        is_stopping, holds_leases, turns = self._stop.is_requested, self._slots.holds_leases, self._slots.turns
        is_taking = not is_stopping and self._slots.free > 0
        return Facts(
            is_stopping=is_stopping,
            free_slots=0 if not is_taking or turns.makes_room() else self._slots.free,
            holds_leases=holds_leases,
            has_put_off=self._slots.has_put_off,
            has_acks=self._slots.has_acks,
            has_unanswered_step=self.client.has_unanswered_step,
            has_unanswered_wait=self.client.has_unanswered_wait,
            is_listening=self._pacer.is_listening,
            must_step=self._pacer.must_step,
            has_work=self._pacer.has_work,
            may_take_suspect=is_taking and turns.is_due and self._may_take_suspect(),
            may_listen=not self._once,
            is_drained=self._once
            and not (holds_leases or self._ticker.is_busy or self._slots.renewal_problem or turns.is_due)
            and self._slots.is_settled,
        )

    def _may_take_suspect(self) -> bool:
        is_idle = self._slots.is_settled and not self._slots.has_acks
        return is_idle and self._slots.turns.may_take(has_other_work=self._pacer.has_work)

    async def _send(self) -> None:
        """Send the prepared step until it is answered, and act on the answer."""

        def note_failure(error: BaseException) -> None:
            self._batches.note_failure()
            self.client.note_failure(error)

        # Act on the last answer when this step is on its way: so the store and the handlers work at the same time.
        failures: list[Exception] = []
        starting = self.loop.call_soon(self._finish, failures)
        try:
            result = await self._until_answered(self.client.send, on_error=note_failure)
        finally:
            starting.cancel()
        self._finish(failures)
        if failures:
            raise failures[0]
        self._batches.note_answer(time.monotonic() - result.since)
        answer = result.answer
        self._slots.put_off(answer, lease_until=result.since + self._options.lease.total_seconds())
        if answer.next_due != ZERO or answer.suspect_due or any(reserved.suspect for reserved in answer.reserved):
            self._finish()  # The next step would have nothing to do, or has to wait for these records.
        self._plan(answer)

    def _finish(self, failures: list[Exception] | None = None) -> None:
        """Act on the answer that was put off. With `failures`, add an error to it instead of raising it."""
        try:
            self._slots.finish(is_stopping=self._stop.is_requested)
        except Exception as error:
            if failures is None:
                raise
            failures.append(error)

    async def _until_answered(
        self, call: Callable[[], Awaitable[StepResult]], *, on_error: Callable[[BaseException], None] | None = None
    ) -> StepResult:
        tries = TRIES_ONCE if self._once else None
        return await keep_trying(
            call, on_error=on_error or self.client.note_failure, tries=tries, sleep=self._stop.sleep
        )

    def _take(self, result: StepResult) -> None:
        """Start the records that a waiting step reserved, and plan the next step. Another step may be in flight."""
        answer = result.answer
        self._slots.take(
            answer.reserved,
            lease_until=result.since + self._options.lease.total_seconds(),
            store_time=answer.now,
            is_stopping=self._stop.is_requested,
        )
        self._plan(answer)

    def _plan(self, answer: StepAnswer) -> None:
        """Report what a step has changed, and plan the next step."""
        for recovered in answer.recovered:
            self._events.recovered(recovered)
        for expired in answer.expired:
            self._events.expired(expired)
        for damaged in answer.damaged:
            self._events.damaged(damaged)
        self._slots.turns.after_step(suspect_due=answer.suspect_due)
        self._pacer.after_step(answer, is_full=self._slots.free <= 0)
        if not self._stop.is_requested:
            self._ticker.after_step(answer)
