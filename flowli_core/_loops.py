"""Work that several event loops share: asyncio's own locks and futures each belong to one loop."""

import asyncio
import importlib
import threading
from collections.abc import Awaitable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from types import TracebackType
from typing import Any, TypeVar

from flowli_core.errors import StrategyError

T = TypeVar("T")

_NOTHING = nullcontext()

_CHECK_SECONDS = 0.2
"""Seconds between two checks that another event loop still runs. A loop that ends notifies nobody."""


class LoopLock:
    """A lock for tasks of any event loop, in any thread.

    If its holder's loop was closed, the lock is free. Raises StrategyError if the holder's loop exists but does not
    run, or if the holder is the task that asks.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._holder: asyncio.Task[Any] | None = None
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        entry = (asyncio.get_running_loop(), asyncio.Event())
        while True:
            with self._guard:
                holder = self._holder
                if holder is None or holder.get_loop().is_closed():
                    self._holder = task
                    return
                self._waiting.append(entry)
            try:
                if holder is task:
                    raise StrategyError("this call waits for itself: the context factory may not use its registry")
                await _wait_briefly(entry[1])
            finally:
                with self._guard:
                    if entry in self._waiting:
                        self._waiting.remove(entry)
            loop = holder.get_loop()
            if not entry[1].is_set() and self._holder is holder and not (loop.is_running() or loop.is_closed()):
                raise StrategyError(
                    "this registry is being opened or closed on an event loop that does not run; run that loop, or "
                    "await `jobs.aclose()` before it ends"
                )
            entry[1].clear()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._guard:
            if self._holder is asyncio.current_task():
                self._holder = None
            # All of them try again: a lock that was handed to one whose loop has ended would never be released.
            waiting, self._waiting = self._waiting, []
        for loop, woken in waiting:
            try:
                loop.call_soon_threadsafe(woken.set)
            except RuntimeError:  # that loop is closed
                continue


def let_anyio_reach(loop: asyncio.AbstractEventLoop) -> AbstractContextManager[object]:
    """Let `anyio.from_thread` reach a loop from this thread, as it can in a plain route of FastAPI or Starlette."""
    anyio = _import_anyio()
    try:
        claim: AbstractContextManager[object] = anyio.claim_worker_thread(anyio.get_async_backend("asyncio"), loop)
    except AttributeError:  # it is not installed, or this release has no such function
        return _NOTHING
    return claim


@cache
def _import_anyio() -> Any:
    """Return the module of anyio, or None. Nothing may have loaded it yet: the handler may be the first."""
    try:
        return importlib.import_module("anyio._core._eventloop")
    except ImportError:
        return None


async def _wait_briefly(event: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            await event.wait()
    except TimeoutError:
        pass


async def capture(awaitable: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    """Return the result of an awaitable, and the error that it raised. A SystemExit would end the event loop."""
    try:
        return await awaitable, None
    except BaseException as error:  # noqa: BLE001 - the caller raises it
        return None, error


async def cancel_other_tasks() -> None:
    """Cancel all other tasks of this event loop, and wait until they have ended."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def run_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on another event loop and return its result. Raises StrategyError if that loop ends before."""
    try:
        future = asyncio.run_coroutine_threadsafe(work, loop)
    except RuntimeError:
        work.close()
        raise StrategyError(
            "the event loop on which this registry was opened is closed; close the registry before its loop"
        ) from None
    waiter = asyncio.wrap_future(future)
    try:
        while not waiter.done():
            await asyncio.wait((waiter,), timeout=_CHECK_SECONDS)
            if not waiter.done() and not loop.is_running():
                raise StrategyError("the event loop on which this registry was opened does not run")
    finally:
        waiter.cancel()
    return waiter.result()
