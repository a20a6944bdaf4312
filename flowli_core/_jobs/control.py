"""Changes of stored jobs and schedules: `jobs.control`."""

from typing import Literal, get_args

from flowli_core import _checks
from flowli_core._jobs.bulk import BulkResult, OnProgress, cancel_records, change_all, purge_all, requeue_records
from flowli_core._jobs.finding import check_filters
from flowli_core._jobs.records import Receipt, to_receipt
from flowli_core._jobs.runtime import Runtime
from flowli_core._schedules import changes
from flowli_core._wire.attempts import renew_attempts
from flowli_core.durations import Duration
from flowli_core.errors import ValidationError
from flowli_core.stored import FINISHED, FinishedState
from flowli_core.targets import CancelAnswer, RequeueAnswer, Target

UnfinishedState = Literal["queued", "scheduled", "active"]
RequeuableState = Literal["failed", "completed", "cancelled", "scheduled"]

UNFINISHED: tuple[UnfinishedState, ...] = get_args(UnfinishedState)
REQUEUABLE: tuple[RequeuableState, ...] = get_args(RequeuableState)


class Control:
    """Cancels, requeues and purges jobs; pauses and resumes queues; removes, pauses, resumes and triggers schedules.

    Every method raises StrategyError if the registry has no driver, DriverError if the store fails, and ValidationError
    for an invalid argument.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def cancel(self, id: str) -> CancelAnswer:
        """Cancel a job.

        "cancelled": the job was waiting, and will never run. "requested": it is running; its worker cancels the handler
        at the next heartbeat. If the handler completes nevertheless, so does the job. "finished" and "unknown": nothing
        was done.
        """
        record_id = _checks.record_id(id)
        (answer,) = await (await self._runtime.current_store()).cancel([Target(id=record_id)])
        return answer

    async def requeue(self, id: str) -> RequeueAnswer:
        """Run a finished or scheduled job now, with its attempts and recoveries reset.

        "key_taken": another unfinished job has its idempotency key. "unfinished": it is queued or running already.
        "damaged": its stored data cannot be read. In these cases, and if it is "unknown", nothing was done.
        """
        stored = await self._runtime.find_record(id)
        # A damaged record that is in no index is not found, but can be requeued.
        renewed = None if stored is None else renew_attempts(stored.attempts, stored.recoveries)
        (answer,) = await (await self._runtime.current_store()).requeue([Target(id=id, attempts=renewed)])
        return answer

    async def cancel_all(
        self,
        state: UnfinishedState = "queued",
        *,
        name: str | None = None,
        queue: str | None = None,
        error: str | None = None,
        older_than: Duration | None = None,
        on_progress: OnProgress | None = None,
    ) -> BulkResult:
        """Cancel all jobs in a state, as `cancel` does; with the filters of `inspect.find`, those that it finds.

        Each round trip changes up to 100 jobs. After it, `on_progress(looked_at, changed)` is called. A job that
        changes its state meanwhile is skipped, and one that comes into the state after the start is left alone.

        If the call is interrupted, repeat it: it goes on with the jobs that are still in the state. StoreUnavailable
        says how many were changed before.
        """
        _checks.one_of(state, UNFINISHED, argument="state", error=ValidationError)
        filters = check_filters(state, name=name, queue=queue, error=error, older_than=older_than)
        return await change_all(await self._runtime.current_store(), filters, cancel_records, on_progress)

    async def requeue_all(
        self,
        state: RequeuableState = "failed",
        *,
        name: str | None = None,
        queue: str | None = None,
        error: str | None = None,
        older_than: Duration | None = None,
        on_progress: OnProgress | None = None,
    ) -> BulkResult:
        """Run all jobs in a state now, as `requeue` does; with the filters of `inspect.find`, those that it finds.

        It skips jobs that are damaged, or whose key another unfinished job has. It is bounded, reports its progress and
        can be repeated as `cancel_all`.
        """
        _checks.one_of(state, REQUEUABLE, argument="state", error=ValidationError)
        filters = check_filters(state, name=name, queue=queue, error=error, older_than=older_than)
        return await change_all(await self._runtime.current_store(), filters, requeue_records, on_progress)

    async def purge_all(
        self,
        state: FinishedState = "completed",
        *,
        name: str | None = None,
        queue: str | None = None,
        error: str | None = None,
        older_than: Duration | None = None,
        on_progress: OnProgress | None = None,
    ) -> BulkResult:
        """Remove all jobs that finished in a state; with the filters of `inspect.find`, those that it finds.

        It is bounded, reports its progress and can be repeated as `cancel_all`.
        """
        _checks.one_of(state, FINISHED, argument="state", cure="; cancel waiting jobs first", error=ValidationError)
        filters = check_filters(state, name=name, queue=queue, error=error, older_than=older_than)
        return await purge_all(await self._runtime.current_store(), state, filters, on_progress)

    async def pause_queue(self, queue: str) -> bool:
        """Let no worker take jobs from a queue, until `resume_queue`. Return False if it was paused already.

        Jobs that are running go on, jobs that are enqueued wait, and schedules go on to enqueue theirs. A deploy does
        not resume the queue; a store that loses its last writes may. Raises ValidationError if the registry does not
        declare the queue.
        """
        name = _checks.name(queue, argument="queue", error=ValidationError)
        self._runtime.check_queue(name)
        return await (await self._runtime.current_store()).pause_queue(name, paused=True)

    async def resume_queue(self, queue: str) -> bool:
        """Let workers take jobs from a paused queue again. Return False if it was not paused.

        A paused queue that is no longer declared can be resumed, too.
        """
        name = _checks.name(queue, argument="queue", error=ValidationError)
        is_resumed = await (await self._runtime.current_store()).pause_queue(name, paused=False)
        if not is_resumed:
            self._runtime.check_queue(name)
        return is_resumed

    async def unschedule(self, key: str) -> bool:
        """Remove a schedule, but not the jobs that it has made. Return False if there is no such schedule.

        A schedule that is declared in code is registered again when a worker starts: remove it from the code, or pause
        it.
        """
        _checks.key(key)
        return await changes.remove(await self._runtime.current_store(), key)

    async def pause(self, key: str) -> bool:
        """Pause a schedule until `resume`. A deploy does not resume it. Return False if there is no such schedule."""
        _checks.key(key)
        return await changes.pause(await self._runtime.current_store(), key)

    async def resume(self, key: str) -> bool:
        """Resume a paused schedule, without the ticks that it missed. Return False if there is no such schedule."""
        _checks.key(key)
        return await changes.resume(await self._runtime.current_store(), key)

    async def trigger(self, key: str) -> Receipt | None:
        """Enqueue the job of a schedule now, even if it is paused. Return None if there is no such schedule.

        The next tick does not change. If the schedule has `overlap="skip"` and the job of an earlier tick is
        unfinished, return the receipt of that job, with the disposition "existing".
        """
        _checks.key(key)
        found = await changes.trigger(await self._runtime.current_store(), key)
        return None if found is None else to_receipt(*found)
