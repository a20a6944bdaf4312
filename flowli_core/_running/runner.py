"""The runner: it reserves the jobs of a registry and runs them."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, cast

from flowli_core import _checks
from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._loops import run_on
from flowli_core._running.events import RunCounts
from flowli_core._running.hooks import Hooks, Observer
from flowli_core._running.options import DRAIN, RunnerOptions
from flowli_core._running.run import Run
from flowli_core.durations import Duration, duration, format_duration
from flowli_core.errors import DefinitionError, StoreUnavailable, StrategyError

MAX_CONCURRENCY = 10_000

READY_WITHIN = timedelta(seconds=30)
"""A runner steps at least every few seconds. If its last answer is older than this, it is not ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The state of a runner.

    `since_reserve` is the time since the last answer of the store, None until the first one. `last_error` describes why
    the store does not answer, or why leases cannot be renewed; None if neither. `active` is the number of running
    handlers, and `hung` the number of those that were settled without their end, because they went on after they were
    asked to end. `is_stuck` is True while these hold every slot. Only a restart is sure to free their slots.
    """

    is_running: bool
    since_reserve: timedelta | None
    last_error: str | None
    active: int
    hung: int = 0
    is_stuck: bool = False

    @property
    def is_ready(self) -> bool:
        """True if the runner can take jobs.

        It is running, its last call of the store succeeded, within the last 30 seconds, and it is not stuck.
        """
        recently = self.since_reserve is not None and self.since_reserve < READY_WITHIN
        return self.is_running and recently and self.last_error is None and not self.is_stuck


class Runner:
    """Reserves jobs of a registry and runs at most `concurrency` of them at a time.

    `queues` are the queues to serve: a step reserves from the first one that has due jobs. By default these are those
    that the registry declares: first those of its jobs, in the order of the jobs, and then its `queues`. A dict gives
    each queue a weight from 1 to 100: `{"mail": 3, "bulk": 1}` starts three jobs of mail for each of bulk while both
    have due jobs.

    A job may run for longer than `lease`: its lease is renewed at a third of its length. The jobs of a worker that dies
    are recovered once their lease has expired.

    A handler that was asked to end, and is still running after `cancel_grace`, is settled without it. If the event loop
    is blocked for `stall_limit`, the leases are no longer renewed, and `on_stall` is called from another thread: a
    worker process may exit there.

    `observers` are called on this event loop for everything that happens to a job: see `flowli_core.metrics`.

    A runner registers the schedules of its registry when it starts. A schedule that was deleted from the code keeps
    running, and its key is logged; with `remove_vanished_schedules` it is removed.

    A runner installs no signal handlers and never ends the process. Raises DefinitionError for an invalid option.
    """

    def __init__(
        self,
        jobs: Jobs[Any],
        *,
        concurrency: int = 10,
        queues: list[str] | tuple[str, ...] | Mapping[str, int] | None = None,
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
            concurrency=_checks.whole_number(concurrency, argument="concurrency", low=1, high=MAX_CONCURRENCY),
            queues=_check_queues(queues) or runtime_of(jobs).queues,
            weights=_check_weights(queues),
            lease=_check_lease(lease),
            hooks=Hooks() if hooks is None else _checks.instance(hooks, Hooks, argument="hooks"),
            cancel_grace=duration(cancel_grace, argument="cancel_grace"),
            stall_limit=duration(stall_limit, argument="stall_limit"),
            on_stall=on_stall,
            observers=_check_observers(observers),
            remove_vanished_schedules=remove_vanished_schedules,
        )
        self._run: Run | None = None
        self._is_running = False
        self._task: asyncio.Task[RunCounts] | None = None

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that the runner serves, the first one first."""
        return self._options.queues

    @property
    def jobs(self) -> Jobs[Any]:
        """The registry whose jobs the runner runs."""
        return self._jobs

    def health(self) -> Health:
        """Return the state of this runner."""
        run = self._run
        return Health(
            is_running=self._is_running,
            since_reserve=run.client.since_answer() if run else None,
            last_error=run.last_error if run else None,
            active=run.active if run else 0,
            hung=run.hung if run else 0,
            is_stuck=run.is_stuck if run else False,
        )

    async def run(self) -> None:
        """Run jobs until `stop` is called. If `run` is cancelled, it first returns its jobs to the queue.

        A job that is returned to the queue has used no attempt. Raises StrategyError if the runner is running already
        or the registry has no driver, and any error of the context's factory.
        """
        await self._serve(self._claim(once=False))

    async def run_once(self) -> RunCounts:
        """Run all jobs that are due, and those that these make due at once. Return the counts.

        Raises what `run` raises, and DriverError if the store does not answer.
        """
        return await self._serve(self._claim(once=True))

    async def stop(self, *, drain: Duration = DRAIN) -> None:
        """Stop reserving, wait up to `drain` for the running jobs, then cancel them and return them to the queue.

        A job that is returned to the queue has used no attempt. Returns when the run is over; does nothing if there is
        none. May be called again, with a shorter `drain`, and from any event loop.
        """
        within = duration(drain, argument="drain", zero=True)
        run = self._run
        if not self._is_running or run is None:
            return
        if run.loop is asyncio.get_running_loop():
            run.begin_stop(within)
            await run.ended()
        else:
            await run_on(run.loop, self.stop(drain=within))

    async def __aenter__(self) -> Self:
        # An unreachable store is retried later. Any other error is raised here.
        with contextlib.suppress(StoreUnavailable):
            await self._runtime.open()
        run = self._claim(once=False)
        self._task = asyncio.create_task(self._serve(run))
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

    def _claim(self, *, once: bool) -> Run:
        if self._is_running:
            raise StrategyError("this runner is running already; make another Runner for a second one")
        self._run = Run(self._runtime, self._options, once=once)
        self._is_running = True
        return self._run

    async def _serve(self, run: Run) -> RunCounts:
        try:
            return await run.serve()
        finally:
            self._is_running = False


def _check_queues(queues: object) -> tuple[str, ...] | None:
    if queues is None:
        return None
    if isinstance(queues, str) or not isinstance(queues, list | tuple | Mapping) or not queues:
        raise DefinitionError(
            "queues must be a list of at least one name, in the order in which they are served, or a dict of weights"
        )
    names = cast("Iterable[object]", queues)
    return tuple(dict.fromkeys(_checks.name(name, argument="name of a queue") for name in names))


def _check_weights(queues: object) -> Mapping[str, int] | None:
    if not isinstance(queues, Mapping):
        return None
    given = cast("Mapping[str, object]", queues)
    return {
        queue: _checks.whole_number(weight, argument=f"the weight of {queue}", low=1, high=100)
        for queue, weight in given.items()
    }


def _check_lease(lease: Duration) -> timedelta:
    length = duration(lease, argument="lease", longest=timedelta(hours=24))
    if length < timedelta(seconds=1):
        raise DefinitionError(f"lease must be from 1s to 24h, got {format_duration(length)}")
    return length


def _check_observers(observers: object) -> tuple[Observer, ...]:
    given = tuple(cast("Sequence[Observer]", observers)) if isinstance(observers, list | tuple) else None
    if given is None or any(not callable(getattr(observer, "observe", None)) for observer in given):
        raise DefinitionError("observers must be a list of objects with a method observe(kind, event)")
    return given
