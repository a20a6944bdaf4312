"""Acting on stored records: `jobs.control`."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, get_args

from flowli_core import _names
from flowli_core._policy import pack_progress, unpack_progress
from flowli_core.driver import FinishedState
from flowli_core.durations import Duration, duration
from flowli_core.errors import ValidationError

if TYPE_CHECKING:
    from flowli_core._runtime import Runtime
    from flowli_core.driver import CancelAnswer, RequeueAnswer

_PURGED_AT_ONCE = 500


class Control:
    """What can be done to records. Each call raises StrategyError without a driver, DriverError if the store fails."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def cancel(self, id: str) -> CancelAnswer:
        """Cancel a job.

        `cancelled`: it waited and will never run. `requested`: it runs; its worker cancels the handler at its next
        heartbeat, and a handler that completes all the same is completed. `finished` and `unknown`: nothing was done.
        """
        record_id = _names.record_id(id)
        return await (await self._runtime.store()).cancel(record_id)

    async def requeue(self, id: str) -> RequeueAnswer:
        """Run a finished job again, or one that waits for its time now: with all attempts and no recoveries.

        `key_taken`: another unfinished job holds its key. `unfinished` and `unknown`: nothing was done.
        """
        record_id = _names.record_id(id)
        driver = await self._runtime.store()
        stored = await driver.get(record_id)
        if stored is None:
            return "unknown"
        renewed = None if stored.progress is None else pack_progress(unpack_progress(stored.progress).renewed())
        return await driver.requeue(record_id, progress=renewed)

    async def purge(self, state: FinishedState, *, older_than: Duration = "0s") -> int:
        """Remove the jobs that finished in this state longer ago than `older_than`; answer how many."""
        if state not in get_args(FinishedState):
            msg = f"state must be one of {', '.join(get_args(FinishedState))}, got {state!r}; cancel waiting jobs first"
            raise ValidationError(msg)
        age = duration(older_than, argument="older_than", zero=True, error=ValidationError)
        driver = await self._runtime.store()
        removed, started = 0, time.monotonic()
        # What finishes while this goes on is not of it, or it might never end.
        while found := await driver.purge(
            state, older_than=age + timedelta(seconds=time.monotonic() - started), limit=_PURGED_AT_ONCE
        ):
            removed += found
        return removed
