"""The runner's line to its store: one step at a time, sent again until it is answered, and an ear for its wake-ups."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from flowli_core._jobs.runtime import Runtime
from flowli_core._pauses import is_cancelled, pauses
from flowli_core.driver import Ack, Keep, Step, StepAnswer
from flowli_core.durations import ZERO
from flowli_core.errors import DriverError

logger = logging.getLogger("flowli")

IDLE = timedelta(seconds=5)
"""How long a runner waits at the most before it looks again: what a dead worker left behind is found no later."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the store answered to a step. No lease that it gave is older than `since`, by `time.monotonic`.

    `suspect` is what the step said of suspects.
    """

    answer: StepAnswer
    since: float
    suspect: bool


class Link:
    """Numbers the steps of one worker, and knows the store's time."""

    def __init__(self, runtime: Runtime, *, worker: str, queues: tuple[str, ...], lease: timedelta, keep: Keep) -> None:
        self.worker = worker
        self.last_error: str | None = None
        self._runtime = runtime
        self._queues = queues
        self._lease = lease
        self._keep = keep
        self._sequence = 0
        self._unanswered: Step | None = None
        self._waits = 0
        self._waiting: Step | None = None
        self._answered_at: float | None = None
        self._sent_at = 0.0
        self._store_time = datetime.now(UTC)

    @property
    def is_unanswered(self) -> bool:
        """Whether a step was sent whose answer never came: it may have reserved records."""
        return self._unanswered is not None

    @property
    def owes_recall(self) -> bool:
        """True while a waiting step is unanswered: it may have reserved records."""
        return self._waiting is not None

    def since_answer(self) -> timedelta | None:
        """How long ago the store last answered a step."""
        return None if self._answered_at is None else timedelta(seconds=time.monotonic() - self._answered_at)

    def store_time(self) -> datetime:
        """The store's time now: that of its last answer and what has passed since."""
        return self._store_time + timedelta(seconds=time.monotonic() - (self._answered_at or time.monotonic()))

    async def step(self, *, acks: Sequence[Ack], want: int, suspect: bool) -> Told:
        """Send a new step. Raises DriverError, after which `resend` must come before another one."""
        self._sequence += 1
        self._unanswered = self._new_step(self._sequence, want=want, suspect=suspect, acks=tuple(acks))
        return await self.resend()

    async def resend(self) -> Told:
        """Send the unanswered step once more; the store answers it as it would have the first time."""
        step = self._unanswered
        if step is None:
            raise AssertionError("there is no unanswered step")
        driver = await self._runtime.store()
        sent_at = time.monotonic()
        answer = await driver.step(step)
        self._unanswered = None
        return self._noted(answer, sent_at, step)

    async def wait(self, *, want: int, suspect: bool) -> Told:
        """Send a step that waits for a wake-up. If it raises DriverError, `recall` must come before another one."""
        driver = await self._runtime.store()
        self._waits += 1
        step = self._waiting = replace(self._new_step(self._waits, want=want, suspect=suspect), wait=IDLE)
        began, sent_at, store_time = time.monotonic(), self._sent_at, self._store_time
        answer = await driver.step(step)
        self._waiting = None
        # The step ran at some moment of the wait. Find it by the store's clock, from the last answer before the wait.
        since = sent_at + (answer.now - store_time).total_seconds()
        return self._noted(answer, min(max(since, began), time.monotonic()), step)

    async def recall(self) -> Told:
        """Send the unanswered waiting step again, to get the records that it reserved and no others."""
        if self._waiting is None:
            raise AssertionError("there is no unanswered waiting step")
        driver = await self._runtime.store()
        sent_at = time.monotonic()
        step = replace(self._waiting, wait=ZERO, want=0)
        answer = await driver.step(step)
        self._waiting = None
        return self._noted(answer, sent_at, step)

    def _new_step(self, sequence: int, *, want: int, suspect: bool, acks: tuple[Ack, ...] = ()) -> Step:
        return Step(
            worker=self.worker,
            sequence=sequence,
            acks=acks,
            queues=self._queues,
            want=want,
            lease=self._lease,
            suspect=suspect,
            keep=self._keep,
        )

    def _noted(self, answer: StepAnswer, sent_at: float, step: Step) -> Told:
        self._sent_at = sent_at
        self._answered_at = time.monotonic()
        self._store_time = answer.now
        if self.last_error is not None:
            logger.info("the store answers again")
            self.last_error = None
        return Told(answer, since=sent_at, suspect=step.suspect)

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


class Lookout:
    """Knows whether a step is worth while: from the store's wake-ups, from what the last step foresaw, or to be sure.

    `has_work`: a step may get something to run. `owes_step`: the store is to be asked even where no slot is free, which
    passes a wake-up that this runner was given on to one that has a slot.
    """

    def __init__(self, link: Link, *, on_told: Callable[[Told], None]) -> None:
        self.has_work = True
        self.owes_step = False
        self._link = link
        self._on_told = on_told
        self._wake = asyncio.Event()
        self._listener: asyncio.Task[None] | None = None
        self._pauses = pauses()
        self._look_again: asyncio.TimerHandle | None = None
        self._is_due_soon = False

    @property
    def is_listening(self) -> bool:
        """Whether a wait is under way."""
        return self._listener is not None

    async def wait(self) -> None:
        """Wait until something has changed."""
        await self._wake.wait()
        self._wake.clear()

    def wake(self) -> None:
        """Say that something has changed."""
        self._wake.set()

    def look(self) -> None:
        """Have the store asked."""
        self.has_work = self.owes_step = True
        self._wake.set()

    def asks(self, want: int) -> None:
        """A step is about to be sent. A wake-up that comes while it is under way is about what it may have missed."""
        self.has_work = self.has_work and not want
        self.owes_step = False

    def hears(self, answer: StepAnswer, *, is_full: bool) -> None:
        """A step was answered. Where no slot is free, ask again for ticks, and for `health`: is the store there?"""
        next_due = answer.next_due
        self.has_work = self.has_work or next_due == ZERO
        self._look_not()
        if is_full:
            next_due = answer.next_tick or IDLE
        self._is_due_soon = next_due is not None and ZERO < next_due < IDLE
        if next_due:
            delay = min(next_due, IDLE).total_seconds()
            self._look_again = asyncio.get_running_loop().call_later(delay, self.look)

    def listen(self, tasks: asyncio.TaskGroup, *, want: int, suspect: bool) -> None:
        """Listen for the store's wake-ups, unless that is being done; a step that goes along asks for `want`."""
        if self._listener is None:
            if not self._is_due_soon:
                # That step looks. But an idle Redis notices only ten times a second that a wait is over.
                self._look_not()
            self._listener = tasks.create_task(self._listen(want=want, suspect=suspect))

    def hush(self) -> None:
        """Stop listening. A driver passes a wake-up on where its wait is cancelled."""
        if self._listener is not None:
            self._listener.cancel()

    def close(self) -> None:
        """Stop looking and listening."""
        self.hush()
        self._look_not()

    def _look_not(self) -> None:
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None

    async def _listen(self, *, want: int, suspect: bool) -> None:
        told = None
        try:
            try:
                told = await self._link.wait(want=want, suspect=suspect)
                self._pauses = pauses()
            except (Exception, asyncio.CancelledError) as error:
                if is_cancelled(error):
                    raise
                self._link.note_failure(error)
                await asyncio.sleep(next(self._pauses))
        except BaseException:
            self.wake()
            raise
        finally:
            self._listener = None
        # What was given begins before the loop of the runner, which wakes by this as well, turns to anything else.
        if told is None:
            self.look()
        else:
            self._on_told(told)
