"""Threads for plain handlers and plain hooks, which block.

The threads are daemons. At exit Python waits for the threads of a ThreadPoolExecutor, so one handler that hangs (in a
request without a timeout, say) would keep its process alive long after its job was returned to the queue.
"""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from flowli_core._loops import let_anyio_reach

Returned = tuple[Any, BaseException | None]
"""The result of a function, and the error that it raised.

The error is passed on as a value: no future can carry a StopIteration, and a SystemExit would end the event loop.
"""


class Threads:
    """At most `limit` threads, each started when it is first needed and kept until `close`."""

    def __init__(self, limit: int, *, name: str) -> None:
        self._limit = limit
        self._name = name
        self._lock = threading.Lock()
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._started = 0
        self._unclaimed = 0  # idle threads, less the calls that wait for one

    async def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Returned:
        """Call a function in a thread, with the caller's context variables. An error is returned, not raised.

        The call waits for a thread if all are busy. Cancelling the caller does not end a call that has begun.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Returned] = loop.create_future()
        self._claim_thread()
        self._calls.put(_Call(function, args, kwargs, loop, future))
        return await future

    def close(self) -> None:
        """End each thread once the calls made before are done."""
        for _ in range(self._started):
            self._calls.put(None)

    def _claim_thread(self) -> None:
        with self._lock:
            if self._unclaimed > 0 or self._started == self._limit:
                self._unclaimed -= 1
                return
            threading.Thread(target=self._run, name=f"{self._name}-{self._started}", daemon=True).start()
            self._started += 1

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call.make()
            del call  # while the thread is idle, it keeps no arguments alive
            with self._lock:
                self._unclaimed += 1


@dataclass(slots=True, eq=False)
class _Call:
    """A call to make in a thread, with the context variables of its caller."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Returned] | None
    context: contextvars.Context = field(default_factory=contextvars.copy_context)

    def make(self) -> None:
        """Make the call, and pass its result or error to the caller."""
        if self.future is None or self.future.cancelled():
            return
        # The traceback of an error holds this frame. So the frame, and this object, must not hold the error.
        returned: list[Returned] = []
        with let_anyio_reach(self.loop):
            returned.append(self.context.run(_capture, self.function, self.args, self.kwargs))
        with contextlib.suppress(RuntimeError):  # The loop is closed, so nobody waits for the result.
            self.loop.call_soon_threadsafe(_set_result, self.future, returned.pop())
        returned.clear()
        self.future = None


def _capture(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Returned:
    try:
        return function(*args, **kwargs), None
    except BaseException as error:  # noqa: BLE001 - the caller raises or logs it
        return None, error


def _set_result(future: asyncio.Future[Returned], returned: Returned) -> None:
    if not future.done():
        future.set_result(returned)
