"""`run_sync`: the way from code that is not async to the calls of jobs."""

import asyncio
import atexit
import concurrent.futures
import inspect
import os
import sys
import threading
from collections.abc import Awaitable
from typing import Any, TypeVar

from flowli_core._loops import cancel_other_tasks, capture
from flowli_core.durations import Duration, duration
from flowli_core.errors import StrategyError

T = TypeVar("T")

_END_SECONDS = 2.0
"""At exit, the calls that still run have this long to end after their cancellation."""


class _BackgroundLoop:
    """A thread with an event loop, started by the first call and ended when the process exits."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> asyncio.AbstractEventLoop:
        """Return the loop, running."""
        with self._lock:
            if self.loop is None:
                loop = asyncio.new_event_loop()
                # A daemon, so that a call which never ends does not keep the process alive.
                self._thread = threading.Thread(target=_run, args=(loop,), name="flowli-sync", daemon=True)
                self._thread.start()
                self.loop = loop
            return self.loop

    def end(self) -> None:
        """Cancel the calls that still run, close what was opened on the loop, and end the thread."""
        with self._lock:
            loop, self.loop = self.loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(_END_SECONDS)


class _Call:
    """A call of one thread. It exists before the loop knows it, so an interrupt at any moment can cancel it."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self.returned = concurrent.futures.Future[tuple[Any, BaseException | None]]()
        self._awaitable = awaitable
        self._task: asyncio.Task[tuple[Any, BaseException | None]] | None = None

    def start(self) -> None:
        """Start the call, on the loop."""
        self._task = asyncio.get_running_loop().create_task(capture(self._awaitable))
        self._task.add_done_callback(self._end)

    def cancel(self) -> None:
        """Cancel the call, on the loop."""
        if self._task is not None:
            self._task.cancel()

    def _end(self, task: asyncio.Task[tuple[Any, BaseException | None]]) -> None:
        if task.cancelled():  # before its first step
            _close(self._awaitable)
        self.returned.set_result((None, asyncio.CancelledError()) if task.cancelled() else task.result())


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    # Not an asyncio.Runner, which starts a thread when it is closed: at exit, Python may refuse that.
    loop.run_until_complete(cancel_other_tasks())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


_background = _BackgroundLoop()
_inherited: list[_BackgroundLoop] = []
"""The loops of parent processes. They are kept: closing one would break that of the parent, which shares its files."""


def _after_fork() -> None:
    global _background  # noqa: PLW0603 - one for each process
    _inherited.append(_background)
    _background = _BackgroundLoop()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork)


@atexit.register  # at import, so that the functions which an application registers later run before it
def _at_exit() -> None:
    _background.end()


def background_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of `run_sync`, running."""
    return _background.start()


def is_background(loop: asyncio.AbstractEventLoop) -> bool:
    """Return True for the event loop of `run_sync`."""
    return loop is _background.loop


def run_sync(awaitable: Awaitable[T], /, *, timeout: Duration | None = None) -> T:
    """Await a call of a job from code that is not async, and return its result or raise its error.

        receipt = run_sync(jobs.send_email.enqueue(to="ada@example.com"))

    May be called in any thread: in a plain route, a plain handler or a script. All calls of a process run on one event
    loop, in a thread of its own, with the context variables of their callers. If the wait ends early (the timeout has
    passed, or a KeyboardInterrupt was raised), the call is cancelled. A store may have accepted it all the same.

    If the registry was opened on another event loop that still runs, `run` calls the handler there, where its context
    belongs.

    Raises TimeoutError if there is no result after `timeout`, StrategyError in a thread that runs an event loop, and
    DefinitionError for an invalid timeout.
    """
    try:
        _check(awaitable)
        seconds = None if timeout is None else duration(timeout, argument="timeout").total_seconds()
    except BaseException:
        _close(awaitable)
        raise
    call, loop = _Call(awaitable), _background.start()
    try:
        loop.call_soon_threadsafe(call.start)  # with the context variables of this thread
        result, error = call.returned.result(seconds)
    except TimeoutError:
        raise TimeoutError(f"the call did not return within {timeout}, and was cancelled") from None
    finally:
        if not call.returned.done():
            loop.call_soon_threadsafe(call.cancel)
        del call  # The traceback of the error refers to this frame.
    if error is not None:
        try:
            raise error
        finally:
            del error
    returned: T = result
    return returned


def _close(given: object) -> None:
    """Close a coroutine that was not started: Python would warn that it was never awaited."""
    if inspect.iscoroutine(given):
        given.close()


def _check(given: object) -> None:
    """Refuse what cannot be awaited, and a thread that runs an event loop."""
    if not inspect.isawaitable(given):
        raise StrategyError(
            f"run_sync takes what a call returns, such as run_sync(jobs.send_email.enqueue(...)), got "
            f"{type(given).__name__}"
        )
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise StrategyError(
        "run_sync was called in a thread that runs an event loop, which it would block: write `await` instead, or move "
        "the function that calls it to another thread: await asyncio.to_thread(...)"
    )
