"""Connections to the store: one line for each event loop, and a loop of the driver's own for calls from elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from flowli_core.drivers.redis._packing import Word
from flowli_core.drivers.redis.clients import PairingClient
from flowli_core.errors import DriverError, StoreUnavailable

if TYPE_CHECKING:
    from flowli_core.drivers.redis.clients import Client

T = TypeVar("T")

SHORTEST_BLOCK = 0.002
"""Redis 6.2 rounds down to whole milliseconds, and takes 0 for ever."""

_LONGEST_BLOCK = 60.0
_SPARE = 2.0
"""Seconds by which the end of a wait may be late before its connection is taken for dead."""

_LAST_WORDS = 1.0
"""Seconds that `close` waits for what is still being said."""


class Line:
    """The connections of one event loop: `client` for commands, and others for waits, which hold one each for long.

    A wait that is cancelled or closed gives up its connection, so the server's answer to it may be lost, and with it a
    wake-up. Therefore it leaves one behind, after that: whichever of the two the server sees first, one stays.
    """

    def __init__(self, client: Client, *, waiting: Client) -> None:
        self.client = client
        self._waiting = waiting
        self._pairing = waiting if isinstance(waiting, PairingClient) else None  # slow to tell, with a protocol
        self._waits: set[asyncio.Timeout] = set()
        self._chores: set[asyncio.Task[None]] = set()
        self._nobody_waits = asyncio.Event()
        self._nobody_waits.set()
        self._closed = asyncio.Event()

    @property
    def pairs(self) -> bool:
        """Whether a command can be sent along with a wait."""
        return self._pairing is not None

    async def pop(self, keys: Sequence[str], *, seconds: float, then: tuple[Word, ...] | None = None) -> Any:
        """Take a member of the first sorted set that has one, or return when the time is up or the line is closed.

        `then` is a command that the server is to run right after that, where `pairs`; its reply is answered.
        """
        if self._closed.is_set():
            return None
        block = min(max(seconds, SHORTEST_BLOCK), _LONGEST_BLOCK)
        try:
            async with asyncio.timeout(block + _SPARE) as limit:
                self._waits.add(limit)
                self._nobody_waits.clear()
                try:
                    pop: tuple[Word, ...] = ("BZPOPMIN", *keys, block)
                    if then is not None and self._pairing is not None:
                        _, reply = await self._pairing.execute_both(pop, then)
                        return reply
                    await self._waiting.execute(*pop)
                    return None
                finally:
                    self._waits.discard(limit)
                    if not self._waits:
                        self._nobody_waits.set()
        except asyncio.CancelledError:
            self._hand_on(keys)
            raise
        except TimeoutError:
            if not self._closed.is_set():
                raise StoreUnavailable("Redis did not end a wait in time; its connection is given up") from None
            self._hand_on(keys)
            if then is not None:
                raise StoreUnavailable("the driver was closed during a wait") from None
            return None

    async def close(self) -> None:
        """End the waits, and close what belongs to the line."""
        self._closed.set()
        now = asyncio.get_running_loop().time()
        for limit in self._waits:
            if not limit.expired():
                limit.reschedule(now)
        await self._nobody_waits.wait()
        await asyncio.sleep(0)  # for those who have handed their wake-up on just now
        if self._chores:
            _, late = await asyncio.wait(self._chores, timeout=_LAST_WORDS)
            for chore in late:
                chore.cancel()
            if late:
                await asyncio.wait(late)
        await self._waiting.close()
        await self.client.close()

    def _hand_on(self, keys: Sequence[str]) -> None:
        chore = asyncio.create_task(self._leave_a_marker(keys))
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def _leave_a_marker(self, keys: Sequence[str]) -> None:
        # Where it fails, a runner finds what is due when it looks again by itself.
        with contextlib.suppress(DriverError):
            for key in keys:
                await self.client.execute("ZADD", key, 0, "0")


class SideLoop:
    """A thread with an event loop and a line of its own, made when first needed.

    So leases are renewed while the loop that opened the driver is blocked, and connections outlive the loops that use
    them for one call.
    """

    def __init__(self, make_line: Callable[[], Line]) -> None:
        self._make_line = make_line
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._line: Line | None = None
        self._is_closed = False

    async def run(self, work: Callable[[Line], Awaitable[T]]) -> T:
        """Do something there, and answer here."""
        with self._lock:
            if self._is_closed:
                raise DriverError("the driver was closed")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="flowli-redis", daemon=True)
                self._thread.start()
            future = asyncio.run_coroutine_threadsafe(self._work(work), self._loop)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if future.cancelled() and task is not None and not task.cancelling():
                raise DriverError("the driver was closed before the store had answered") from None
            raise

    async def close(self) -> None:
        """Close the line and end the thread."""
        with self._lock:
            self._is_closed = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._finish(), loop))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()  # it has nothing left to do, so this does not block
        loop.close()

    async def _work(self, work: Callable[[Line], Awaitable[T]]) -> T:
        if self._line is None:
            self._line = self._make_line()
        return await work(self._line)

    async def _finish(self) -> None:
        if self._line is not None:
            await self._line.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
