"""Acting on stored records and schedules: `jobs.control`."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import get_args

from flowli_core import _checks
from flowli_core._jobs.records import Receipt, receipt
from flowli_core._jobs.runtime import Runtime
from flowli_core._schedules import changes
from flowli_core._wire.progress import pack_progress, unpack_progress
from flowli_core.driver import CancelAnswer, FinishedState, RequeueAnswer
from flowli_core.durations import Duration, duration
from flowli_core.errors import ValidationError

_PURGED_AT_ONCE = 500


class Control:
    """What can be done to records and schedules.

    Each call raises StrategyError without a driver, and DriverError where the store fails.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def cancel(self, id: str) -> CancelAnswer:
        """Cancel a job.

        `cancelled`: it waited and will never run. `requested`: it runs; its worker cancels the handler at its next
        heartbeat, and a handler that completes all the same is completed. `finished` and `unknown`: nothing was done.
        """
        record_id = _checks.record_id(id)
        return await (await self._runtime.store()).cancel(record_id)

    async def requeue(self, id: str) -> RequeueAnswer:
        """Run a finished job again, or one that waits for its time now: with all attempts and no recoveries.

        `key_taken`: another unfinished job holds its key. `unfinished` and `unknown`: nothing was done.
        """
        record_id = _checks.record_id(id)
        driver = await self._runtime.store()
        stored = await driver.get(record_id)
        if stored is None:
            return "unknown"
        renewed = None if stored.progress is None else pack_progress(unpack_progress(stored.progress).renewed())
        return await driver.requeue(record_id, progress=renewed)

    async def purge(self, state: FinishedState, *, older_than: Duration = "0s") -> int:
        """Remove the jobs that finished in this state longer ago than `older_than`; answer how many."""
        cure = "; cancel waiting jobs first"
        _checks.one_of(state, get_args(FinishedState), argument="state", cure=cure, error=ValidationError)
        age = duration(older_than, argument="older_than", zero=True, error=ValidationError)
        driver = await self._runtime.store()
        removed, started = 0, time.monotonic()
        # What finishes while this goes on is not of it, or it might never end.
        while found := await driver.purge(
            state, older_than=age + timedelta(seconds=time.monotonic() - started), limit=_PURGED_AT_ONCE
        ):
            removed += found
        return removed

    async def unschedule(self, key: str) -> bool:
        """Remove a schedule; answer whether there was one. The jobs of its ticks stay.

        One that stands in the code comes back when a runner starts: take it out of the code, or pause it.
        """
        _checks.key(key)
        return await (await self._runtime.store()).remove_schedule(key)

    async def pause(self, key: str) -> bool:
        """Let a schedule have no ticks until `resume`; answer whether it is there. A deploy leaves it paused."""
        _checks.key(key)
        return await changes.pause(await self._runtime.store(), key)

    async def resume(self, key: str) -> bool:
        """Let a paused schedule go on from now; answer whether it is there. What it missed is not made up for."""
        _checks.key(key)
        return await changes.resume(await self._runtime.store(), key)

    async def trigger(self, key: str) -> Receipt | None:
        """Enqueue a schedule's job now, paused or not; its next tick stays. None where there is no such schedule.

        A schedule that must not overlap answers the unfinished job of a tick instead, as `existing`.
        """
        _checks.key(key)
        found = await changes.trigger(await self._runtime.store(), key)
        return None if found is None else receipt(*found)
