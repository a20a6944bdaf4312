"""The connections of a driver: one Line for the event loop that opened it, and one on a thread for all other loops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from flowli_core._loops import cancel_other_tasks, run_on
from flowli_core.drivers.redis._clients import Client, PairingClient, Source
from flowli_core.drivers.redis._packing import Word
from flowli_core.errors import DriverError, StoreUnavailable, StrategyError

T = TypeVar("T")

RestoreWakeUps: TypeAlias = Callable[[Client], Awaitable[object]]
"""Stores the wake-ups that a wait may have taken, by commands of this client."""

SHORTEST_BLOCK = 0.002
"""Seconds: Redis 6.2 rounds the time of a wait down to whole milliseconds, and takes 0 as no limit."""

_LONGEST_BLOCK = 60.0
_SPARE = 2.0
"""Seconds that the reply to a wait may be late before its connection is considered dead."""

_CLOSING_TIME = 1.0
"""Seconds that `close` waits for commands that restore wake-ups."""


class Line:
    """The connections of one event loop: `commands` for commands, `waits` for blocking commands.

    A wait that is cancelled, or ended by `close`, closes its connection. The server's reply may be lost, and with it a
    wake-up. Therefore a new wake-up is stored after the connection was closed: one remains in any order of the two.
    """

    def __init__(self, commands: Client, waits: Client, *, address: str) -> None:
        self.commands = commands
        self._address = address
        self._waits = waits
        self._pairing = waits if isinstance(waits, PairingClient) else None  # slow to check, for a protocol
        self._limits: set[asyncio.Timeout] = set()
        self._restoring: set[asyncio.Task[None]] = set()
        self._nobody_waits = asyncio.Event()
        self._nobody_waits.set()
        self._closed = asyncio.Event()

    @property
    def pairs(self) -> bool:
        """True if a command can be sent together with a wait."""
        return self._pairing is not None

    async def pop(
        self,
        keys: Sequence[str],
        *,
        seconds: float,
        restore: RestoreWakeUps | None = None,
        then: tuple[Word, ...] | None = None,
    ) -> Any:
        """Take a member of the first sorted set that has one, or return when the time is over.

        `then` is a command that the server runs right after that; its reply is returned. It requires `pairs`. `restore`
        is called if the wait is cancelled or closed. Raises StoreUnavailable when the line is closed.
        """
        if self._closed.is_set():
            raise StoreUnavailable("the driver was closed during a wait")
        block = min(max(seconds, SHORTEST_BLOCK), _LONGEST_BLOCK)
        try:
            async with asyncio.timeout(block + _SPARE) as limit:
                self._limits.add(limit)
                self._nobody_waits.clear()
                try:
                    pop: tuple[Word, ...] = ("BZPOPMIN", *keys, block)
                    if then is not None and self._pairing is not None:
                        return await self._pairing.execute_both(pop, then)
                    await self._waits.execute(*pop)
                    return None
                finally:
                    self._limits.discard(limit)
                    if not self._limits:
                        self._nobody_waits.set()
        except asyncio.CancelledError:
            self._restore_wake_ups(restore)
            raise
        except TimeoutError:
            if not self._closed.is_set():
                raise StoreUnavailable(
                    f"Redis at {self._address} did not reply to a blocking wait in time, so its connection was closed"
                ) from None
            self._restore_wake_ups(restore)
            raise StoreUnavailable("the driver was closed during a wait") from None

    @contextlib.asynccontextmanager
    async def restoring_wake_ups(self, restore: RestoreWakeUps) -> AsyncGenerator[None]:
        """Restore the wake-up for another waiter if what follows a wait fails or is cancelled."""
        try:
            yield
        except BaseException:
            self._restore_wake_ups(restore)
            raise

    async def close(self) -> None:
        """End the waits, and close the connections. A second call does nothing."""
        if self._closed.is_set():
            return
        self._closed.set()
        now = asyncio.get_running_loop().time()
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(now)
        await self._nobody_waits.wait()
        await asyncio.sleep(0)  # the tasks of the ended waits must go on, to add to `_restoring`
        if self._restoring:
            _, late = await asyncio.wait(self._restoring, timeout=_CLOSING_TIME)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        await self._waits.close()
        await self.commands.close()

    def _restore_wake_ups(self, restore: RestoreWakeUps | None) -> None:
        if restore is None:
            return
        task = asyncio.create_task(self._run(restore))
        self._restoring.add(task)
        task.add_done_callback(self._restoring.discard)

    async def _run(self, restore: RestoreWakeUps) -> None:
        # If this fails, a worker finds what is due at its next periodic step.
        with contextlib.suppress(DriverError):
            await restore(self.commands)


class SideLoop:
    """A thread with an event loop and a Line, started by the first call.

    Leases are renewed on it while the loop that opened the driver is blocked. It also serves callers whose event loop
    lives for one call only.
    """

    def __init__(self, make_line: Callable[[], Line]) -> None:
        self._make_line = make_line
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._line: Line | None = None
        self._is_closed = False

    async def run(self, work: Callable[[Line], Awaitable[T]]) -> T:
        """Run `work` on the loop of the thread, and return its result. Raises DriverError if `close` ends it."""
        if asyncio.get_running_loop() is self._loop:
            return await self._work(work)
        with self._lock:
            if self._is_closed:
                raise DriverError("the driver is not open; await its open() first")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="flowli-redis", daemon=True)
                self._thread.start()
            future = asyncio.run_coroutine_threadsafe(self._work(work), self._loop)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if future.cancelled() and task is not None and not task.cancelling():  # by `close`, not by the caller
                raise DriverError("the driver was closed before the store had answered") from None
            raise

    async def close(self) -> None:
        """Close the line, and end the thread."""
        with self._lock:
            self._is_closed = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._finish(), loop))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()  # the loop has nothing left to run, so this does not block
        loop.close()

    async def _work(self, work: Callable[[Line], Awaitable[T]]) -> T:
        if self._line is None:
            self._line = self._make_line()
        return await work(self._line)

    async def _finish(self) -> None:
        if self._line is not None:
            await self._line.close()
        await cancel_other_tasks()


@dataclass(frozen=True, slots=True)
class _Session:
    """The connections of one process from `open` to `close`. `loop` is the event loop that opened them."""

    process: int
    loop: asyncio.AbstractEventLoop
    line: Line
    side: SideLoop
    guard: AsyncGenerator[None]


async def _close_with_loop(line: Line) -> AsyncGenerator[None]:
    """Close the line when its event loop ends: a loop that ends closes the generators that were started on it.

    A loop that is made for one call (`asyncio.run(job.enqueue(1))`) would leave open connections behind.
    """
    try:
        yield
    finally:
        await line.close()


class Connections:
    """The client that a driver sends its commands with, from any event loop.

    Calls on the event loop that opened it use that loop's Line; calls on other loops run on the SideLoop. The first of
    these uses the user's client for commands, unless `uses_own_client` is set.
    """

    def __init__(self, source: Source) -> None:
        self.uses_own_client = False
        self._source = source
        self._lock = threading.Lock()
        self._session: _Session | None = None

    async def open(self) -> None:
        """Prepare the connections. Each connects when it is first used. Idempotent."""
        source = self._source
        with self._lock:
            if self._session is not None:
                return
            commands = source.commands() if self.uses_own_client else source.users
            line = Line(commands, source.waits(), address=source.address)
            side = SideLoop(lambda: Line(source.commands(), source.waits(), address=source.address))
            guard = _close_with_loop(line)
            self._session = _Session(os.getpid(), asyncio.get_running_loop(), line, side, guard)
        await anext(guard)

    async def close(self) -> None:
        """End the waits, and close the connections, but not those of the user's client."""
        with self._lock:
            session, self._session = self._session, None
        if session is None or session.process != os.getpid():
            return
        await session.side.close()
        if asyncio.get_running_loop() is session.loop:
            await session.line.close()
        else:
            with contextlib.suppress(StrategyError):  # that loop has ended, and its line with it
                await run_on(session.loop, session.line.close())

    def run(self, work: Callable[[Line], Awaitable[T]]) -> Awaitable[T]:
        """Run `work` with the line of this event loop, or with that of the side loop on its thread."""
        session = self._session
        if session is None:
            raise DriverError("the driver is not open; await its open() first")
        if session.process != os.getpid():
            raise DriverError("the driver was opened before this process was forked; open one in each process")
        if asyncio.get_running_loop() is session.loop:
            return work(session.line)
        return session.side.run(work)

    def execute(self, *words: Word) -> Awaitable[Any]:
        """Send a command."""
        return self.run(lambda line: line.commands.execute(*words))

    def at(self, key: str, *words: Word) -> Awaitable[Any]:
        """Send a command that names no key to the server that stores `key`."""
        return self.run(lambda line: line.commands.at(key, *words))
