"""What a runner has in its hands: attempts that run, leases that it holds, outcomes that it owes the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from flowli_core._jobs.runtime import Runtime
from flowli_core._running.attempt import Attempt, End
from flowli_core._running.events import Report
from flowli_core._running.threads import Threads
from flowli_core._wire.policy import Policy, unpack_policy
from flowli_core._wire.progress import LastError, pack_progress, unpack_progress
from flowli_core._wire.versioned import NewerVersionError
from flowli_core.driver import Ack, AckAnswer, Released, Reserved
from flowli_core.durations import ZERO
from flowli_core.retry import Fixed

PARKED = timedelta(seconds=30)
"""For how long a record that this worker does not know how to run is given back."""

_NO_POLICY = Policy(max_attempts=1, backoff=Fixed(delay=ZERO))
"""Of a record whose own cannot be read: it fails at once."""


class Load:
    """What one session carries.

    `running` are the attempts that hold a slot, `held` those whose lease is renewed: from being reserved until the
    store has answered their ack. `wake` says that something has changed, `look` that the store is to be asked.
    `report` is given before the first record is.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        threads: Threads,
        concurrency: int,
        lease: timedelta,
        cancel_grace: timedelta,
        wake: Callable[[], None],
        look: Callable[[], None],
        on_interrupt: Callable[[], None],
    ) -> None:
        self.running: set[Attempt] = set()
        self.held: dict[str, Attempt] = {}
        self.report: Report
        self._settled: list[tuple[Ack, Attempt | None]] = []
        self._sent: list[tuple[Ack, Attempt | None]] = []
        self._runtime = runtime
        self._threads = threads
        self._concurrency = concurrency
        self._lease = lease.total_seconds()
        self._cancel_grace = cancel_grace
        self._wake = wake
        self._look = look
        self._on_interrupt = on_interrupt

    @property
    def is_full(self) -> bool:
        """Whether each slot is taken."""
        return len(self.running) >= self._concurrency

    @property
    def is_all_settled(self) -> bool:
        """Whether nothing runs but what has ignored that it was to end."""
        return all(attempt.outcome is not None for attempt in self.running)

    @property
    def may_have_suspect(self) -> bool:
        """Whether a suspect may run here: one at a time does."""
        return not any(attempt.reserved.suspect for attempt in self.running)

    @property
    def owes_acks(self) -> bool:
        """Whether there are outcomes that the store was not told yet."""
        return bool(self._settled)

    def acks(self) -> list[Ack]:
        """Hand over what the store is to be told; `heard_of` must come before this again."""
        self._sent, self._settled = self._settled, []
        return [ack for ack, _ in self._sent]

    def heard_of(self, answers: Sequence[AckAnswer]) -> None:
        """Act on what the store said to the acks, in their order."""
        sent, self._sent = self._sent, []
        for (_, attempt), code in zip(sent, answers, strict=True):
            if attempt is None:
                continue
            if code == "lost":
                self._lose(attempt)
            else:
                self._drop(attempt)
                self.report.accepted(attempt)

    def give_back(self, reserved: Reserved) -> None:
        """Let another run it."""
        self._settled.append((Ack(reserved.id, reserved.token, Released()), None))

    def end_all(self) -> None:
        """Tell all that runs to end, because the worker is to stop."""
        for attempt in list(self.running):
            attempt.end(End.STOPPED, self._cancel_grace)

    def let_go(self) -> None:
        """End what would outlive the session. A handler that ignores that is named in the log, and left behind."""
        self.held.clear()
        for attempt in self.running:
            self.report.left_behind(attempt)
            attempt.end(End.STOPPED, self._cancel_grace)
            if attempt.outcome is not None and attempt.task is not None:
                attempt.task.cancel()

    def start(self, reserved: Reserved, *, lease_until: float, store_time: datetime) -> None:
        """Run what was reserved, where it can be run here."""
        is_late = time.monotonic() > lease_until - self._lease / 10
        is_second_suspect = reserved.suspect and not self.may_have_suspect
        if is_late or self.is_full or is_second_suspect:
            # Another has the record already, or nearly so; or two steps took the same place.
            self.give_back(reserved)
            return
        definition = self._runtime.jobs.get(reserved.name)
        if definition is None:
            self._park(reserved, LastError("UnknownJob", f"this worker knows no job {reserved.name!r}"))
            return
        policy, refusal = _NO_POLICY, None
        try:
            policy = unpack_policy(reserved.policy)
        except NewerVersionError:
            self._park(reserved, LastError("NewerRecord", "written by a later release than this worker's"))
            return
        except ValueError as error:
            refusal = error
        earlier = self.held.get(reserved.id)
        if earlier is not None:
            # Its lease had ended unnoticed, and nobody but this runner took it over.
            self._end_lost(earlier)
        attempt = Attempt(
            reserved,
            definition=definition,
            rules=self._runtime.settings[reserved.name].retry,
            policy=policy,
            runtime=self._runtime,
            threads=self._threads,
            started_at=store_time,
            on_settled=self._on_settled,
            on_ended=self._on_ended,
        )
        attempt.lease_until = lease_until
        if refusal is not None:
            attempt.refuse(refusal)
        else:
            self.running.add(attempt)
            self.report.started(attempt)
            # Not in the task group: that would wait for ever for a handler that ignores its cancellation.
            attempt.task = asyncio.create_task(attempt.execute(cancel_grace=self._cancel_grace))
        # Last: from now on the thread may find it cancelled, and a task that is cancelled before it begins never does.
        self.held[reserved.id] = attempt

    def _park(self, reserved: Reserved, why: LastError) -> None:
        """Give back what another worker may know: a rolling deploy must neither lose nor fail a job."""
        self.report.parked(reserved, PARKED, why.message)
        progress = pack_progress(unpack_progress(reserved.progress).noted(why))
        self._settled.append((Ack(reserved.id, reserved.token, Released(PARKED, progress)), None))

    def _on_ended(self, attempt: Attempt) -> None:
        self.running.discard(attempt)
        if attempt.reserved.suspect:
            self._look()  # for another one, passed over because of this one
        self._wake()

    def _on_settled(self, attempt: Attempt) -> None:
        if isinstance(attempt.error, KeyboardInterrupt):
            self._on_interrupt()
        if attempt.end_reason is not End.LEASE_LOST:
            self._settled.append((attempt.ack(), attempt))
        self._wake()

    def on_heartbeat(self, lost: list[Attempt], cancelled: list[Attempt]) -> None:
        """Act on what a heartbeat was told."""
        for attempt in lost:
            # A settled one is left to the answer to its ack, which may be on its way, or be why the lease is gone.
            if attempt.outcome is None:
                self._end_lost(attempt)
        for attempt in cancelled:
            attempt.end(End.CANCELLED, self._cancel_grace)

    def _end_lost(self, attempt: Attempt) -> None:
        attempt.end(End.LEASE_LOST, self._cancel_grace)
        self._lose(attempt)

    def _lose(self, attempt: Attempt) -> None:
        if self._drop(attempt):
            self.report.lost(attempt)
            self._wake()

    def _drop(self, attempt: Attempt) -> bool:
        # The same record may have been reserved here again after its lease was lost.
        is_held = self.held.get(attempt.reserved.id) is attempt
        if is_held:
            del self.held[attempt.reserved.id]
        return is_held
