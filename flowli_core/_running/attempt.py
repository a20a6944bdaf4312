"""One attempt at one job: from a reserved record to an outcome, whatever its handler does."""

from __future__ import annotations

import asyncio
import enum
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from flowli_core._current import CurrentJob, set_current
from flowli_core._jobs.definition import Definition
from flowli_core._jobs.execution import Replaced, Started
from flowli_core._jobs.runtime import Runtime
from flowli_core._jobs.tracer import Tracer
from flowli_core._logger import logger
from flowli_core._progress import LogLine, Progress
from flowli_core._running.reports import JobReports
from flowli_core._running.threads import Threads
from flowli_core._wire.attempts import (
    Attempts,
    KeptAttempt,
    begin_at_handler,
    describe_error,
    pack_attempts,
)
from flowli_core._wire.codec import pack_result
from flowli_core._wire.policy import Policy
from flowli_core._wire.trace import trace_of, without_trace
from flowli_core.driver import Ack, Cancelled, Completed, Failed, Lease, Outcome, Released, Reserved, Retried
from flowli_core.durations import format_duration
from flowli_core.errors import LastError, ValidationError
from flowli_core.retry import JobTimeout, leaf_errors, next_delay

_REDELIVERY_DELAY = timedelta(seconds=1)
"""Delay before redelivery if something other than the runner cancelled the task.

The handler may have done that itself, and would do it again at once.
"""


_making = threading.Lock()
"""Keeps two threads of one handler from making its job or its reports twice."""


class EndReason(enum.Enum):
    """The reason why an attempt is ended before its handler returns."""

    TIMEOUT = "it ran for longer than its timeout"
    LEASE_LOST = "its lease was lost"
    CANCELLED = "it was cancelled"
    STOPPED = "its worker is stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The parts of a run that its attempts share."""

    worker: str
    runtime: Runtime
    threads: Threads
    cancel_grace: timedelta
    on_settled: Callable[[Attempt], None]
    on_ended: Callable[[Attempt], None]
    on_report: Callable[[], None]


