"""The event loop and the log lines of a command."""

import asyncio
import importlib
import importlib.util
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from flowli_core.logs import JobFilter, JsonFormatter, PlainFormatter

T = TypeVar("T")


def loop_name() -> str:
    """Return the name of the event loop that `run` uses: uvloop if it is installed, because it is faster."""
    return "asyncio" if importlib.util.find_spec("uvloop") is None else "uvloop"


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a new event loop, and return its result."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if loop_name() == "uvloop":
        factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def set_up_logs(*, level: str, style: str = "plain") -> None:
    """Log to stderr from this level on. A line that is logged while a job runs names the job."""
    handler = logging.StreamHandler()
    handler.addFilter(JobFilter())
    handler.setFormatter(JsonFormatter() if style == "json" else PlainFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
