"""The runner's line to its store: one step at a time, sent again until it is answered."""

from __future__ import annotations

import logging
import random
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from flowli_core.driver import Ack, Keep, Step, StepAnswer
from flowli_core.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flowli_core._runtime import Runtime

logger = logging.getLogger("flowli")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds between attempts to reach the store; they double from the first, and each is spread over half its length."""


class Link:
    """Numbers the steps of one worker, and knows the store's time."""

    def __init__(self, runtime: Runtime, *, worker: str, queues: tuple[str, ...], lease: timedelta, keep: Keep) -> None:
        self.worker = worker
        self.last_error: str | None = None
        self.sent_at = 0.0
        """When the step that was answered last was sent, by `time.monotonic`: no lease that it gave is older."""
        self._runtime = runtime
        self._queues = queues
        self._lease = lease
        self._keep = keep
        self._sequence = 0
        self._unanswered: Step | None = None
        self._answered_at: float | None = None
        self._store_time = datetime.now(UTC)

    @property
    def is_unanswered(self) -> bool:
        """Whether a step was sent whose answer never came: it may have reserved records."""
        return self._unanswered is not None

    def since_answer(self) -> timedelta | None:
        """How long ago the store last answered a step."""
        return None if self._answered_at is None else timedelta(seconds=time.monotonic() - self._answered_at)

    def store_time(self) -> datetime:
        """The store's time now: that of its last answer and what has passed since."""
        return self._store_time + timedelta(seconds=time.monotonic() - (self._answered_at or time.monotonic()))

    async def step(self, *, acks: Sequence[Ack], want: int, suspect: bool) -> StepAnswer:
        """Send a new step. Raises DriverError, after which `resend` must come before another one."""
        self._sequence += 1
        self._unanswered = Step(
            worker=self.worker,
            sequence=self._sequence,
            acks=tuple(acks),
            queues=self._queues,
            want=want,
            lease=self._lease,
            suspect=suspect,
            keep=self._keep,
        )
        return await self.resend()

    async def resend(self) -> StepAnswer:
        """Send the unanswered step once more; the store answers it as it would have the first time."""
        step = self._unanswered
        if step is None:
            raise AssertionError("there is no unanswered step")
        driver = await self._runtime.store()
        self.sent_at = time.monotonic()
        answer = await driver.step(step)
        self._unanswered = None
        self._answered_at = time.monotonic()
        self._store_time = answer.now
        if self.last_error is not None:
            logger.info("the store answers again")
            self.last_error = None
        return answer

    def note_failure(self, error: BaseException) -> None:
        """Remember a failed call, and say so once for each new trouble."""
        described = f"{type(error).__name__}: {error}"
        if described == self.last_error:
            return
        self.last_error = described
        if isinstance(error, DriverError):
            logger.warning("the store does not answer, going on trying: %s", described)
        else:
            logger.error("the driver failed in an unexpected way, going on trying", exc_info=error)


def pauses() -> Iterator[float]:
    """Growing pauses in seconds, without end, capped and jittered so that a fleet does not come back in step."""
    pause = FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1)  # noqa: S311 - no secret
        pause = min(pause * 2, LONGEST_PAUSE)