@dataclass(slots=True, eq=False)
class Attempt:
    """A reserved record while its handler runs.

    `outcome` never changes once it is set; `on_settled` is called at that moment. `on_ended` is called when the handler
    has ended: just before, or later if the handler ignored that it was asked to end. A result that comes so late is
    discarded.
    """

    surroundings: Surroundings
    reserved: Reserved
    definition: Definition
    policy: Policy
    lease_until: float
    started_at: datetime
    earlier: Attempts
    reports: JobReports | None = None
    """Made when the handler first reports something: most never do."""
    outcome: Outcome | None = None
    error: BaseException | None = None
    described: LastError | None = None
    end_reason: EndReason | None = None
    started: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    _current: CurrentJob | None = None
    _saw_end: bool = False
    _is_in_thread: bool = False
    _task: asyncio.Task[None] | None = None
    _timer: asyncio.TimerHandle | None = None

    @property
    def lease(self) -> Lease:
        """The lease of the record."""
        return Lease(self.reserved.id, self.reserved.token)

    @property
    def number(self) -> int:
        """The number of this attempt, counted from 1."""
        return self.earlier.attempts_made + 1

    def ack(self) -> Ack:
        """Return the ack that reports the outcome to the store."""
        if self.outcome is None:
            raise AssertionError("an attempt is acknowledged once it is settled")
        return Ack(self.reserved.id, self.reserved.token, self.outcome, self.started_at)

    def start(self) -> None:
        """Run the handler to an outcome, in a task."""
        # Not in the task group, which would wait for ever for a handler that ignores its cancellation.
        loop, variables = asyncio.get_running_loop(), self.surroundings.runtime.variables
        self._task = loop.create_task(self._execute(), context=variables.copy())

    def end(self, reason: EndReason) -> None:
        """Ask the handler to end, and settle without it if it still runs after `cancel_grace`."""
        lost = EndReason.LEASE_LOST
        if self.end_reason is not None and (reason is not lost or self.end_reason is lost):
            return  # Only a lost lease replaces an earlier reason.
        is_first, self.end_reason = self.end_reason is None, reason
        if self.outcome is not None or self._task is None:
            return
        if is_first and not self._is_in_thread:
            self._task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(
            self.surroundings.cancel_grace.total_seconds(), self._settle_without_handler
        )

    def abandon(self) -> None:
        """End the handler because the run is over. Cancel it once more if it ignored an earlier cancellation."""
        self.end(EndReason.STOPPED)
        if self.outcome is not None and self._task is not None:
            self._task.cancel()

    def refuse(self, error: BaseException) -> None:
        """Settle without calling the handler, because the record cannot be read. `on_ended` is not called."""
        self._settle(self._fail(error))

    def forget_error(self) -> None:
        """Drop the error once it was reported. Its traceback refers to this attempt, so both would stay in memory."""
        self.error = None

    async def _execute(self) -> None:
        """Run the handler to an outcome. Raises only a cancellation that comes after the attempt was settled."""
        if self.policy.timeout is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.policy.timeout.total_seconds(), self.end, EndReason.TIMEOUT)
        set_current(self._current_job)
        tracer = self.surroundings.runtime.tracer
        outcome = await (self._run() if tracer is None else self._run_traced(tracer, self._current_job()))
        if self._timer is not None:
            self._timer.cancel()
        # Break the cycles task -> context -> attempt and job -> attempt, so the garbage collector has no work.
        self._task = self._current = None
        self.surroundings.on_ended(self)
        self._settle(outcome)

    async def _run_traced(self, tracer: Tracer, current: CurrentJob) -> Outcome:
        outcome: Outcome | None = None
        try:
            with tracer.running(current, trace_of(self.reserved.meta)) as report_outcome:
                outcome = await self._run()
                report_outcome(self._outcome_name(outcome), self.error)
        except Exception:
            logger.exception("the tracer failed for job %s (%s)", self.reserved.id, self.reserved.name)
        return await self._run() if outcome is None else outcome

    def _outcome_name(self, outcome: Outcome) -> str:
        is_lost = self.end_reason is EndReason.LEASE_LOST
        return "lost" if is_lost else type(self.outcome or outcome).__name__.lower()

    def _current_job(self) -> CurrentJob:
        """Return the job that the handler sees. Most handlers never ask for it."""
        with _making:
            if self._current is None:
                reserved = self.reserved
                self._current = CurrentJob(
                    id=reserved.id,
                    name=reserved.name,
                    queue=reserved.queue,
                    attempt=self.number,
                    recoveries=reserved.recoveries,
                    token=reserved.token,
                    _should_end=self._should_end,
                    _registry=self.surroundings.runtime.registry,
                    _stored_meta=reserved.meta,
                    _report=self._report,
                )
            return self._current

    async def _run(self) -> Outcome:
        """Run the handler to an outcome. It raises nothing."""
        try:
            return await self._call_handler()
        except BaseException as error:  # noqa: BLE001 - the one place: whatever a handler raises becomes an outcome
            return self._outcome_of(error)

    async def _call_handler(self) -> Outcome:
        definition, reserved = self.definition, self.reserved
        try:
            given = definition.input.unpack(reserved.input) if definition.input is not None else None
            meta = None
            if definition.meta is not None and (wire := without_trace(reserved.meta)) is not None:
                meta = definition.meta.unpack(wire)
        except ValidationError as error:
            return self._fail(error, note="; an earlier release, or another job of this name, stored it")
        call, scope = self.surroundings.runtime.call_handler, self.surroundings.runtime.context
        if scope.is_ready:
            ctx = scope.shared  # Faster than to enter a context manager.
            result = await call(definition, input=given, meta=meta, ctx=ctx, in_thread=self._in_thread)
        else:
            async with scope.execution() as ctx:
                result = await call(definition, input=given, meta=meta, ctx=ctx, in_thread=self._in_thread)
        if self._saw_end:
            # The handler saw that it should end, and returned. So its work may be unfinished.
            raise asyncio.CancelledError
        try:
            if isinstance(result, Replaced):
                result = result.checked(definition)
            return Completed(pack_result(result))
        except ValidationError as error:
            # Not retried: the work is done, and another attempt would return the same.
            return self._fail(error)

    async def _in_thread(self, handler: Callable[..., Started], arguments: dict[str, Any]) -> Started:
        # Nothing can end a thread. If this task were cancelled, the job would be retried while the thread still runs.
        self._is_in_thread = True
        result, error = await self.surroundings.threads.call(handler, **arguments)
        self._is_in_thread = False
        if error is not None:
            try:
                raise error
            finally:
                del error  # Its traceback refers to this frame.
        started: Started = result
        if started[1] is not None and self.end_reason is not None and self._task is not None:
            self._task.cancel()  # The handler goes on here, on the event loop, where it can be cancelled.
        return started

    def _outcome_of(self, error: BaseException) -> Outcome:
        if self.outcome is not None:
            return self.outcome  # It was settled while its handler still ran, and its outcome never changes.
        try:
            return self._decide(error)
        except BaseException as inner:  # noqa: BLE001 - `str(error)` may raise, or the delay of an error be missing
            return self._fail(inner)

    def _decide(self, error: BaseException) -> Outcome:
        """Return the outcome of an attempt whose handler raised."""
        reason = self.end_reason
        if all(isinstance(leaf, asyncio.CancelledError) for leaf in leaf_errors(error)):
            match reason:
                case EndReason.CANCELLED:
                    return Cancelled()
                case EndReason.STOPPED | EndReason.LEASE_LOST:
                    return Released()
                case EndReason.TIMEOUT:
                    # The cancellation is the cause of the timeout error: its traceback shows where the handler hung.
                    timeout = self._timeout_error()
                    timeout.__cause__ = error
                    error = timeout
                case None if self._task is not None and self._task.cancelling():
                    return Released(_REDELIVERY_DELAY)  # something other than the runner cancelled the task
                case None:
                    pass  # The handler raised the CancelledError itself: an error like any other.
        begin_at_handler(error)
        self.error, self.described = error, describe_error(error)
        attempts = self._attempts_with(self.described)
        delay = next_delay(
            error,
            attempt=self.number,
            failures=attempts.failure_count,
            rules=self.surroundings.runtime.settings[self.reserved.name].retry,
            max_attempts=self.policy.max_attempts,
            backoff=self.policy.backoff,
            random=random.random,
        )
        return Failed(pack_attempts(attempts)) if delay is None else Retried(delay, pack_attempts(attempts))

    def _settle_without_handler(self) -> None:
        """Settle for a handler that did not end within `cancel_grace`. It keeps its slot until it ends."""
        reason = self.end_reason
        logger.warning(
            "job %s (%s) was asked to end because %s, but is still running %s later; it takes a slot until it ends",
            self.reserved.id,
            self.reserved.name,
            reason.value if reason else "",
            format_duration(self.surroundings.cancel_grace),
        )
        match reason:
            case EndReason.TIMEOUT:
                # Not retried: the handler is still running, and two runs at once are worse than none.
                self._settle(self._fail(self._timeout_error(), note="; it ignored its cancellation"))
            case EndReason.CANCELLED:
                self._settle(Cancelled())
            case _:
                self._settle(Released())

    def _settle(self, outcome: Outcome) -> None:
        if self.outcome is None:
            self.outcome = outcome
            self.ended = time.monotonic()
            self.surroundings.on_settled(self)
            if self.end_reason is EndReason.LEASE_LOST:
                self.forget_error()  # No outcome is reported.

    def _fail(self, error: BaseException, note: str = "") -> Failed:
        begin_at_handler(error)
        described = describe_error(error)
        self.error, self.described = error, replace(described, message=described.message + note)
        return Failed(pack_attempts(self._attempts_with(self.described)))

    def _attempts_with(self, error: LastError) -> Attempts:
        """Return the attempts of the record, with this one as failed."""
        this = KeptAttempt(
            number=self.number,
            started_at=self.started_at,
            duration=timedelta(seconds=time.monotonic() - self.started),
            worker=self.surroundings.worker,
        )
        return self.earlier.failed(this, error, recoveries=self.reserved.recoveries)

    def _timeout_error(self) -> JobTimeout:
        timeout = self.policy.timeout
        return JobTimeout(
            f"the handler ran for longer than {'its timeout' if timeout is None else format_duration(timeout)}"
        )

    def _report(self, progress: Progress | None, lines: Sequence[LogLine]) -> None:
        """Collect what the handler reports, in any thread, until the attempt is settled."""
        if self.outcome is not None or self.end_reason is EndReason.LEASE_LOST:
            return
        (self.reports or self._make_reports()).add(progress, lines)
        self.surroundings.on_report()

    def _make_reports(self) -> JobReports:
        with _making:
            if self.reports is None:
                store_time = self.started_at + timedelta(seconds=time.monotonic() - self.started)
                self.reports = JobReports(self.lease, store_time)
            return self.reports

    def _should_end(self) -> bool:
        if self.end_reason is not None:
            self._saw_end = True
        return self._saw_end
