"""Threads for what blocks: plain handlers and plain hooks.

They are daemons. Python waits at its end for the threads of a ThreadPoolExecutor, so one handler that hangs, in a
request without a timeout say, would keep its process from ending, long after its job was given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

Answer = tuple[Any, BaseException | None]
"""What a function returned, and what it raised. As a value, for no future can carry a StopIteration, and one that
carries a SystemExit would end the event loop."""


class Threads:
    """Up to `most` threads, started when they are needed and kept until `close`."""

    def __init__(self, most: int, *, name: str) -> None:
        self._most = most
        self._name = name
        self._lock = threading.Lock()
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._started = 0
        self._unclaimed = 0  # idle threads, less the calls that wait for one

    async def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Answer:
        """Call a function in a thread, with the context variables of the caller; never raises what it raises.

        Where all threads are taken it waits for one. A caller that is cancelled leaves behind a call that has begun.
        """
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Answer] = loop.create_future()
        context = contextvars.copy_context()

        def work() -> None:
            if answered.cancelled():
                return
            answer = context.run(_guarded, function, args, kwargs)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_deliver, answered, answer)

        self._see_to_a_thread()
        self._calls.put(work)
        return await answered

    def close(self) -> None:
        """Let each thread end once it has nothing to do."""
        for _ in range(self._started):
            self._calls.put(None)

    def _see_to_a_thread(self) -> None:
        with self._lock:
            if self._unclaimed > 0 or self._started == self._most:
                self._unclaimed -= 1
                return
            threading.Thread(target=self._run, name=f"{self._name}-{self._started}", daemon=True).start()
            self._started += 1

    def _run(self) -> None:
        while (work := self._calls.get()) is not None:
            work()
            with self._lock:
                self._unclaimed += 1


def _guarded(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer:
    try:
        return function(*args, **kwargs), None
    except BaseException as error:  # noqa: BLE001 - passed on
        return None, error


def _deliver(answered: asyncio.Future[Answer], answer: Answer) -> None:
    if not answered.done():
        answered.set_result(answer)
