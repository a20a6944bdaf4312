"""The slots of a run: its attempts, the leases that it holds, and the outcomes that the store does not know yet."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from flowli_core._jobs.parked import PARKED_DELAY
from flowli_core._jobs.runtime import Runtime
from flowli_core._logger import logger
from flowli_core._running.attempt import Attempt, EndReason, Surroundings
from flowli_core._running.events import Events
from flowli_core._running.options import RunnerOptions
from flowli_core._running.pacer import Pacer
from flowli_core._running.reports import JobReports
from flowli_core._running.suspects import SuspectTurns
from flowli_core._running.threads import Threads
from flowli_core._wire.attempts import NEWER_RECORD, UNKNOWN_JOB, check_attempts_version, pack_attempts, unpack_attempts
from flowli_core._wire.policy import Policy, unpack_policy
from flowli_core._wire.versioned import NewerVersionError
from flowli_core.driver import Ack, AckAnswer, Cancelled, Completed, Outcome, Released, Reserved, StepAnswer
from flowli_core.durations import ZERO
from flowli_core.errors import LastError
from flowli_core.reports import Report
from flowli_core.retry import Fixed

_MOST_ACKS = 1_000
"""A step carries at most this many outcomes, so that it does not keep other clients of the store waiting."""

_WARNING_INTERVAL = 60.0
"""Seconds between two warnings that hung handlers hold half of the slots."""

_NO_POLICY = Policy(max_attempts=1, backoff=Fixed(delay=ZERO))
"""The policy of a record whose own cannot be read: it fails at once."""


class _PutOff(NamedTuple):
    """An answer to a step: the results of the acks that it carried, and the records that it reserved."""

    sent: Sequence[tuple[Ack, Attempt | None]]
    results: Sequence[AckAnswer]
    reserved: Sequence[Reserved]
    lease_until: float
    store_time: datetime


class Slots:
    """The attempts of one run.

    `running` holds the attempts that take a slot. `held` holds those whose lease is renewed: from the moment that they
    are reserved until the store has answered their ack. `on_interrupt` is called if a handler raises KeyboardInterrupt,
    and `on_report`, in any thread, if it reports something.
    """

    def __init__(
        self,
        runtime: Runtime,
        options: RunnerOptions,
        *,
        worker: str,
        events: Events,
        pacer: Pacer,
        on_interrupt: Callable[[], None],
        on_report: Callable[[], None],
    ) -> None:
        self.running: set[Attempt] = set()
        self.held: dict[str, Attempt] = {}
        self.renewal_problem: str | None = None
        """Why leases cannot be renewed, or None. While they cannot, no job is taken, because its lease would expire."""
        self.turns = SuspectTurns()
        self._suspect: Attempt | None = None
        """The last suspect that was started."""
        self._pending: list[tuple[Ack, Attempt | None]] = []
        self._sent: list[tuple[Ack, Attempt | None]] = []
        self._put_off: _PutOff | None = None
        self._next_warning = 0.0
        self._runtime = runtime
        self._concurrency = options.concurrency
        self._lease = options.lease.total_seconds()
        self._events = events
        self._pacer = pacer
        self._on_interrupt = on_interrupt
        self._threads = Threads(options.concurrency, name="flowli-job")
        self._surroundings = Surroundings(
            worker=worker,
            runtime=runtime,
            threads=self._threads,
            cancel_grace=options.cancel_grace,
            on_settled=self._on_settled,
            on_ended=self._on_ended,
            on_report=on_report,
        )

    @property
    def free(self) -> int:
        """The number of records that may be reserved."""
        if self.renewal_problem or (self._suspect is not None and self._suspect.outcome is None):
            return 0
        return self._concurrency - len(self.running) - (0 if self._put_off is None else len(self._put_off.reserved))

    def set_renewal_problem(self, problem: str | None) -> None:
        """Set why leases cannot be renewed, or None if they can."""
        self.renewal_problem = problem
        self._pacer.step_soon()

    @property
    def is_settled(self) -> bool:
        """True if every attempt has an outcome. A handler may still be running if it ignored that it should end."""
        return self._put_off is None and all(attempt.outcome is not None for attempt in self.running)

    @property
    def holds_leases(self) -> bool:
        """True if some reserved records are not settled, or the store has not confirmed their outcome."""
        return bool(self.held) or self._put_off is not None

    @property
    def has_put_off(self) -> bool:
        """True if an answer was put off."""
        return self._put_off is not None

    @property
    def hung(self) -> int:
        """The number of slots whose handler was settled without its end. May be called from another thread."""
        return sum([attempt.outcome is not None for attempt in list(self.running)])

    @property
    def has_acks(self) -> bool:
        """True if there are outcomes that were not sent to the store yet."""
        return bool(self._pending)

    def take_acks(self, max_bytes: int) -> tuple[list[Ack], list[Report]]:
        """Return the first acks to send, and what their handlers reported last.

        These are at most 1,000 acks, and at most `max_bytes` of outcomes and reports, but at least one ack. Call
        `put_off` with the answer before calling this again.
        """
        reports: list[Report] = []
        size = count = 0
        for ack, attempt in self._pending:
            size += _size(ack.outcome)
            unsent = None if attempt is None or attempt.reports is None else attempt.reports.unsent()
            if unsent is not None:
                size += unsent.size
            if count == _MOST_ACKS or (count and size > max_bytes):
                break
            if unsent is not None:
                reports.append(unsent.report)
            count += 1
        self._sent, self._pending = self._pending[:count], self._pending[count:]
        return [ack for ack, _ in self._sent], reports

    def collect_reports(self) -> list[JobReports]:
        """Return the reports of the running handlers. Any thread may call it."""
        return [one.reports for one in list(self.held.values()) if one.reports is not None and one.outcome is None]

    def put_off(self, answer: StepAnswer, *, lease_until: float) -> None:
        """Keep the answer to the acks of `take_acks`, with the records that it reserved, until `finish` is called."""
        sent, self._sent = self._sent, []
        self._put_off = _PutOff(sent, answer.acks, answer.reserved, lease_until, answer.now)

    def finish(self, *, is_stopping: bool) -> None:
        """Act on the answer that was put off: apply the answers to acks, and start the records, or return them."""
        if self._put_off is None:
            return
        sent, results, reserved, lease_until, store_time = self._put_off
        self._put_off = None
        for (_, attempt), result in zip(sent, results, strict=True):
            if attempt is None:
                continue
            if result == "lost":
                self._lose(attempt)
            else:
                self._drop(attempt)
                self._events.accepted(attempt)
                attempt.forget_error()
        self.take(reserved, lease_until=lease_until, store_time=store_time, is_stopping=is_stopping)

    def take(
        self, reserved: Sequence[Reserved], *, lease_until: float, store_time: datetime, is_stopping: bool
    ) -> None:
        """Start attempts at reserved records, or return them to the queue if the run is stopping."""
        for one in reserved:
            if is_stopping:
                self.release(one)
            else:
                self.start(one, lease_until=lease_until, store_time=store_time)

    def apply_heartbeat(self, lost: Sequence[Attempt], cancelled: Sequence[Attempt]) -> None:
        """End the attempts whose lease a heartbeat found lost, and those whose cancellation was requested."""
        for attempt in lost:
            # The lease of a settled attempt may be gone because the store has accepted its ack. The answer will tell.
            if attempt.outcome is None:
                self._end_lost(attempt)
        for attempt in cancelled:
            attempt.end(EndReason.CANCELLED)

    def expire(self, attempts: Sequence[Attempt]) -> None:
        """End the attempts whose lease expired while the store was unreachable, and release their records.

        The store may have recovered them since. Then the acks are lost, and show it that this worker is alive.
        """
        for attempt in attempts:
            if attempt.outcome is None and self.held.get(attempt.reserved.id) is attempt:
                self._end_lost(attempt)
                self.release(attempt.reserved)

    def release(self, reserved: Reserved) -> None:
        """Return a record to the queue, for another worker to run."""
        self._pending.append((Ack(reserved.id, reserved.token, Released()), None))

    def stop_all(self) -> None:
        """Ask every handler to end, because the worker is stopping."""
        for attempt in list(self.running):
            attempt.end(EndReason.STOPPED)

    def abandon_all(self) -> None:
        """End what would outlive the run. A handler that ignores that is named in the log and left running."""
        self.held.clear()
        for attempt in self.running:
            self._events.abandoned(attempt)
            attempt.abandon()

    def close(self) -> None:
        """End the threads of plain handlers, each once it is idle."""
        self._threads.close()

    def start(self, reserved: Reserved, *, lease_until: float, store_time: datetime) -> None:
        """Start an attempt at a reserved record, or return the record to the queue if it cannot run here."""
        is_late = time.monotonic() > lease_until - self._lease / 10
        is_not_alone = reserved.suspect and not self.is_settled
        if is_late or self.free <= 0 or is_not_alone:
            # The lease is (nearly) over, two concurrent steps filled the same slot, or leases cannot be renewed.
            self.release(reserved)
            return
        definition = self._runtime.find_definition(reserved.name)
        if definition is None:
            self._release_unknown(reserved, LastError(UNKNOWN_JOB, f"this worker knows no job {reserved.name!r}"))
            return
        if definition.name != reserved.name:
            reserved = replace(reserved, name=definition.name)  # it was stored under an alias
        policy, refusal = _NO_POLICY, None
        try:
            check_attempts_version(reserved.attempts)
            policy = unpack_policy(reserved.policy)
        except NewerVersionError as error:
            self._release_unknown(reserved, LastError(NEWER_RECORD, str(error)))
            return
        except ValueError as error:
            refusal = error
        earlier = self.held.get(reserved.id)
        if earlier is not None:
            # The lease of the earlier attempt had expired unnoticed, and this worker reserved the record again.
            self._end_lost(earlier)
        earlier_attempts = unpack_attempts(reserved.attempts)
        attempt = Attempt(self._surroundings, reserved, definition, policy, lease_until, store_time, earlier_attempts)
        if reserved.suspect:
            self._suspect = attempt
            self.turns.started()
        if refusal is not None:
            attempt.refuse(refusal)
        else:
            self.running.add(attempt)
            self._events.started(attempt)
            attempt.start()
        # Register last: a task cancelled before its first step would never run.
        self.held[reserved.id] = attempt

    def _release_unknown(self, reserved: Reserved, why: LastError) -> None:
        """Return a record that another worker may know: a rolling deploy must neither lose nor fail a job."""
        self._events.released_unknown(reserved, PARKED_DELAY, why.message)
        attempts = _note(reserved.attempts, why)
        self._pending.append((Ack(reserved.id, reserved.token, Released(PARKED_DELAY, attempts)), None))

    def _on_ended(self, attempt: Attempt) -> None:
        self.running.discard(attempt)
        self._pacer.wake()

    def _on_settled(self, attempt: Attempt) -> None:
        if isinstance(attempt.error, KeyboardInterrupt):
            self._on_interrupt()
        if attempt.reserved.suspect:
            self.turns.ended()
            self._pacer.step_soon()  # After a lost lease no ack follows that would ask for the next suspect.
        if attempt.end_reason is not EndReason.LEASE_LOST:
            self._pending.append((attempt.ack(), attempt))
        if attempt in self.running and attempt.end_reason is not EndReason.STOPPED:
            self._warn_of_hung()
        self._pacer.wake()

    def _warn_of_hung(self) -> None:
        hung, now = self.hung, time.monotonic()
        if 2 * hung >= self._concurrency and now >= self._next_warning:
            self._next_warning = now + _WARNING_INTERVAL
            logger.warning(
                "%d of %d slots are held by handlers that are still running after they were asked to end; "
                "if they never end, only a restart frees these slots",
                hung,
                self._concurrency,
            )

    def _end_lost(self, attempt: Attempt) -> None:
        attempt.end(EndReason.LEASE_LOST)
        self._lose(attempt)

    def _lose(self, attempt: Attempt) -> None:
        if self._drop(attempt):
            self._events.lost(attempt)
            self._pacer.wake()

    def _drop(self, attempt: Attempt) -> bool:
        # After its lease was lost, the same record may have been reserved here again.
        is_held = self.held.get(attempt.reserved.id) is attempt
        if is_held:
            del self.held[attempt.reserved.id]
        return is_held


def _note(attempts: bytes | None, why: LastError) -> bytes | None:
    """Return the attempts with a last error. Return None, which keeps them, if a later release wrote them."""
    try:
        check_attempts_version(attempts)
    except NewerVersionError:
        return None
    return pack_attempts(unpack_attempts(attempts).noted(why))


def _size(outcome: Outcome) -> int:
    match outcome:
        case Completed(result):
            return len(result)
        case Cancelled():
            return 0
        case _:
            return len(outcome.attempts or b"")
