"""Keeping leases alive from a thread, so that a handler which blocks the event loop does not lose its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self

from flowli_core._running.attempt import Attempt
from flowli_core.driver import Driver

logger = logging.getLogger("flowli")

LONGEST_INTERVAL = timedelta(seconds=5)
"""Heartbeats come at a third of the lease, and at least this often: a heartbeat is also how a cancel is noticed."""

_SOUND, _BLOCKED, _STALLED = range(3)


class Upkeep:
    """A thread with an event loop of its own that renews what `held` answers, until it is left.

    What is lost and what is cancelled is reported on the runner's loop. A loop that has answered nothing for
    `stall_limit` is given up: its leases end, so that other workers take over, its stack is logged, and `on_stall` is
    called, from this thread.
    """

    def __init__(
        self,
        *,
        driver: Driver,
        worker: str,
        lease: timedelta,
        stall_limit: timedelta,
        held: Callable[[], list[Attempt]],
        report: Callable[[list[Attempt], list[Attempt]], None],
        on_stall: Callable[[], None] | None = None,
    ) -> None:
        self._driver = driver
        self._worker = worker
        self._lease = lease
        self._interval = min(lease / 3, LONGEST_INTERVAL).total_seconds()
        self._hurry = self._interval / 4
        self._stall_limit = stall_limit.total_seconds()
        self._held = held
        self._report = report
        self._on_stall = on_stall
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._asked: float | None = None
        self._warned = _SOUND
        self._trouble: str | None = None
        self._ending = threading.Event()
        self._gone = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._main, name=f"flowli-upkeep-{worker}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # In this order, and the thread looks in the other: one of the two sees what the other has done.
        self._ending.set()
        if self._task is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed already
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    async def ended(self) -> None:
        """Wait until the thread is gone; it ends once it has been left.

        Not with `asyncio.to_thread`: calls that hang may have taken all the threads there are for that.
        """
        if self._thread.ident is not None:
            await self._gone.wait()
            self._thread.join()

    def _main(self) -> None:
        try:
            with contextlib.suppress(asyncio.CancelledError):
                asyncio.run(self._keep())
        finally:
            self._tell(self._gone.set)

    async def _keep(self) -> None:
        self._task = asyncio.current_task()
        pause = self._interval
        while not self._ending.is_set():
            await asyncio.sleep(pause)
            pause = self._interval
            held = self._held()
            if not held:
                self._answer_pulse()
            elif not self._is_stalled() and not await self._renew(held):
                pause = self._hurry

    async def _renew(self, held: list[Attempt]) -> bool:
        """Renew these leases; answer whether the store did."""
        sent = time.monotonic()
        left = min(attempt.lease_until for attempt in held) - sent
        try:
            # Hardly past the end of a lease: its handler is to be cancelled then. Three quarters of it for one call:
            # over a slow network to connect takes many round trips, and to start that anew would never get there.
            limit = min(max(left * 3 / 4, self._hurry), LONGEST_INTERVAL.total_seconds())
            async with asyncio.timeout(limit):
                answer = await self._driver.heartbeat(self._worker, [attempt.lease for attempt in held], self._lease)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - no fault of the store ends the renewing
            if self._ending.is_set():
                return False
            described = f"{type(error).__name__}: {error}"
            if described != self._trouble:
                self._trouble = described
                logger.warning("leases could not be renewed, going on trying: %s", described)
            # What nobody could renew in time is lost, whatever the store will say: another worker may have it.
            lost = [attempt for attempt in held if time.monotonic() > attempt.lease_until]
            cancelled: list[Attempt] = []
            is_renewed = False
        else:
            is_renewed, self._trouble = True, None
            lost = [attempt for attempt in held if attempt.reserved.id in answer.lost]
            cancelled = [attempt for attempt in held if attempt.reserved.id in answer.cancelled]
            for attempt in held:
                if attempt.reserved.id not in answer.lost:
                    attempt.lease_until = sent + self._lease.total_seconds()
        if lost or cancelled:
            self._tell(lambda: self._report(lost, cancelled))
        return is_renewed

    def _is_stalled(self) -> bool:
        """Look whether the runner's loop still turns, and log what it is at where it does not."""
        now = time.monotonic()
        asked = self._asked
        if asked is None:
            asked = self._asked = now
            self._tell(self._answer_pulse)
        silent = now - asked
        is_stalled = silent > self._stall_limit
        if is_stalled and self._warned < _STALLED:
            self._warned = _STALLED
            logger.error(
                "the event loop has been blocked for %.0f s, over the limit of %.0f s: leases are renewed no more\n%s",
                silent,
                self._stall_limit,
                self._stack(),
            )
            if self._on_stall is not None:
                self._on_stall()
        elif silent > 2 * self._interval and self._warned < _BLOCKED:
            self._warned = _BLOCKED
            logger.warning(
                "the event loop is blocked: a handler must await, or be a plain function, which runs in a thread\n%s",
                self._stack(),
            )
        return is_stalled

    def _answer_pulse(self) -> None:
        self._asked = None
        self._warned = _SOUND

    def _tell(self, callback: Callable[[], object]) -> None:
        # The loop may be closed already where a process is on its way out.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    def _stack(self) -> str:
        # The documented way to another thread's stack, its name notwithstanding.
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return "".join(traceback.format_stack(frame, limit=30)) if frame is not None else ""
