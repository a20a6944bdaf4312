"""One attempt at one job: from a reserved record to an outcome, whatever its handler does."""

from __future__ import annotations

import asyncio
import enum
import logging
import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from flowli_core._current import CurrentJob, set_current
from flowli_core._jobs.definition import Definition
from flowli_core._jobs.runtime import Runtime, call_handler
from flowli_core._running.threads import Threads
from flowli_core._wire.codec import pack_result
from flowli_core._wire.policy import Policy
from flowli_core._wire.progress import LastError, describe_error, pack_progress, unpack_progress
from flowli_core._wire.trace import trace_of, without_trace
from flowli_core.driver import Ack, Cancelled, Completed, Failed, Lease, Outcome, Released, Reserved, Retried
from flowli_core.durations import format_duration
from flowli_core.errors import ValidationError
from flowli_core.retry import JobTimeout, Retry, next_delay

logger = logging.getLogger("flowli")

_BREATHER = timedelta(seconds=1)
"""For how long a job is given back whose task somebody else cancelled: perhaps itself, and it would do so again."""


class End(enum.Enum):
    """Why an attempt is ended before its handler is done."""

    TIMEOUT = "it ran for longer than its timeout"
    LEASE_LOST = "its lease was lost"
    CANCELLED = "it was cancelled"
    STOPPED = "its worker is stopping"


