"""The event loop of a command: uvloop where it is installed, for it is faster."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def loop_name() -> str:
    """Which event loop `run` takes."""
    return "asyncio" if importlib.util.find_spec("uvloop") is None else "uvloop"


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end, in a loop of its own."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if loop_name() == "uvloop":
        factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)
