"""The runner's part in schedules: it registers what its registry declares, and has the ticks that have come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from flowli_core._pauses import is_cancelled, pauses
from flowli_core._schedules import changes
from flowli_core._schedules.spec import Planned, read, ticked
from flowli_core._wire.versioned import NewerVersionError
from flowli_core.driver import Driver, StepAnswer, StoredSchedule
from flowli_core.durations import ZERO
from flowli_core.errors import StrategyError

logger = logging.getLogger("flowli")

_AT_ONCE = 32
_FRUITLESS = 5.0
"""Seconds for which ticks are left alone of which this runner can have none: it would ask for them with every step."""

_TRIES_ONCE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """The schedules that a registry declares, and its name. `removes`: what it declares no longer is removed."""

    schedules: tuple[Planned, ...]
    owner: str
    removes: bool


class Ticker:
    """Any runner may have the tick of any schedule, whether it knows the job or not: the record says all.

    Its work is done in one task at a time, beside the steps; no fault of the store ends it. Many runners may be at the
    same tick: the store lets one of them have it. The time is the store's alone.
    """

    def __init__(
        self,
        driver: Driver,
        tasks: asyncio.TaskGroup,
        *,
        declared: Declared,
        once: bool,
        note: Callable[[BaseException], None],
        look: Callable[[], None],
    ) -> None:
        self.failure: Exception | None = None
        """What ended its work, where it runs `once`."""
        self._driver = driver
        self._tasks = tasks
        self._declared = declared
        self._once = once
        self._note = note
        self._look = look
        self._owes_registration = bool(declared.schedules)
        self._owes_restoring = False
        self._owes_ticks = False
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self._fruitless_at: float | None = None
        self._has_done = False
        self._unread: set[tuple[str, int]] = set()
        self._begin()

    @property
    def is_busy(self) -> bool:
        """Whether it is at work."""
        return self._task is not None

    def hears(self, answer: StepAnswer) -> None:
        """A step was answered."""
        self._owes_restoring = self._owes_restoring or (answer.forgot and bool(self._declared.schedules))
        self._owes_ticks = self._owes_ticks or (answer.next_tick == ZERO and not self._is_fruitless())
        self._begin()

    def close(self) -> None:
        """Begin nothing more, and give up what is under way: what was not stored is had by another runner."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        owes = self._owes_registration or self._owes_restoring or self._owes_ticks
        if owes and self._task is None and not self._is_closed and self.failure is None:
            self._has_done = False
            self._task = self._tasks.create_task(self._work())

    async def _work(self) -> None:
        try:
            await self._until_done()
        finally:
            self._task = None
            if self._has_done or self._once:
                self._look()  # for the records, and for the next tick

    def _is_fruitless(self) -> bool:
        since = self._fruitless_at
        return since is not None and (self._once or asyncio.get_running_loop().time() - since < _FRUITLESS)

    async def _until_done(self) -> None:
        failures = 0
        for pause in pauses():
            try:
                await self._do()
            except StrategyError:
                return  # The registry was closed, and its runner is told so as well.
            except (Exception, asyncio.CancelledError) as error:
                if is_cancelled(error):
                    raise
                failures += 1
                if self._once and failures >= _TRIES_ONCE:
                    self.failure = error if isinstance(error, Exception) else None
                    return
                self._note(error)
            else:
                return
            await asyncio.sleep(pause)

    async def _do(self) -> None:
        self._has_done = self._owes_registration or self._owes_restoring
        if self._owes_registration:
            await self._register()
            self._owes_registration = False
        if self._owes_restoring:
            restored = [one.key for one in self._declared.schedules if await changes.restore(self._driver, one)]
            if restored:
                logger.warning("the store has lost data; registered again: %s", ", ".join(restored))
            self._owes_restoring = False
        while self._owes_ticks:
            self._owes_ticks = await self._tick()

    async def _register(self) -> None:
        for planned in self._declared.schedules:
            disposition, stored = await changes.place(self._driver, planned)
            if disposition != "unchanged":
                logger.info("schedule %s is %s; next tick: %s", planned.key, disposition, stored.next_tick)
        known = {planned.key for planned in self._declared.schedules}
        for key in await changes.declared_by(self._driver, self._declared.owner):
            if key in known:
                continue
            if self._declared.removes:
                await self._driver.remove_schedule(key)
                logger.warning("schedule %s is declared no longer, and was removed", key)
            else:
                logger.warning(
                    "schedule %s is declared no longer, and goes on: `jobs.control.unschedule(%r)` ends it, and a "
                    "runner with remove_vanished_schedules=True would have",
                    key,
                    key,
                )

    async def _tick(self) -> bool:
        """Have the ticks that have come; answer whether there may be more."""
        now, due = await self._driver.due_schedules(_AT_ONCE)
        moves = [ticked(planned, one, now) for one in due if (planned := self._read(one)) is not None]
        if not moves:
            self._fruitless_at = asyncio.get_running_loop().time() if due else None
            return False
        self._has_done = True
        answers = await asyncio.gather(
            *[self._driver.put_schedule(move.schedule, move.records) for move in moves], return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return len(due) == _AT_ONCE

    def _read(self, stored: StoredSchedule) -> Planned | None:
        why = "a later release wrote it"
        try:
            return read(stored)
        except NewerVersionError:
            pass
        except ValueError as error:
            why = str(error)
        if (stored.key, stored.revision) not in self._unread:
            self._unread.add((stored.key, stored.revision))
            logger.error("schedule %s is left to other runners: %s", stored.key, why)
        return None
