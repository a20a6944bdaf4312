"""Renewing leases from a thread, so that a handler which blocks the event loop does not lose its own."""

import asyncio
import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self

from flowli_core._logger import MultilineText, logger
from flowli_core._running.attempt import Attempt
from flowli_core._running.options import RunnerOptions
from flowli_core._running.reports import ReportSender
from flowli_core._running.slots import Slots
from flowli_core.driver import Driver
from flowli_core.durations import format_duration

MAX_INTERVAL = timedelta(seconds=5)
"""Leases are renewed at a third of their length, but at least this often: a heartbeat also brings cancel requests."""

_SHOWN_JOBS = 5

_SLOW = 1 / 2
"""The part of a lease that a heartbeat may take, because it delays the renewal by as much."""

_RESPONSIVE, _BLOCKED, _STALLED = range(3)


class LeaseRenewer:
    """A thread with its own event loop that renews the leases which `slots` holds, inside `with`.

    The thread also sends the reports of handlers. Lost leases and cancel requests are applied on the run's loop. If
    that loop has been blocked for `stall_limit`, its leases are no longer renewed, so that other workers take over; its
    stack is logged, and `on_stall` is called from this thread. While heartbeats fail, or take too long for the lease,
    `slots` takes no other jobs.
    """

    def __init__(
        self,
        slots: Slots,
        *,
        driver: Driver,
        worker: str,
        options: RunnerOptions,
        sender: ReportSender,
    ) -> None:
        self._slots = slots
        self._sender = sender
        self._driver = driver
        self._worker = worker
        self._lease = options.lease
        self._interval = min(options.lease / 3, MAX_INTERVAL).total_seconds()
        self._retry_interval = self._interval / 4
        self._stall_limit = options.stall_limit.total_seconds()
        self._on_stall = options.on_stall
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._pinged_at: float | None = None
        self._warned = _RESPONSIVE
        self._problem: str | None = None
        self._is_connected = asyncio.Event()
        self._is_ending = threading.Event()
        self._has_ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._main, name=f"flowli-leases-{worker}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Set the flag before reading `_task`; the thread does the reverse, so one side always notices.
        self._is_ending.set()
        if self._task is not None:
            with contextlib.suppress(RuntimeError):  # The thread's loop is closed already.
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    async def connected(self) -> None:
        """Wait until the first heartbeat has ended. Connecting may take longer than the time to the first renewal."""
        await self._is_connected.wait()

    async def ended(self) -> None:
        """Wait until the thread has ended, which it does after `with`.

        Not with `asyncio.to_thread`: calls that hang may have taken all of its threads.
        """
        if self._thread.ident is not None:
            await self._has_ended.wait()
            self._thread.join()

    def _main(self) -> None:
        try:
            with contextlib.suppress(asyncio.CancelledError):
                asyncio.run(self._keep_renewing())
        finally:
            self._call_on_loop(self._has_ended.set)

    async def _keep_renewing(self) -> None:
        self._task = asyncio.current_task()
        sending = asyncio.create_task(self._sender.run(self._driver, self._slots.collect_reports))
        try:
            await self._renew_until_ended()
        finally:
            sending.cancel()

    async def _renew_until_ended(self) -> None:
        await self._probe()
        self._call_on_loop(self._is_connected.set)
        pause = self._interval
        while not self._is_ending.is_set():
            slept_at = time.monotonic()
            await asyncio.sleep(pause)
            overslept = time.monotonic() - slept_at - pause
            pause = self._interval
            held = list(self._slots.held.values())
            if not held:
                self._note_response()
                if self._problem is not None:
                    await self._probe()
                continue
            if overslept > self._lease.total_seconds():
                self._warn_of_standstill(overslept, held)
            began = time.monotonic()
            if not self._is_stalled() and not await self._renew(held):
                pause = max(self._retry_interval - (time.monotonic() - began), 0.0)

    async def _probe(self) -> None:
        """Send a heartbeat without leases to connect, and another to see how long it takes."""
        try:
            async with asyncio.timeout(MAX_INTERVAL.total_seconds()):
                await self._driver.heartbeat(self._worker, [], self._lease)
                sent_at = time.monotonic()
                await self._driver.heartbeat(self._worker, [], self._lease)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - no fault of the store ends the renewing
            self._note_failure(error)
        else:
            self._note_success(time.monotonic() - sent_at)

    async def _renew(self, held: list[Attempt]) -> bool:
        """Renew these leases once. Return False if the store did not answer."""
        sent_at = time.monotonic()
        remaining = min(attempt.lease_until for attempt in held) - sent_at
        try:
            # Give up a heartbeat after 3/4 of the remaining lease, so that there is time for another try before the
            # lease expires and its handler must be cancelled. A much shorter limit would never connect over a slow
            # network.
            limit = min(max(remaining * 3 / 4, self._retry_interval), MAX_INTERVAL.total_seconds())
            async with asyncio.timeout(limit):
                answer = await self._driver.heartbeat(self._worker, [attempt.lease for attempt in held], self._lease)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - no fault of the store ends the renewing
            self._note_failure(error)
            if self._is_ending.is_set():
                return False
            # An expired lease is lost even if the store answers later: another worker may have reserved the record.
            expired = [attempt for attempt in held if time.monotonic() > attempt.lease_until]
            if expired:
                self._call_on_loop(lambda: self._slots.expire(expired))
            return False
        else:
            self._note_success(time.monotonic() - sent_at)
            lost = [attempt for attempt in held if attempt.reserved.id in answer.lost]
            cancelled = [attempt for attempt in held if attempt.reserved.id in answer.cancelled]
            for attempt in held:
                if attempt.reserved.id not in answer.lost:
                    attempt.lease_until = sent_at + self._lease.total_seconds()
        if lost or cancelled:
            self._call_on_loop(lambda: self._slots.apply_heartbeat(lost, cancelled))
        return True

    def _warn_of_standstill(self, seconds: float, held: list[Attempt]) -> None:
        """Log that the whole process stood still, because this thread did, for longer than a lease."""
        jobs = [f"{attempt.reserved.id} ({attempt.reserved.name})" for attempt in held[:_SHOWN_JOBS]]
        more = f" and {len(held) - len(jobs)} more" if len(held) > len(jobs) else ""
        logger.warning(
            "worker %s stood still for %.1f s, longer than its lease of %s, so these jobs may run twice: %s%s; "
            "either a handler is in a C call that holds the GIL, or the process was suspended",
            self._worker,
            seconds,
            format_duration(self._lease),
            ", ".join(jobs),
            more,
        )

    def _note_success(self, seconds: float) -> None:
        """Note how long a heartbeat took."""
        limit = self._lease.total_seconds() * _SLOW
        if seconds > limit:
            self._set_problem(f"a heartbeat took {seconds:.1f} s; use a lease of more than {seconds / _SLOW:.1f} s")
        else:
            self._set_problem(None)

    def _note_failure(self, error: BaseException) -> None:
        if not self._is_ending.is_set():
            self._set_problem(f"{type(error).__name__}: {error}")

    def _set_problem(self, problem: str | None) -> None:
        """Take no jobs while there is a problem. Log it once."""
        known, self._problem = self._problem, problem
        if (known is None) == (problem is None):
            return
        if problem is None:
            logger.info("worker %s can renew its leases again, and takes jobs", self._worker)
        else:
            logger.warning(
                "worker %s cannot renew leases of %s in time, and takes no jobs until it can: %s",
                self._worker,
                format_duration(self._lease),
                problem,
            )
        self._call_on_loop(lambda: self._slots.set_renewal_problem(problem))

    def _is_stalled(self) -> bool:
        """Return True if the run's loop has been blocked for too long. Log its stack once it blocks."""
        now = time.monotonic()
        pinged_at = self._pinged_at
        if pinged_at is None:
            pinged_at = self._pinged_at = now
            self._call_on_loop(self._note_response)
        blocked = now - pinged_at
        is_stalled = blocked > self._stall_limit
        if is_stalled and self._warned < _STALLED:
            self._warned = _STALLED
            logger.error(
                "the event loop has been blocked for %.0f s, longer than the stall limit of %.0f s: "
                "the leases of worker %s are no longer renewed, so that other workers take over its jobs\n%s",
                blocked,
                self._stall_limit,
                self._worker,
                self._stack(),
            )
            if self._on_stall is not None:
                self._on_stall()
        elif blocked > 2 * self._interval and self._warned < _BLOCKED:
            self._warned = _BLOCKED
            logger.warning(
                "the event loop is blocked (for %.0f s, in worker %s): an async handler must await; "
                "declare one that blocks as a plain function, which runs in a thread\n%s",
                blocked,
                self._worker,
                self._stack(),
            )
        return is_stalled

    def _note_response(self) -> None:
        self._pinged_at = None
        self._warned = _RESPONSIVE

    def _call_on_loop(self, callback: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # The run's loop is closed: the process is ending.
            self._loop.call_soon_threadsafe(callback)

    def _stack(self) -> MultilineText:
        # The documented way to read the stack of another thread, despite the underscore.
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return MultilineText("".join(traceback.format_stack(frame, limit=30)) if frame is not None else "")
