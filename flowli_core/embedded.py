"""A runner beside an application: started with it, restarted when it falls, stopped before it ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._pauses import LONGEST_PAUSE, is_cancelled, pauses
from flowli_core._running.run import DRAIN
from flowli_core._running.runner import Health, Runner
from flowli_core.durations import Duration, duration
from flowli_core.errors import DefinitionError, StoreUnavailable, StrategyError

logger = logging.getLogger("flowli")

_SETTLED_AFTER = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedHealth:
    """How an embedded runner is doing: how often it was restarted, what ended it last, and its own health.

    `since_reserve` is how long ago the store last answered it, also where that was before a restart.
    """

    restarts: int
    last_error: str | None
    since_reserve: timedelta | None
    runner: Health

    @property
    def is_ready(self) -> bool:
        """Whether it runs, and the store answers it."""
        return self.runner.is_ready


class EmbeddedRunner:
    """Supervises a runner: what ends it unexpectedly is logged, and it is started again after a growing pause.

    It installs no signal handlers and never ends the process: that belongs to the server around it.
    """

    def __init__(self, runner: Runner, *, drain: Duration = DRAIN) -> None:
        self._runner = runner
        self._drain = duration(drain, argument="drain", zero=True)
        self._restarts = 0
        self._last_error: str | None = None
        self._reserved_at: float | None = None
        self._task: asyncio.Task[None] | None = None

    def health(self) -> EmbeddedHealth:
        """How it is doing."""
        of_runner = self._runner.health()
        since = of_runner.since_reserve
        if since is None and self._reserved_at is not None:
            since = timedelta(seconds=time.monotonic() - self._reserved_at)
        return EmbeddedHealth(
            restarts=self._restarts, last_error=self._last_error, since_reserve=since, runner=of_runner
        )

    def start(self) -> None:
        """Start the runner in a task of its own, which `stop` waits for. Raises StrategyError where it runs already.

        A plain task rather than a task group: a group across a lifespan's `yield` would cancel the server's own task.
        """
        if self._task is not None or self._runner.health().is_running:
            raise StrategyError("this runner runs already; an embedded runner is started once, by its lifespan")
        self._task = asyncio.create_task(self._supervise(), name="flowli-embedded-runner")

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
                if self._task is None:
                    return
                self._note_fall("it stopped, and nobody had asked the application to stop it")
            except (Exception, SystemExit, KeyboardInterrupt, asyncio.CancelledError) as error:
                # A task that lets one of the last three out would take the server's event loop with it, or go silently.
                if is_cancelled(error):
                    raise
                self._note_fall(f"{type(error).__name__}: {error}", error)
            if time.monotonic() - started > _SETTLED_AFTER:
                waits = pauses()
            await asyncio.sleep(min(next(waits), LONGEST_PAUSE))

    def _note_fall(self, why: str, error: BaseException | None = None) -> None:
        since = self._runner.health().since_reserve
        if since is not None:
            self._reserved_at = time.monotonic() - since.total_seconds()
        self._restarts += 1
        self._last_error = why
        logger.error("the embedded runner fell and will be restarted: %s", why, exc_info=error)


@dataclass(frozen=True, slots=True)
class Host:
    """An application that has opened a registry, and the runner beside it, if there is one."""

    runner: EmbeddedRunner | None


def check_runner(jobs: Jobs[Any], runner: Runner | None) -> None:
    """Refuse a runner that cannot run these jobs, where an application is declared rather than when it starts."""
    runtime = runtime_of(jobs)
    if runner is None:
        return
    if runner.jobs is not jobs:
        raise DefinitionError("the runner is of another registry than the jobs; make it Runner(jobs)")
    runtime.require_driver()


@asynccontextmanager
async def embedded(
    jobs: Jobs[Any], *, runner: Runner | None, drain: timedelta | str = DRAIN
) -> AsyncGenerator[EmbeddedRunner | None]:
    """Open a runtime, and run its jobs beside the code inside, where a runner is given.

    A store that cannot be reached just now does not keep the application from starting; enqueueing raises until it can.
    A registry that an earlier application has closed is opened again; one that another has open is a StrategyError.
    """
    check_runner(jobs, runner)
    runtime = runtime_of(jobs)
    if runtime.host is not None:
        name = type(jobs).__name__
        raise StrategyError(
            f"this {name} is open already, in another lifespan of this process, which would run its jobs twice and "
            f"close it under this one; make another {name}(...), or attach it with a middleware"
        )
    beside = None if runner is None else EmbeddedRunner(runner, drain=drain)
    runtime.host = Host(beside)
    try:
        await _open(jobs)
        if beside is not None:
            beside.start()
        yield beside
    finally:
        try:
            if beside is not None:
                await beside.stop()
        finally:
            try:
                await jobs.aclose()
            finally:
                runtime.host = None


async def _open(jobs: Jobs[Any]) -> None:
    runtime = runtime_of(jobs)
    runtime.reopen()
    try:
        await runtime.open()
    except StoreUnavailable as error:
        logger.warning("starting without the store: %s", error)
        await runtime.context.open()
