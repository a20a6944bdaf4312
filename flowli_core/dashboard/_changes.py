"""The changes behind the buttons. Each takes the form and returns what it has done."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from flowli_core._jobs.bulk import BulkResult, OnProgress
from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core.dashboard._filters import read_filters
from flowli_core.dashboard._notices import Outcome
from flowli_core.durations import ZERO
from flowli_core.stored import FINISHED

Form = Mapping[str, str]
Change = Callable[[Jobs[Any], Form], Awaitable[Outcome]]

BULK_SECONDS = 20.0
"""Seconds after which a change of many jobs stops, so that no proxy gives up on the response. It can be repeated."""


class _OutOfTimeError(Exception):
    """A change of many jobs has taken too long."""


async def _cancel(jobs: Jobs[Any], form: Form) -> Outcome:
    return Outcome(await jobs.control.cancel(form.get("target", "")))


async def _requeue(jobs: Jobs[Any], form: Form) -> Outcome:
    return Outcome(await jobs.control.requeue(form.get("target", "")))


async def _purge(jobs: Jobs[Any], form: Form) -> Outcome:
    record = await jobs.inspect.get_job(form.get("target", ""))
    if record is None:
        return Outcome("unknown")
    for state in FINISHED:
        if record.state == state:
            store = await runtime_of(jobs).store()
            found = await store.purge(state, older_than=ZERO, limit=1, ids=(record.id,))
            return Outcome("purged" if found else "changed")
    return Outcome("changed")


async def _pause_queue(jobs: Jobs[Any], form: Form) -> Outcome:
    return Outcome("queue_paused" if await jobs.control.pause_queue(form.get("target", "")) else "unchanged")


async def _resume_queue(jobs: Jobs[Any], form: Form) -> Outcome:
    return Outcome("queue_resumed" if await jobs.control.resume_queue(form.get("target", "")) else "unchanged")


async def _pause(jobs: Jobs[Any], form: Form) -> Outcome:
    return Outcome("paused" if await jobs.control.pause(form.get("target", "")) else "unknown")


async def _resume(jobs: Jobs[Any], form: Form) -> Outcome:
    return Outcome("resumed" if await jobs.control.resume(form.get("target", "")) else "unknown")


async def _trigger(jobs: Jobs[Any], form: Form) -> Outcome:
    receipt = await jobs.control.trigger(form.get("target", ""))
    if receipt is None:
        return Outcome("unknown")
    return Outcome("overlapping" if receipt.disposition == "existing" else "triggered")


async def _remove(jobs: Jobs[Any], form: Form) -> Outcome:
    return Outcome("removed" if await jobs.control.unschedule(form.get("target", "")) else "unknown")


async def _cancel_all(jobs: Jobs[Any], form: Form) -> Outcome:
    return await _change_all(jobs.control.cancel_all, form, "cancelled_all")


async def _requeue_all(jobs: Jobs[Any], form: Form) -> Outcome:
    return await _change_all(jobs.control.requeue_all, form, "requeued_all")


async def _purge_all(jobs: Jobs[Any], form: Form) -> Outcome:
    return await _change_all(jobs.control.purge_all, form, "purged_all")


async def _change_all(change: Callable[..., Awaitable[BulkResult]], form: Form, code: str) -> Outcome:
    """Change all jobs that the form names, for at most BULK_SECONDS. It stops between two round trips."""
    changed, ends = 0, time.monotonic() + BULK_SECONDS

    def note(looked_at: int, done: int) -> None:
        del looked_at
        nonlocal changed
        changed = done
        if time.monotonic() > ends:
            raise _OutOfTimeError

    on_progress: OnProgress = note
    try:
        result = await change(**read_filters(form).arguments, on_progress=on_progress)
    except _OutOfTimeError:
        return Outcome(code, changed=changed, is_partial=True)
    return Outcome(code, changed=result.changed, skipped=result.skipped)


CHANGES: Mapping[str, Change] = {
    "cancel": _cancel,
    "requeue": _requeue,
    "purge": _purge,
    "pause-queue": _pause_queue,
    "resume-queue": _resume_queue,
    "pause-schedule": _pause,
    "resume-schedule": _resume,
    "trigger-schedule": _trigger,
    "remove-schedule": _remove,
}
BULK_CHANGES: Mapping[str, Change] = {"cancel-all": _cancel_all, "requeue-all": _requeue_all, "purge-all": _purge_all}