class Attempt:
    """A reserved record while its handler runs.

    `outcome` is frozen when it is first set; `on_settled` is called then. `on_ended` is called when the handler is
    done: right before, or later where it ignored that it was to end; what it returns then is discarded.
    """

    __slots__ = (
        "_is_in_thread",
        "_on_ended",
        "_on_settled",
        "_runtime",
        "_saw_end",
        "_threads",
        "_timer",
        "definition",
        "end_reason",
        "ended",
        "error",
        "lease",
        "lease_until",
        "outcome",
        "policy",
        "progress",
        "reserved",
        "rules",
        "started",
        "started_at",
        "task",
    )

    def __init__(
        self,
        reserved: Reserved,
        *,
        definition: Definition,
        rules: Retry,
        policy: Policy,
        runtime: Runtime,
        threads: Threads,
        started_at: datetime,
        on_settled: Callable[[Attempt], None],
        on_ended: Callable[[Attempt], None],
    ) -> None:
        self.reserved = reserved
        self.definition = definition
        self.rules = rules
        self.policy = policy
        self.progress = unpack_progress(reserved.progress)
        self.lease = Lease(reserved.id, reserved.token)
        self.lease_until = 0.0
        self.started = time.monotonic()
        self.ended = self.started
        self.started_at = started_at
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.end_reason: End | None = None
        self.task: asyncio.Task[None] | None = None
        self._runtime = runtime
        self._threads = threads
        self._on_settled = on_settled
        self._on_ended = on_ended
        self._saw_end = False
        self._is_in_thread = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def number(self) -> int:
        """Which attempt this is, from 1."""
        return self.progress.attempts_made + 1

    def ack(self) -> Ack:
        """The outcome as the store is told it."""
        if self.outcome is None:
            raise AssertionError("an attempt is acknowledged once it is settled")
        return Ack(self.reserved.id, self.reserved.token, self.outcome, self.started_at)

    async def execute(self, *, cancel_grace: timedelta) -> None:
        """Run the handler to an outcome. Never raises, but for the cancellation of a task whose outcome stands."""
        if self.policy.timeout is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.policy.timeout.total_seconds(), self.end, End.TIMEOUT, cancel_grace)
        try:
            current = self._current_job()
            set_current(current)
            tracer = self._runtime.tracer
            if tracer is None:
                outcome = await self._run()
            else:
                with tracer.running(current, trace_of(self.reserved.meta)):
                    outcome = await self._run()
        except BaseException as error:  # noqa: BLE001 - the one place: whatever a handler raises becomes an outcome
            outcome = self._decided(error)
        if self._timer is not None:
            self._timer.cancel()
        self.task = None  # Whose context knows this attempt: nothing may be left for the collector of cycles.
        self._on_ended(self)
        self._settle(outcome)

    def end(self, reason: End, cancel_grace: timedelta) -> None:
        """Ask the handler to end, and settle without it if it has not ended after `cancel_grace`."""
        if self.end_reason is End.LEASE_LOST or (self.end_reason is not None and reason is not End.LEASE_LOST):
            return
        is_first, self.end_reason = self.end_reason is None, reason
        if self.outcome is not None or self.task is None:
            return
        if is_first and not self._is_in_thread:
            self.task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(cancel_grace.total_seconds(), self._give_up, cancel_grace)

    def refuse(self, error: BaseException) -> None:
        """Settle without the handler, because the record cannot be read; `on_ended` is not called."""
        self._settle(self._failed_for_good(error))

    def _current_job(self) -> CurrentJob:
        reserved = self.reserved
        return CurrentJob(
            id=reserved.id,
            name=reserved.name,
            queue=reserved.queue,
            attempt=self.number,
            recoveries=reserved.recoveries,
            token=reserved.token,
            cancelled=self._look_for_end,
        )

    async def _run(self) -> Outcome:
        definition, reserved = self.definition, self.reserved
        try:
            given = definition.input.unpack(reserved.input) if definition.input is not None else None
            meta = None
            if definition.meta is not None and (wire := without_trace(reserved.meta)) is not None:
                meta = definition.meta.unpack(wire)
        except ValidationError as error:
            return self._failed_for_good(error)
        scope = self._runtime.context
        if scope.is_ready:
            result = await self._call(given, meta, scope.shared)
        else:
            async with scope.execution() as ctx:
                result = await self._call(given, meta, ctx)
        if self._saw_end:
            # It looked, saw that it was to end, and returned: nobody can say that the work is done.
            raise asyncio.CancelledError
        try:
            return Completed(pack_result(result))
        except ValidationError as error:
            # The work itself was done; doing it again would give the same.
            return self._failed_for_good(error)

    async def _call(self, given: object, meta: object, ctx: object) -> Any:
        return await call_handler(self.definition, input=given, meta=meta, ctx=ctx, in_thread=self._in_thread)

    async def _in_thread(self, handler: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        # A thread cannot be cancelled: to stop waiting for it would let its job run twice at once.
        self._is_in_thread = True
        result, error = await self._threads.call(handler, **arguments)
        self._is_in_thread = False
        if error is not None:
            raise error
        return result

    def _decided(self, error: BaseException) -> Outcome:
        try:
            return self._after(error)
        except BaseException as inner:  # noqa: BLE001 - an error that fails at its own `str`, or has lost its delay
            return self._failed_for_good(inner)

    def _after(self, error: BaseException) -> Outcome:
        """Decide what follows from what a handler raised."""
        reason = self.end_reason
        if isinstance(error, asyncio.CancelledError):
            match reason:
                case End.CANCELLED:
                    return Cancelled()
                case End.STOPPED | End.LEASE_LOST:
                    return Released()
                case End.TIMEOUT:
                    # With where it was cancelled as its cause: what hung is what one wants to know.
                    timeout = self._timeout_error()
                    timeout.__cause__ = error
                    error = timeout
                case None if self.task is not None and self.task.cancelling():
                    return Released(_BREATHER)
                case None:
                    pass  # The handler's own doing: an error like another.
        self.error = error
        progress = self.progress.failed(describe_error(error))
        delay = next_delay(
            error,
            attempt=self.number,
            failures=progress.failure_count,
            rules=self.rules,
            max_attempts=self.policy.max_attempts,
            backoff=self.policy.backoff,
            random=random.random,
        )
        return Failed(pack_progress(progress)) if delay is None else Retried(delay, pack_progress(progress))

    def _give_up(self, cancel_grace: timedelta) -> None:
        """Settle for a handler that did not end when it was told to. Its slot stays taken until it does."""
        reason = self.end_reason
        logger.warning(
            "job %s (%s) was told to end because %s, and still runs %s later",
            self.reserved.id,
            self.reserved.name,
            reason.value if reason else "",
            format_duration(cancel_grace),
        )
        match reason:
            case End.TIMEOUT:
                # Not retried: the handler is still at it, and two at once is worse than none.
                self._settle(self._failed_for_good(self._timeout_error(), note="; it ignored its cancellation"))
            case End.CANCELLED:
                self._settle(Cancelled())
            case _:
                self._settle(Released())

    def _settle(self, outcome: Outcome) -> None:
        if self.outcome is None:
            self.outcome = outcome
            self.ended = time.monotonic()
            self._on_settled(self)

    def _failed_for_good(self, error: BaseException, note: str = "") -> Failed:
        self.error = error
        described = describe_error(error)
        described = LastError(described.type, described.message + note, described.traceback)
        return Failed(pack_progress(self.progress.failed(described)))

    def _timeout_error(self) -> JobTimeout:
        timeout = self.policy.timeout
        return JobTimeout(
            f"the handler ran for longer than {'its timeout' if timeout is None else format_duration(timeout)}"
        )

    def _look_for_end(self) -> bool:
        if self.end_reason is not None:
            self._saw_end = True
        return self._saw_end
