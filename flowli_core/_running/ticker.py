"""The part of a run that serves schedules: it registers the declared ones, and fires the ones that are due."""

import asyncio

from flowli_core._jobs.runtime import Runtime
from flowli_core._logger import logger
from flowli_core._pauses import keep_trying
from flowli_core._running.options import TRIES_ONCE
from flowli_core._running.pacer import Pacer
from flowli_core._running.steps import StepClient
from flowli_core._schedules import changes
from flowli_core._schedules.spec import ScheduleSpec, decide_fire, read
from flowli_core._wire.versioned import NewerVersionError
from flowli_core.driver import Driver, StepAnswer
from flowli_core.durations import ZERO
from flowli_core.errors import StrategyError
from flowli_core.stored import SchedulesDue, StoredSchedule

_BATCH = 32
_MOST_LOGGED = 1000
_MOST_DUE = 4096
"""The most due schedules that are read at once. The unreadable ones among them come first for ever."""

_UNREADABLE_PAUSE = 0.5
"""Seconds to wait before due schedules are read again, after some of them could not be read here.

The store reports those as due with every step, and so hides when the next of the others is due. No schedule fires more
often than once a second.
"""


class Ticker:
    """Registers schedules and fires them, in one task at a time, beside the steps of the run.

    Any worker can fire any schedule, even if it does not know the job: the schedule holds the whole record. If several
    workers fire the same tick, the store accepts one of them. All times are the store's. No fault of the store ends it.
    """

    def __init__(
        self,
        runtime: Runtime,
        tasks: asyncio.TaskGroup,
        *,
        client: StepClient,
        pacer: Pacer,
        once: bool,
        remove_vanished: bool,
    ) -> None:
        self.failure: Exception | None = None
        """The error after which it gave up. It gives up only if the run goes `once`."""
        self._runtime = runtime
        self._tasks = tasks
        self._client = client
        self._pacer = pacer
        self._once = once
        self._remove_vanished = remove_vanished
        self._must_register = bool(runtime.schedules)
        self._must_restore = False
        self._must_fire = False
        self._batch = _BATCH
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self._unreadable = 0
        self._timer: asyncio.TimerHandle | None = None
        self._has_changed_store = False
        self._logged_unreadable: dict[str, int] = {}
        """The revision of each schedule that could not be read."""

    @property
    def is_busy(self) -> bool:
        """True while its task runs."""
        return self._task is not None

    def start(self) -> None:
        """Register the declared schedules."""
        self._begin()

    def after_step(self, answer: StepAnswer) -> None:
        """Restore schedules if the store has lost data, and fire those that the answer says are due."""
        self._must_restore = self._must_restore or (answer.forgot and bool(self._runtime.schedules))
        self._must_fire = self._must_fire or (answer.next_tick == ZERO and not self._is_pausing)
        self._begin()

    def close(self) -> None:
        """Cancel the task and start no other. Another worker fires the ticks that were not stored."""
        self._is_closed = True
        self._cancel_timer()
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        must_work = self._must_register or self._must_restore or self._must_fire
        if must_work and self._task is None and not self._is_closed and self.failure is None:
            self._has_changed_store = False
            self._task = self._tasks.create_task(self._work())

    async def _work(self) -> None:
        tries = TRIES_ONCE if self._once else None
        logged: set[str] = set()

        def note_failure(error: BaseException) -> None:
            self._batch = max(self._batch // 2, 1)  # The answer may be too large for a slow network.
            # Log an error once: a full store refuses schedules for long, and answers the steps meanwhile.
            described = f"{type(error).__name__}: {error}"
            if described not in logged:
                logged.add(described)
                self._client.note_failure(error)

        try:
            await keep_trying(self._do_pending, on_error=note_failure, tries=tries)
        except StrategyError:
            pass  # The registry was closed: the next step of the run raises it too.
        except Exception as error:  # noqa: BLE001 - the run raises it when it has settled its jobs
            self.failure = error
        finally:
            self._task = None
            if self._has_changed_store or self._once:
                self._pacer.step_soon()  # There may be new records, and there is a new next tick.

    @property
    def _is_pausing(self) -> bool:
        return self._timer is not None or (self._once and self._unreadable > 0)

    def _pause(self) -> None:
        """Read the due schedules again after a pause, because some of them cannot be read here."""
        self._cancel_timer()
        if not self._once:
            self._timer = asyncio.get_running_loop().call_later(_UNREADABLE_PAUSE, self._end_pause)

    def _end_pause(self) -> None:
        self._timer = None
        self._must_fire = True
        self._begin()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _do_pending(self) -> None:
        """Register, restore and fire what is pending. What fails stays pending."""
        driver = await self._runtime.store()
        self._has_changed_store = self._must_register or self._must_restore
        if self._must_register:
            await self._register(driver)
            self._must_register = False
        if self._must_restore:
            restored = [spec.key for spec in self._runtime.schedules if await changes.restore(driver, spec)]
            if restored:
                logger.error(
                    "the store has lost data: check its persistence. Schedules that were registered again: %s",
                    ", ".join(restored),
                )
            self._must_restore = False
        while self._must_fire:
            self._must_fire = False  # A step that is answered meanwhile may set it again.
            may_be_more = True
            try:
                may_be_more = await self._fire_due(driver)
            finally:
                self._must_fire = self._must_fire or may_be_more

    async def _register(self, driver: Driver) -> None:
        for spec in self._runtime.schedules:
            disposition, stored = await changes.upsert(driver, spec)
            if disposition != "unchanged":
                logger.info("schedule %s was %s; next run: %s", spec.key, disposition, stored.next_tick or "none")
        known = {spec.key for spec in self._runtime.schedules}
        for key in await changes.declared_keys(driver, self._runtime.owner):
            if key in known:
                continue
            if self._remove_vanished:
                await changes.remove(driver, key)
                logger.warning("schedule %s is no longer declared in code, and was removed", key)
            else:
                logger.warning(
                    "schedule %s is no longer declared in code, but still runs: remove it with "
                    "`jobs.control.unschedule(%r)`, or let Runner(..., remove_vanished_schedules=True) remove it",
                    key,
                    key,
                )

    async def _fire_due(self, driver: Driver) -> bool:
        """Fire the schedules that are due. Return True if there may be more."""
        limit = min(self._batch + self._unreadable, _MOST_DUE)
        now, due = await driver.schedules(SchedulesDue(limit))
        fired = [decide_fire(spec, stored, now) for stored in due if (spec := self._read(stored)) is not None]
        is_full = len(due) == limit
        self._unreadable = len(due) - len(fired)
        if self._unreadable:
            self._pause()
        if not fired:
            return is_full and limit < _MOST_DUE  # The next read passes over those that cannot be read.
        self._has_changed_store = True
        answers = await asyncio.gather(*[changes.put(driver, change) for change in fired], return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        self._batch = min(self._batch * 2, _BATCH)
        return is_full or any(change.is_partial for change in fired)

    def _read(self, stored: StoredSchedule) -> ScheduleSpec | None:
        why = "a later release wrote it"
        try:
            return read(stored)
        except NewerVersionError:
            pass
        except ValueError as error:
            why = str(error)
        if self._logged_unreadable.get(stored.key) != stored.revision:
            if len(self._logged_unreadable) >= _MOST_LOGGED:
                self._logged_unreadable.clear()
            self._logged_unreadable[stored.key] = stored.revision
            logger.error(
                "this worker cannot fire schedule %s, and leaves it to others: %s",
                stored.key,
                why,
            )
        return None
