"""One worker process: a runner, the signals that stop it, and its banner."""

import asyncio
import contextlib
import faulthandler
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flowli_core import FlowliError, Observer, StoreUnavailable, __version__
from flowli_core._jobs.inspect import MOST_PER_PAGE
from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._logger import logger
from flowli_core._text import escape_controls
from flowli_core.cli._common import exits
from flowli_core.cli._common.process import loop_name
from flowli_core.cli._worker.health_server import HealthServer
from flowli_core.cli._worker.options import RunOptions
from flowli_core.cli._worker.parent_link import EXIT_AT, STOP_SIGNALS, STOPPING, UP, ParentLink
from flowli_core.durations import ZERO, format_duration
from flowli_core.embedded import close_registry
from flowli_core.healthz import STUCK
from flowli_core.stored import StateCounts

_SHOWN_SCHEDULES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The facts about a worker that has started, for its banner and its log.

    `schedules` has the keys of all declared schedules, and of the first 1,000 stored ones. It is None if the store did
    not answer.
    """

    driver: str
    queues: list[str]
    jobs: list[str]
    schedules: list[str] | None
    limits: str

    def facts(self) -> dict[str, object]:
        """Return the facts with the versions, for a log line in JSON."""
        return {
            "flowli": __version__,
            "python": platform.python_version(),
            "loop": loop_name(),
            "driver": self.driver,
            "queues": self.queues,
            "jobs": self.jobs,
            "schedules": None if self.schedules is None else len(self.schedules),
        }

    def banner(self, **title: str) -> str:
        """Return the facts as aligned lines for people. The first lines are the pairs in `title`."""
        lines = {
            **title,
            "limits": self.limits,
            "driver": self.driver,
            "queues": ", ".join(self.queues),
            "jobs": ", ".join(self.jobs) or "none",
            "schedules": _summarize(self.schedules),
        }
        head = f"flowli {__version__}, Python {platform.python_version()}, {loop_name()}, pid {os.getpid()}"
        return "\n".join([head, *(f"  {name:<10} {escape_controls(value)}" for name, value in lines.items())])


class Worker:
    """Runs the jobs of a registry until a stop signal, or with `burst` until none is due.

    `on_up` is called when it has started. Raises UsageError for options that the runner refuses.
    """

    def __init__(
        self,
        jobs: Jobs[Any],
        options: RunOptions,
        *,
        on_up: Callable[[Started], None],
        observers: Sequence[Observer] = (),
        parent: ParentLink | None = None,
        health: HealthServer | None = None,
    ) -> None:
        self.runner = options.make_runner(jobs, on_stall=exit_stalled, observers=observers)
        self._jobs = jobs
        self._options = options
        self._parent = parent
        self._health = health
        self._on_up = on_up
        self._signals = 0
        self._is_stuck = False
        self._pid = os.getpid()
        self._stops: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop

    async def run(self) -> int:
        """Run jobs, and return the exit code."""
        self._loop = asyncio.get_running_loop()
        earlier = {number: signal.signal(number, self._on_signal) for number in STOP_SIGNALS}
        try:
            with self._health.serve(self._loop, self.runner) if self._health else contextlib.nullcontext():
                await self._serve()
        finally:
            await close_registry(self._jobs)
            for number, handler in earlier.items():
                signal.signal(number, handler)
        if self._stops:
            await asyncio.wait(self._stops)
        if self._is_stuck:
            return exits.STALLED
        return exits.TERMINATED if self._signals > 1 else exits.DONE

    async def _serve(self) -> None:
        runtime = runtime_of(self._jobs)
        runtime.require_driver()
        try:
            await runtime.open()
        except StoreUnavailable as error:
            if self._options.burst:
                raise
            logger.warning("starting although the store is unreachable: %s", error)
        await self._warn_of_paused_queues()
        started = await self._gather_facts()
        if self._parent is not None:
            self._parent.report(UP)
            self._loop.add_reader(self._parent.lifetime, self._on_orphaned)
        self._on_up(started)
        # Nothing is awaited between this check and the start of the runner, so no signal is missed.
        if self._signals:
            return
        if self._options.burst:
            counts = await self.runner.run_once()
            await self._warn_of_paused_queues(with_jobs=True)
            await self._warn_of_limited_jobs()
            logger.info("burst finished: %s", ", ".join(f"{getattr(counts, name)} {name}" for name in counts.__slots__))
        else:
            watch = asyncio.create_task(self._stop_if_stuck())
            try:
                await self.runner.run()
            finally:
                watch.cancel()

    async def _warn_of_paused_queues(self, *, with_jobs: bool = False) -> None:
        """Log which queues of the runner are paused. If `with_jobs`, leave out those in which no due jobs wait."""
        with contextlib.suppress(FlowliError):
            overview = await self._jobs.inspect.get_overview()
            for queue in [queue for queue in self.runner.queues if queue in overview.paused]:
                waiting = overview.counts.by_queue.get(queue, StateCounts()).queued
                if waiting or not with_jobs:
                    logger.warning("the queue %s is paused; due jobs that wait in it: %d", queue, waiting)

    async def _warn_of_limited_jobs(self) -> None:
        """Log how many due jobs a burst has left because limits hold them up."""
        with contextlib.suppress(FlowliError):
            overview = await self._jobs.inspect.get_overview()
            queues = [queue for queue in self.runner.queues if queue not in overview.paused]
            left = sum([overview.counts.by_queue.get(queue, StateCounts()).queued for queue in queues])
            if left and any(lane.blocked is not None and lane.queue in queues for lane in overview.lanes):
                logger.warning("due jobs that wait for their limits, see `flowli lanes`: %d", left)

    async def _stop_if_stuck(self) -> None:
        """Stop once every slot has been held for `stall_limit` by handlers that never end."""
        limit = self._options.stall_limit.total_seconds()
        interval = min(limit / 2, 1.0)
        stuck = 0.0
        while stuck < limit:
            await asyncio.sleep(interval)
            stuck = stuck + interval if self.runner.health().is_stuck else 0.0
        self._is_stuck = True
        logger.error("%s; exiting so that this worker can be restarted", STUCK)
        await self.runner.stop(drain=ZERO)

    async def _gather_facts(self) -> Started:
        runtime = runtime_of(self._jobs)
        schedules: list[str] | None = None
        with contextlib.suppress(FlowliError):
            page = await self._jobs.inspect.get_schedules(limit=MOST_PER_PAGE)
            # The runner stores the declared ones only as it starts.
            schedules = sorted({one.key for one in page.items} | {one.key for one in runtime.schedules})
        options = self._options
        lease, drain = format_duration(options.lease), format_duration(options.drain)
        return Started(
            driver=repr(runtime.require_driver()),
            queues=list(self.runner.queues),
            jobs=[name for name, job in runtime.settings.items() if job.queue in self.runner.queues],
            schedules=schedules,
            limits=f"{options.concurrency} at a time, lease {lease}, drain {drain}",
        )

    def _on_signal(self, number: int, _: object) -> None:
        # A plain handler rather than the loop's: it also runs while the loop is blocked.
        if os.getpid() != self._pid:  # a child process that a handler has forked: end it, and not the worker
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self._signals += 1
        if self._parent is not None:
            self._parent.report(STOPPING)
        if self._signals >= EXIT_AT:
            os.write(2, b"flowli: exiting at once; other workers run these jobs when their leases expire\n")
            os._exit(128 + number)
        self._loop.call_soon_threadsafe(self._stop, f"received {signal.Signals(number).name}")

    def _on_orphaned(self) -> None:
        if self._parent is not None:
            self._loop.remove_reader(self._parent.lifetime)
        self._signals += 1
        self._stop("the parent process has ended")

    def _stop(self, reason: str) -> None:
        if self._signals == 1 and self._options.drain:
            drain = self._options.drain
            logger.info(
                "%s: stopping; %d running jobs may continue for %s, a second signal returns them to the queue",
                reason,
                self.runner.health().active,
                format_duration(drain),
            )
        else:
            drain = ZERO
            logger.info("%s: stopping; running jobs return to the queue", reason)
        self._stops.add(self._loop.create_task(self.runner.stop(drain=drain)))


def exit_stalled() -> None:
    """Exit a process whose event loop stays blocked, after printing the stacks of all threads."""
    sys.stderr.write("flowli: the event loop stays blocked; exiting so that this worker can be restarted\n")
    sys.stderr.flush()
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    os._exit(exits.STALLED)


def _summarize(schedules: list[str] | None) -> str:
    if schedules is None:
        return "unknown"
    if not schedules:
        return "none"
    shown, more = schedules[:_SHOWN_SCHEDULES], len(schedules) - _SHOWN_SCHEDULES
    return f"{len(schedules)}: {', '.join(shown)}" + (f" and {more} more" if more > 0 else "")
