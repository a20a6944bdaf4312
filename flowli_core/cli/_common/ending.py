"""The end of a command's process. It does not wait for long for tasks, threads and processes that jobs leave running.

These are tasks that ignore their cancellation, calls in `asyncio.to_thread`, other threads, and the processes of a
pool. asyncio and the interpreter would wait for them without a limit, although their jobs are settled or back in the
queue.
"""

import asyncio
import atexit
import concurrent.futures
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from flowli_core._logger import logger
from flowli_core.cli._common import exits

_END_WITHIN = 2.0
"""Seconds that tasks, threads and processes have to end."""

_call_at_exit: Any = getattr(threading, "_register_atexit", atexit.register)
"""Call a function when the interpreter exits, before it waits for threads. Those of `atexit` are called after that."""

_IDLE = (concurrent.futures.thread.__file__, "_worker")
"""The file and function in which a thread of a pool waits for the next call."""

_LIBRARY = os.path.dirname(os.__file__)  # noqa: PTH120 - compared with the file names of code


class LeavingExecutor(ThreadPoolExecutor):
    """The executor of `asyncio.to_thread`. A loop that is closed does not wait for its threads."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - as in the base class
        """Start no call that has not begun."""
        super().shutdown(wait=False, cancel_futures=True)


def close_loop(runner: asyncio.Runner) -> None:
    """Cancel the remaining tasks, and close the event loop."""
    if runner.run(_end_tasks()):
        runner.close()
        return
    loop = runner.get_loop()
    loop.set_exception_handler(_ignore)  # otherwise it reports that the tasks were destroyed
    loop.close()


def _ignore(*_: object) -> None:
    pass


@contextmanager
def exit_if_interrupted() -> Generator[None]:
    """Let Ctrl-C exit the process at once while the code inside ends it, instead of raising KeyboardInterrupt there."""
    is_set = _exit_at_interrupt()
    try:
        yield
    finally:
        if is_set:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit_at_interrupt() -> bool:
    """Let Ctrl-C exit the process at once. Return False if the process ignores or handles it in another way."""
    is_raised = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_raised or threading.current_thread() is not threading.main_thread():
        return False
    signal.signal(signal.SIGINT, _on_interrupt)
    return True


def _on_interrupt(_: int, __: object) -> None:
    _exit(exits.INTERRUPTED)


def limit_exit(code: int) -> None:
    """If a thread or process would keep this process from exiting, let it exit with this code in time, or at Ctrl-C."""
    if _describe_running():
        _exit_at_interrupt()
        _call_at_exit(lambda: threading.Thread(target=_exit_late, args=(code,), daemon=True).start())


async def _end_tasks() -> bool:
    """Cancel all other tasks, and return True if they ended in time."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    return not tasks or not (await asyncio.wait(tasks, timeout=_END_WITHIN))[1]


def _exit_late(code: int) -> None:
    time.sleep(_END_WITHIN)
    _exit(code)


def _exit(code: int) -> None:
    running = ", ".join(_describe_running())
    if running:
        logger.warning("exiting although these still run: %s", running)
    for child in _child_processes():
        child.kill()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def _describe_running() -> list[str]:
    """Return the threads and processes for which the interpreter would wait."""
    frames = sys._current_frames()  # noqa: SLF001 - documented  # pyright: ignore[reportPrivateUsage]
    found = [f"process {child.pid}" for child in _child_processes()]
    for thread in threading.enumerate():
        stack = traceback.extract_stack(frames.get(thread.ident or 0))
        is_idle = [(frame.filename, frame.name) for frame in stack[-1:]] == [_IDLE]
        if thread.daemon or thread is threading.main_thread() or is_idle:
            continue
        inner = next((frame for frame in reversed(stack) if not frame.filename.startswith(_LIBRARY)), None)
        where = "" if inner is None else f" in {inner.name}, {inner.filename}:{inner.lineno}"
        found.append(f"thread {thread.name}{where}")
    return found


def _child_processes() -> list[Any]:
    module = sys.modules.get("multiprocessing")
    return [] if module is None else module.active_children()
