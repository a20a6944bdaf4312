"""The steps of one worker: numbered, repeated until they are answered, and dated by the store's clock."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from flowli_core._jobs.runtime import Runtime
from flowli_core._logger import logger
from flowli_core._running.queue_order import QueueOrder
from flowli_core._wire.about import pack_about
from flowli_core.driver import Ack, Step, StepAnswer
from flowli_core.durations import ZERO
from flowli_core.errors import DriverError, StoreUnavailable
from flowli_core.reports import Report

MAX_WAIT = timedelta(seconds=5)
"""The longest time between two steps of a runner. So the jobs of a dead worker are recovered at most this much late."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """The answer to a step. `since` is a time.monotonic() before which none of its leases began."""

    answer: StepAnswer
    since: float


class StepClient:
    """Sends the steps of one worker to the store, and keeps those that were not answered.

    Ordinary steps and waiting steps have a sequence each, so both may be in flight at a time.
    """

    def __init__(self, runtime: Runtime, *, worker: str, queues: QueueOrder, lease: timedelta) -> None:
        self.worker = worker
        self.last_error: str | None = None
        """The error of the last call, None if it succeeded."""
        self._runtime = runtime
        self._queues = queues
        self._lease = lease
        self._keep = runtime.defaults.keep
        self._about = pack_about(queues.names, runtime.known_names)
        self._must_send_about = True
        self._steps = 0
        """The sequence number of the last step."""
        self._waits = 0
        """The sequence number of the last waiting step."""
        self._last_token = 0
        self._unanswered_step: Step | None = None
        self._unanswered_wait: Step | None = None
        self._answered_at: float | None = None
        self._last_since = 0.0
        """The monotonic time at which the last answered step ran, at the earliest: its leases count from then."""
        self._last_time = datetime.now(UTC)
        """The store's time of the same step."""

    @property
    def has_unanswered_step(self) -> bool:
        """True while a step is unanswered: it may have reserved records."""
        return self._unanswered_step is not None

    @property
    def has_unanswered_wait(self) -> bool:
        """True while a waiting step is unanswered: it may have reserved records."""
        return self._unanswered_wait is not None

    def since_answer(self) -> timedelta | None:
        """Return the time since the last answer, None before the first one."""
        return None if self._answered_at is None else timedelta(seconds=time.monotonic() - self._answered_at)

    def prepare(self, acks: Sequence[Ack], reports: Sequence[Report], *, want: int, suspect: bool) -> None:
        """Make the next step. `send` sends it."""
        self._steps += 1
        step = self._new_step(self._steps, want=want, suspect=suspect, acks=tuple(acks), reports=tuple(reports))
        self._unanswered_step = replace(step, about=self._about) if self._must_send_about else step

    async def send(self) -> StepResult:
        """Send the unanswered step. If this fails, call it again: the store gives the same answer to the same step."""
        step = self._unanswered_step
        if step is None:
            raise AssertionError("there is no unanswered step")
        driver = await self._runtime.store()
        sent_at = time.monotonic()
        answer = await driver.step(step)
        self._unanswered_step = None
        return self._note_answer(answer, sent_at, step)

    async def wait(self, *, want: int) -> StepResult:
        """Send a step that waits for a wake-up. If this fails or is cancelled, call `recall` next."""
        driver = await self._runtime.store()
        self._waits += 1
        step = self._unanswered_wait = self._new_step(self._waits, want=want, suspect=False, wait=MAX_WAIT)
        sent_at, last_since, last_time = time.monotonic(), self._last_since, self._last_time
        answer = await driver.step(step)
        self._unanswered_wait = None
        # The step ran at some moment of the wait. Find it by the store's clock, from the last answer before the wait.
        since = last_since + (answer.now - last_time).total_seconds()
        return self._note_answer(answer, min(max(since, sent_at), time.monotonic()), step)

    async def recall(self) -> StepResult:
        """Send the unanswered waiting step again, to get the records that it reserved and no others."""
        step = self._unanswered_wait
        if step is None:
            raise AssertionError("there is no unanswered waiting step")
        driver = await self._runtime.store()
        sent_at = time.monotonic()
        answer = await driver.step(replace(step, wait=ZERO, want=0))
        self._unanswered_wait = None
        return self._note_answer(answer, sent_at, step)

    async def leave(self) -> None:
        """Send the last step, after which the store no longer lists this worker."""
        self._steps += 1
        driver = await self._runtime.store()
        await driver.step(replace(self._new_step(self._steps, want=0, suspect=False), leaving=True))

    def note_failure(self, error: BaseException) -> None:
        """Remember a failed call, and log it unless the last call failed in the same way."""
        described = f"{type(error).__name__}: {error}"
        if described == self.last_error:
            return
        self.last_error = described
        if isinstance(error, StoreUnavailable):
            logger.warning("worker %s: the store is unreachable, retrying: %s", self.worker, error)
        elif isinstance(error, DriverError):
            logger.error("worker %s: the store refused a call, retrying: %s", self.worker, error)
        else:
            logger.error("worker %s: the driver raised an unexpected error, retrying", self.worker, exc_info=error)

    def _new_step(
        self,
        sequence: int,
        *,
        want: int,
        suspect: bool,
        acks: tuple[Ack, ...] = (),
        reports: tuple[Report, ...] = (),
        wait: timedelta | None = None,
    ) -> Step:
        return Step(
            worker=self.worker,
            sequence=sequence,
            queues=self._queues.next(),
            want=want,
            lease=self._lease,
            acks=acks,
            reports=reports,
            suspect=suspect,
            keep=self._keep,
            wait=wait,
            last_token=self._last_token,
        )

    def _note_answer(self, answer: StepAnswer, since: float, step: Step) -> StepResult:
        self._last_since = since
        self._answered_at = time.monotonic()
        self._last_time = answer.now
        self._queues.note(reserved.queue for reserved in answer.reserved)
        self._last_token = max([self._last_token, *[reserved.token for reserved in answer.reserved]])
        if step.wait is None:
            self._must_send_about = answer.forgot
        if self.last_error is not None:
            logger.info("worker %s: the store is reachable again", self.worker)
            self.last_error = None
        return StepResult(answer, since=since)
