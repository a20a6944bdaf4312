"""An embedded runner: it runs inside an application, is restarted if it fails, and stops before the application.

This is also the module for adapters of frameworks: they import only public modules, and find here what they need beside
`flowli_core`, `flowli_core.healthz` (readiness) and `flowli_core.cli` (commands).
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flowli_core._client_errors import is_of_client
from flowli_core._jobs.inspect import DEFAULT_PER_PAGE, MOST_PER_PAGE
from flowli_core._jobs.registry import Jobs, is_registry, runtime_of
from flowli_core._logger import logger
from flowli_core._pauses import LONGEST_PAUSE, is_cancelled, pauses
from flowli_core._running.options import DRAIN
from flowli_core._running.runner import Health, Runner
from flowli_core.durations import Duration, duration
from flowli_core.errors import DefinitionError, StoreUnavailable, StrategyError

__all__ = [
    "DEFAULT_PER_PAGE",
    "DRAIN",
    "MOST_PER_PAGE",
    "EmbeddedHealth",
    "EmbeddedRunner",
    "Host",
    "check_runner",
    "embedded",
    "is_of_client",
    "is_registry",
]


CLOSE_WITHIN = 10.0
"""Seconds that the context and the driver of a registry have to close when their application ends."""

_HEALTHY_RUN = 60.0
"""After a run of this many seconds, the next restart comes after a short pause again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedHealth:
    """The state of an embedded runner.

    `restarts` counts the restarts, `last_error` describes the last failure, and `since_reserve` is the time since the
    last answer of the store, even if that came before a restart.
    """

    restarts: int
    last_error: str | None
    since_reserve: timedelta | None
    runner: Health

    @property
    def is_ready(self) -> bool:
        """True if the runner is running and the store answers."""
        return self.runner.is_ready


class EmbeddedRunner:
    """Supervises a runner: a failure is logged, and the runner is restarted after a growing pause.

    It installs no signal handlers and never ends the process: both belong to the server.
    """

    def __init__(self, runner: Runner, *, drain: Duration = DRAIN) -> None:
        self._runner = runner
        self._drain = duration(drain, argument="drain", zero=True)
        self._restarts = 0
        self._last_error: str | None = None
        self._reserved_at: float | None = None
        self._task: asyncio.Task[None] | None = None

    def health(self) -> EmbeddedHealth:
        """Return the state of the runner."""
        runner_health = self._runner.health()
        since = runner_health.since_reserve
        if since is None and self._reserved_at is not None:
            since = timedelta(seconds=time.monotonic() - self._reserved_at)
        return EmbeddedHealth(
            restarts=self._restarts, last_error=self._last_error, since_reserve=since, runner=runner_health
        )

    def start(self) -> None:
        """Start the runner in a task. Raises StrategyError if it is running already."""
        if self._task is not None or self._runner.health().is_running:
            raise StrategyError("this runner is running already; its lifespan starts an embedded runner once")
        # Not a task group: one across the `yield` of a lifespan would cancel the server's own task.
        self._task = asyncio.create_task(self._supervise(), name="flowli-embedded-runner")
        logger.info("jobs of these queues run in this process: %s", ", ".join(self._runner.queues))

    async def stop(self) -> None:
        """Stop the runner. Its jobs have `drain` to end."""
        task, self._task = self._task, None
        if task is None:
            return
        try:
            await self._runner.stop(drain=self._drain)
        finally:
            # The runner may be between two runs. If this call is cancelled, the runner returns its jobs at once.
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
                self._note_failure("the runner stopped, but the application did not")
            except (Exception, SystemExit, KeyboardInterrupt, asyncio.CancelledError) as error:
                # The task must not raise the last three: they would end the server's event loop, or the task silently.
                if is_cancelled(error):
                    raise
                self._note_failure(f"{type(error).__name__}: {error}", error)
            if time.monotonic() - started > _HEALTHY_RUN:
                waits = pauses()
            await asyncio.sleep(min(next(waits), LONGEST_PAUSE))

    def _note_failure(self, why: str, error: BaseException | None = None) -> None:
        since = self._runner.health().since_reserve
        if since is not None:
            self._reserved_at = time.monotonic() - since.total_seconds()
        self._restarts += 1
        self._last_error = why
        logger.error("the embedded runner failed and will be restarted: %s", why, exc_info=error)


@dataclass(frozen=True, slots=True)
class Host:
    """The application that has opened a registry. `runner` is its embedded runner, if it has one."""

    runner: EmbeddedRunner | None


def check_runner(jobs: Jobs[Any], runner: Runner | None) -> None:
    """Refuse a runner that cannot run these jobs. Called when an application is declared, before it starts."""
    runtime = runtime_of(jobs)
    if runner is None:
        return
    if runner.jobs is not jobs:
        raise DefinitionError("the runner belongs to another registry than the jobs; make it Runner(jobs)")
    runtime.require_driver()


@asynccontextmanager
async def embedded(
    jobs: Jobs[Any], *, runner: Runner | None, drain: timedelta | str = DRAIN
) -> AsyncGenerator[EmbeddedRunner | None]:
    """Open a registry, and run its jobs while the code inside runs, if a runner is given.

    The application starts even if the store is unreachable; enqueueing raises until the store answers. A registry that
    an earlier application has closed is opened again. Raises StrategyError if another application has it open.

    At the end, the running jobs have `drain`, and then the context and the driver have ten seconds to close.
    """
    check_runner(jobs, runner)
    runtime = runtime_of(jobs)
    if runtime.host is not None:
        name = type(jobs).__name__
        raise StrategyError(
            f"this {name} is open already, in another lifespan of this process: its jobs would run twice, and the "
            f"first lifespan to end would close it; make another {name}(...), or attach it with a middleware"
        )
    embedded_runner = None if runner is None else EmbeddedRunner(runner, drain=drain)
    runtime.host = Host(embedded_runner)
    try:
        await open_registry(jobs)
        if embedded_runner is not None:
            embedded_runner.start()
        yield embedded_runner
    finally:
        try:
            if embedded_runner is not None:
                await embedded_runner.stop()
        finally:
            try:
                await close_registry(jobs)
            finally:
                runtime.host = None


async def close_registry(jobs: Jobs[Any]) -> None:
    """Close a registry. What has not ended after ten seconds is cancelled, and named in the log."""
    # Not in a task of its own: a context may have to be closed in the task that opened it.
    limit = asyncio.timeout(CLOSE_WITHIN)
    try:
        async with limit:
            await jobs.aclose()
    except TimeoutError:
        if not limit.expired():
            raise
        runtime = runtime_of(jobs)
        hanging = f"context {runtime.context.name}" if runtime.context.is_closing else f"driver {runtime.driver!r}"
        logger.exception("the %s did not close within %gs, and was cancelled", hanging, CLOSE_WITHIN)


async def open_registry(jobs: Jobs[Any]) -> None:
    """Open a registry, or only its context if the store is unreachable."""
    runtime = runtime_of(jobs)
    runtime.reopen()
    try:
        await runtime.open()
    except StoreUnavailable as error:
        logger.warning("the store is unreachable, starting without it: %s", error)
        await runtime.context.open()
