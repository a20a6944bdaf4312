"""The process of a command: its event loop, its output and its log."""

import asyncio
import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from flowli_core._logger import logger
from flowli_core.cli._common import exits
from flowli_core.cli._common.ending import LeavingExecutor, close_loop, exit_if_interrupted, limit_exit
from flowli_core.logs import JobFilter, JsonFormatter, PlainFormatter

T = TypeVar("T")


def loop_name() -> str:
    """Return the name of the event loop that `run` uses: uvloop if it is installed, because it is faster."""
    return "asyncio" if importlib.util.find_spec("uvloop") is None else "uvloop"


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a new event loop, and return its result: the exit code, or None.

    Neither the loop nor the process waits for long for tasks and threads that jobs leave running: see `ending`.
    """
    _set_up_process()
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if loop_name() == "uvloop":
        factory = importlib.import_module("uvloop").new_event_loop
    runner = asyncio.Runner(loop_factory=factory)
    runner.get_loop().set_default_executor(LeavingExecutor(thread_name_prefix="asyncio"))
    code: object = exits.FAILED
    try:
        code = result = runner.run(main)
    except KeyboardInterrupt:
        code = exits.INTERRUPTED
        raise
    finally:
        with exit_if_interrupted():
            close_loop(runner)
        limit_exit(code if isinstance(code, int) else exits.DONE)
    return result


def set_up_logs(*, level: str, style: str = "plain") -> None:
    """Log to stderr from this level on. A line that is logged while a job runs names the job."""
    handler = logging.StreamHandler()
    handler.addFilter(JobFilter())
    handler.setFormatter(JsonFormatter() if style == "json" else PlainFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _set_up_process() -> None:
    logger.__class__ = _EnabledLogger
    logger.disabled = False  # the application may have disabled it when it was imported
    reconfigure: Any = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        # As on stderr: the text of a job may have characters that the encoding of the output lacks.
        reconfigure(errors="backslashreplace")


class _EnabledLogger(logging.Logger):
    """A logger that stays enabled: `logging.config`, called by an application, disables those that it does not name."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, False if name == "disabled" else value)
