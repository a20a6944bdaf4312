"""One worker process: a runner, the signals that end it, and what it says about itself."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import platform
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from flowli_core import FlowliError, Runner, StoreUnavailable
from flowli_core._jobs.inspect import MOST_PER_PAGE
from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._text import escape_controls
from flowli_core.cli._common import exits
from flowli_core.cli._common.process import loop_name
from flowli_core.cli._worker.health_server import HealthServer
from flowli_core.cli._worker.parent import STOPPING, UP
from flowli_core.durations import ZERO, format_duration

logger = logging.getLogger("flowli")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_AT_ONCE = 3
"""The signal that no longer waits for anything."""

_SHOWN_SCHEDULES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifeline:
    """What ties a worker to the parent that started it: where to say how far it is, and what ends with the parent."""

    number: int
    ready: int
    parent: int = 0

    @classmethod
    def from_variable(cls, value: str) -> Lifeline:
        """Read what the parent has put into the environment."""
        number, ready = value.split(":")
        return cls(number=int(number), ready=int(ready))

    def says(self, word: bytes) -> None:
        """Tell the parent."""
        with contextlib.suppress(OSError):
            os.write(self.ready, word)


class Worker:
    """Runs the jobs of a registry until it is told to stop, or, with `burst`, until there are none."""

    def __init__(
        self,
        jobs: Jobs[Any],
        runner: Runner,
        *,
        drain: timedelta,
        burst: bool = False,
        lifeline: Lifeline | None = None,
        health: HealthServer | None = None,
        on_up: Callable[[Started], None],
    ) -> None:
        self._jobs = jobs
        self._runner = runner
        self._drain = drain
        self._burst = burst
        self._lifeline = lifeline
        self._health = health
        self._on_up = on_up
        self._asked = 0
        self._stops: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop

    async def run(self) -> int:
        """Serve, and answer the exit code."""
        self._loop = asyncio.get_running_loop()
        earlier = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            with self._health.over(self._loop, self._runner) if self._health else contextlib.nullcontext():
                await self._serve()
        finally:
            await self._jobs.aclose()
            for number, handler in earlier.items():
                signal.signal(number, handler)
        if self._stops:
            await asyncio.wait(self._stops)
        return exits.TERMINATED if self._asked > 1 else exits.DONE

    async def _serve(self) -> None:
        runtime = runtime_of(self._jobs)
        runtime.require_driver()
        try:
            await runtime.open()
        except StoreUnavailable as error:
            if self._burst:
                raise
            logger.warning("starting without the store: %s", error)
        started = await self._started()
        if self._lifeline is not None:
            self._lifeline.says(UP)
            self._loop.add_reader(self._lifeline.parent, self._on_orphaned)
        self._on_up(started)
        # Nothing is awaited between the question and the start, so no signal is missed.
        if self._asked:
            return
        if self._burst:
            counts = await self._runner.run_once()
            logger.info("all done: %s", ", ".join(f"{getattr(counts, name)} {name}" for name in counts.__slots__))
        else:
            await self._runner.run()

    async def _started(self) -> Started:
        runtime = runtime_of(self._jobs)
        schedules: list[str] | None = None
        with contextlib.suppress(FlowliError):
            page = await self._jobs.inspect.get_schedules(limit=MOST_PER_PAGE)
            # Those that are declared may not be stored yet: the runner does that as it starts.
            schedules = sorted({one.key for one in page.items} | {one.key for one in runtime.schedules})
        return Started(
            driver=repr(runtime.require_driver()),
            queues=list(self._runner.queues),
            jobs=list(runtime.jobs),
            schedules=schedules,
        )

    def _on_signal(self, number: int, _: object) -> None:
        # A plain handler rather than the loop's: it also runs where the loop is blocked.
        self._asked += 1
        if self._lifeline is not None:
            self._lifeline.says(STOPPING)
        if self._asked >= _AT_ONCE:
            os._exit(128 + number)
        self._loop.call_soon_threadsafe(self._stop, signal.Signals(number).name)

    def _on_orphaned(self) -> None:
        if self._lifeline is not None:
            self._loop.remove_reader(self._lifeline.parent)
        self._asked += 1
        self._stop("the end of the parent")

    def _stop(self, why: str) -> None:
        drain = self._drain if self._asked == 1 else ZERO
        how = f"finishing what runs, for up to {format_duration(drain)}" if drain else "giving back what runs"
        logger.info("stopping because of %s: %s", why, how)
        self._stops.add(self._loop.create_task(self._runner.stop(drain=drain)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What a worker says of itself once it is up. `schedules` is None where the store could not say.

    It has at least those that the registry declares, and of the stored ones the first 1,000 by their keys.
    """

    driver: str
    queues: list[str]
    jobs: list[str]
    schedules: list[str] | None

    def facts(self) -> dict[str, object]:
        """All of it, with the versions."""
        return {
            "flowli": version("flowli"),
            "python": platform.python_version(),
            "loop": loop_name(),
            "driver": self.driver,
            "queues": self.queues,
            "jobs": self.jobs,
            "schedules": None if self.schedules is None else len(self.schedules),
        }

    def banner(self, **more: str) -> str:
        """The same for people."""
        lines = {
            **more,
            "driver": self.driver,
            "queues": ", ".join(self.queues),
            "jobs": ", ".join(self.jobs) or "none",
            "schedules": _named(self.schedules),
        }
        head = f"flowli {version('flowli')}, Python {platform.python_version()}, {loop_name()}, pid {os.getpid()}"
        return "\n".join([head, *(f"  {name:<10} {escape_controls(value)}" for name, value in lines.items())])


def _named(schedules: list[str] | None) -> str:
    if schedules is None:
        return "unknown"
    if not schedules:
        return "none"
    shown, more = schedules[:_SHOWN_SCHEDULES], len(schedules) - _SHOWN_SCHEDULES
    return f"{len(schedules)}: {', '.join(shown)}" + (f" and {more} more" if more > 0 else "")


def leave_stalled() -> None:
    """End a process whose event loop will never turn again, with the stacks of all threads."""
    sys.stderr.write("flowli: the event loop is dead; leaving, so that this worker can be started again\n")
    sys.stderr.flush()
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    os._exit(exits.STALLED)
