"""A runner beside an application: started with it, restarted when it falls, stopped before it ends."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowli_core._link import LONGEST_PAUSE, pauses
from flowli_core._session import DRAIN
from flowli_core.durations import Duration, duration
from flowli_core.errors import DefinitionError, StoreUnavailable
from flowli_core.registry import Jobs, runtime_of
from flowli_core.runner import Health

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from datetime import timedelta

    from flowli_core.runner import Runner

logger = logging.getLogger("flowli")

_SETTLED_AFTER = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedHealth:
    """How an embedded runner is doing: how often it was restarted, what ended it last, and its own health."""

    restarts: int
    last_error: str | None
    runner: Health


class EmbeddedRunner:
    """Supervises a runner: what ends it unexpectedly is logged, and it is started again after a growing pause.

    It installs no signal handlers and never ends the process: that belongs to the server around it.
    """

    def __init__(self, runner: Runner, *, drain: Duration = DRAIN) -> None:
        self._runner = runner
        self._drain = duration(drain, argument="drain", zero=True)
        self._restarts = 0
        self._last_error: str | None = None
        self._task: asyncio.Task[None] | None = None

    def health(self) -> EmbeddedHealth:
        """How it is doing."""
        return EmbeddedHealth(restarts=self._restarts, last_error=self._last_error, runner=self._runner.health())

    def start(self) -> None:
        """Start the runner in a task of its own, which `stop` waits for.

        A plain task rather than a task group: a group across a lifespan's `yield` would cancel the server's own task.
        """
        self._task = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        """Drain the runner, for as long as was allowed, and end."""
        task, self._task = self._task, None
        if task is None:
            return
        try:
            await self._runner.stop(drain=self._drain)
        finally:
            # It may be between two runs; or this is cancelled, and what the runner holds is given back at once.
            task.cancel()
            await asyncio.wait((task,))

    async def _supervise(self) -> None:
        waits = pauses()
        while True:
            started = time.monotonic()
            try:
                await self._runner.run()
            except Exception as error:
                self._restarts += 1
                self._last_error = f"{type(error).__name__}: {error}"
                logger.exception("the embedded runner fell and will be restarted")
            else:
                return
            if time.monotonic() - started > _SETTLED_AFTER:
                waits = pauses()
            await asyncio.sleep(min(next(waits), LONGEST_PAUSE))


@asynccontextmanager
async def embedded(
    jobs: Jobs[Any], *, runner: Runner | None, drain: timedelta | str = DRAIN
) -> AsyncGenerator[EmbeddedRunner | None]:
    """Open a runtime, and run its jobs beside the code inside, where a runner is given.

    A store that cannot be reached just now does not keep the application from starting; enqueueing raises until it can.
    """
    if runner is not None and runner.jobs is not jobs:
        raise DefinitionError("the runner is of another registry than the jobs; make it Runner(jobs)")
    beside = None if runner is None else EmbeddedRunner(runner, drain=drain)
    runtime = runtime_of(jobs)
    try:
        await _open(jobs)
        if runner is not None:
            runtime.require_driver()
        if beside is not None:
            beside.start()
        yield beside
    finally:
        try:
            if beside is not None:
                await beside.stop()
        finally:
            await jobs.aclose()


async def _open(jobs: Jobs[Any]) -> None:
    runtime = runtime_of(jobs)
    try:
        await runtime.open()
    except StoreUnavailable as error:
        logger.warning("starting without the store: %s", error)
        await runtime.context.open()
