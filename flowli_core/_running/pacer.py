"""The pace of a run: when it asks the store, and how it waits for the store's wake-ups."""

import asyncio
import contextlib
from collections.abc import Callable

from flowli_core._pauses import is_cancelled, pauses
from flowli_core._running.steps import MAX_WAIT, StepClient, StepResult
from flowli_core.driver import StepAnswer
from flowli_core.durations import ZERO


class Pacer:
    """Decides when to step: after a wake-up, when the last answer said that something is due, or after five seconds.

    `has_work` is True if a step may reserve something. `must_step` is True if the run must step even if no slot is
    free: that passes a wake-up which this worker got on to a worker with a free slot. `on_result` is called with the
    result of each waiting step; another step may be in flight then.
    """

    def __init__(
        self, client: StepClient, tasks: asyncio.TaskGroup, *, on_result: Callable[[StepResult], None]
    ) -> None:
        self.has_work = True
        self.must_step = False
        self._client = client
        self._tasks = tasks
        self._on_result = on_result
        self._changed = asyncio.Event()
        self._listener: asyncio.Task[None] | None = None
        self._pauses = pauses()
        self._timer: asyncio.TimerHandle | None = None
        self._is_due_soon = False

    @property
    def is_listening(self) -> bool:
        """True while a waiting step is in flight."""
        return self._listener is not None

    async def wait(self, limit: float | None = None) -> None:
        """Wait until `wake` is called, at most for `limit` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._changed.wait()
        self._changed.clear()

    def wake(self) -> None:
        """Wake the loop of the run, because something has changed."""
        self._changed.set()

    def step_soon(self) -> None:
        """Make the run step next."""
        self.has_work = self.must_step = True
        self.wake()

    def before_step(self, want: int) -> None:
        """Clear the flags before a step that asks for `want` records, so a wake-up during the step is not lost."""
        self.has_work = self.has_work and not want
        self.must_step = False

    def after_step(self, answer: StepAnswer, *, is_full: bool) -> None:
        """Plan the next step. If no slot is free, step for due schedules, and every five seconds for `health`."""
        next_due = answer.next_due
        self.has_work = self.has_work or next_due == ZERO
        self._cancel_timer()
        if is_full:
            next_due = answer.next_tick or MAX_WAIT
        self._is_due_soon = next_due is not None and ZERO < next_due < MAX_WAIT
        if next_due:
            delay = min(next_due, MAX_WAIT).total_seconds()
            self._timer = asyncio.get_running_loop().call_later(delay, self.step_soon)

    def listen(self, *, want: int) -> None:
        """Send a waiting step that reserves up to `want` records, unless one is in flight."""
        if self._listener is None:
            if not self._is_due_soon:
                # The waiting step ends in time. Not so on an idle Redis, which checks for ended waits only ten times a
                # second: keep the timer for what is due soon.
                self._cancel_timer()
            self._listener = self._tasks.create_task(self._listen(want=want))

    def stop_listening(self) -> None:
        """Cancel the waiting step in flight. The driver passes its wake-up on to another worker."""
        if self._listener is not None:
            self._listener.cancel()

    def close(self) -> None:
        """Cancel the waiting step in flight and the timer."""
        self.stop_listening()
        self._cancel_timer()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _listen(self, *, want: int) -> None:
        result = None
        try:
            result = await self._client.wait(want=want)
            self._pauses = pauses()
        except (Exception, asyncio.CancelledError) as error:
            if is_cancelled(error):
                raise
            self._client.note_failure(error)
            await asyncio.sleep(next(self._pauses))
        finally:
            self._listener = None
            self.wake()
        if result is None:
            self.step_soon()
        else:
            # Start the reserved jobs now, before the loop of the run (also woken by this) goes on.
            self._on_result(result)
            if result.answer.suspect_due and self._client.has_unanswered_step:
                self.step_soon()  # The answer of the step in flight is older, and may say that no suspect is due.
