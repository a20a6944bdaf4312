"""What reserves jobs and runs them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, cast

from flowli_core import _checks
from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._running.events import RunCounts
from flowli_core._running.hooks import Hooks, Observer
from flowli_core._running.run import DRAIN, RunnerOptions, Session
from flowli_core.durations import Duration, duration
from flowli_core.errors import DefinitionError, StoreUnavailable, StrategyError

MOST_CONCURRENT = 10_000

READY_WITHIN = timedelta(seconds=30)
"""A runner asks its store for work at least every few seconds; one that has not for this long is stuck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a runner is doing. `since_reserve` is None until the store has answered; `last_error` says why not."""

    is_running: bool
    since_reserve: timedelta | None
    last_error: str | None
    active: int

    @property
    def is_ready(self) -> bool:
        """Whether it runs, and the store has answered within the last 30 seconds and answers now."""
        recently = self.since_reserve is not None and self.since_reserve < READY_WITHIN
        return self.is_running and recently and self.last_error is None


class Runner:
    """Reserves jobs of a registry and runs them, up to `concurrency` at a time.

    `queues` are served in order: the first that has something. By default those of the registry's jobs, in the order in
    which the jobs are declared. A lease is renewed at a third of its length for as long as a job runs, so its length
    has nothing to do with the job's; it is how long it takes until the jobs of a dead worker are found. A handler that
    was told to end and has not after `cancel_grace` is settled without it. An event loop that has been blocked for
    `stall_limit` loses its leases, and `on_stall` is called, from another thread: a worker process may leave there.

    `observers` are told of everything at once, on this loop: see `flowli_core.metrics`.

    As it starts it registers the schedules that the registry declares. What the registry declared before and does no
    longer is named in the log, and goes on; with `remove_vanished_schedules` it is removed.

    A runner installs no signal handlers and ends no process. Raises DefinitionError for options that cannot be.
    """

    def __init__(
        self,
        jobs: Jobs[Any],
        *,
        concurrency: int = 10,
        queues: list[str] | tuple[str, ...] | None = None,
        lease: Duration = "30s",
        hooks: Hooks | None = None,
        cancel_grace: Duration = "5s",
        stall_limit: Duration = "5m",
        on_stall: Callable[[], None] | None = None,
        observers: Sequence[Observer] = (),
        remove_vanished_schedules: bool = False,
    ) -> None:
        self._jobs = jobs
        self._runtime = runtime_of(jobs)
        self._options = RunnerOptions(
            concurrency=_checks.whole_number(concurrency, argument="concurrency", low=1, high=MOST_CONCURRENT),
            queues=_check_queues(queues) or _declared_queues(jobs),
            lease=_check_lease(lease),
            hooks=Hooks() if hooks is None else _checks.instance(hooks, Hooks, argument="hooks"),
            cancel_grace=duration(cancel_grace, argument="cancel_grace"),
            stall_limit=duration(stall_limit, argument="stall_limit"),
            on_stall=on_stall,
            observers=_check_observers(observers),
            remove_vanished_schedules=remove_vanished_schedules,
        )
        self._session: Session | None = None
        self._is_running = False
        self._task: asyncio.Task[RunCounts] | None = None

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that it serves, in order."""
        return self._options.queues

    @property
    def jobs(self) -> Jobs[Any]:
        """The registry whose jobs it runs."""
        return self._jobs

    def health(self) -> Health:
        """How this runner is doing."""
        session = self._session
        return Health(
            is_running=self._is_running,
            since_reserve=session.link.since_answer() if session else None,
            last_error=session.link.last_error if session else None,
            active=session.active if session else 0,
        )

    async def run(self) -> None:
        """Run jobs until `stop`. A cancelled `run` first gives back what it holds; no attempt is used.

        Raises StrategyError where it runs already or the runtime has no driver, and what the context's factory raises.
        """
        await self._serve(self._claim(once=False))

    async def run_once(self) -> RunCounts:
        """Run everything that is due now, and what becomes due at once because of it; answer what came of it.

        Raises as `run` does, and DriverError where the store does not answer.
        """
        return await self._serve(self._claim(once=True))

    async def stop(self, *, drain: Duration = DRAIN) -> None:
        """Reserve no more, wait up to `drain` for what runs, then cancel it and give it back; no attempt is used.

        Returns when all that is done, also where it was asked before. Does nothing where nothing runs.
        """
        within = duration(drain, argument="drain", zero=True)
        if self._is_running and self._session is not None:
            self._session.begin_stop(within)
            await self._session.ended()

    async def __aenter__(self) -> Self:
        # A store that cannot be reached just now is tried again; what else is wrong is said here.
        with contextlib.suppress(StoreUnavailable):
            await self._runtime.open()
        session = self._claim(once=False)
        self._task = asyncio.create_task(self._serve(session))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        try:
            await self.stop()
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait((task,))
            raise
        await task

    def _claim(self, *, once: bool) -> Session:
        if self._is_running:
            raise StrategyError("this runner runs already; make another Runner for a second one")
        self._session = Session(self._runtime, self._options, once=once)
        self._is_running = True
        return self._session

    async def _serve(self, session: Session) -> RunCounts:
        try:
            return await session.serve()
        finally:
            self._is_running = False


def _check_queues(queues: object) -> tuple[str, ...] | None:
    if queues is None:
        return None
    if isinstance(queues, str) or not isinstance(queues, list | tuple) or not queues:
        raise DefinitionError("queues must be a list of at least one name, the first served first")
    names = cast("list[object] | tuple[object, ...]", queues)
    return tuple(dict.fromkeys(_checks.name(name, argument="queues") for name in names))


def _declared_queues(jobs: Jobs[Any]) -> tuple[str, ...]:
    runtime = runtime_of(jobs)
    return tuple(dict.fromkeys([*(job.queue for job in runtime.settings.values()), runtime.defaults.queue]))


def _check_lease(lease: Duration) -> timedelta:
    length = duration(lease, argument="lease", longest=timedelta(hours=24))
    if length < timedelta(seconds=1):
        raise DefinitionError(f"lease must be from 1s to 24h, got {lease!r}")
    return length


def _check_observers(observers: object) -> tuple[Observer, ...]:
    given = tuple(cast("Sequence[Observer]", observers)) if isinstance(observers, list | tuple) else None
    if given is None or any(not callable(getattr(one, "observe", None)) for one in given):
        raise DefinitionError("observers must be a list of objects that have observe(what, event)")
    return given
