"""The stored form of a schedule, and the decisions about it as pure functions.

A tick is a time at which a schedule fires. Each decision takes the store's time and returns what to store. None of them
knows a driver.
"""

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal

from pydantic_core import to_json

from flowli_core._schedules.rules import Every
from flowli_core._schedules.timing import Missed, Overlap, Timing, due_ticks
from flowli_core._wire.keys import key_of_schedule
from flowli_core._wire.versioned import VersionedJson
from flowli_core.limits import MAX_ENQUEUE_BYTES, MAX_ENQUEUE_RECORDS
from flowli_core.new_records import NewRecord
from flowli_core.stored import StoredSchedule

DEFAULT_RUNS = 5

_LONGEST_IN_ID = 80
_IN_ID = re.compile(r"[!-)+-z|]+", re.ASCII)
"""The characters that an id may have, except `~`, which marks a shortened key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSpec:
    """The definition of a schedule. `record` is the record that a tick stores, apart from its id, key and due time.

    `key` is stored beside the spec, not within. `declared_by` names the registry whose class lists the schedule.
    """

    key: str = ""
    timing: Timing
    missed: Missed
    overlap: Overlap
    record: NewRecord
    declared_by: str | None = None


FORMAT = VersionedJson(
    ScheduleSpec,
    version=1,
    label="the schedule",
    leave_out={"key": True, "record": {"key", "due", "keep_id", "on_conflict", "max_wait", "unique_for"}},
)


@dataclass(frozen=True, slots=True)
class ScheduleChange:
    """A changed schedule, and the records of its ticks that are to be stored with it.

    `is_partial` is True if more ticks are due than one call may store. The schedule's next tick is then one of them.
    """

    schedule: StoredSchedule
    records: tuple[NewRecord, ...] = ()
    is_partial: bool = False


ScheduleDisposition = Literal["created", "updated", "unchanged"]


def decide_upsert(
    spec: ScheduleSpec, current: StoredSchedule | None, now: datetime
) -> tuple[ScheduleDisposition, ScheduleChange]:
    """Decide what to store of a schedule that is registered.

    An unchanged rule keeps its next tick, even one that is due and has not fired. A changed rule counts from now. If a
    tick of the old rule is due, it fires first, so that a deploy in the due minute skips nothing. If the change is
    partial, it only fires ticks of the old rule: store it, then decide again.
    """
    packed = FORMAT.pack(spec)
    if current is None:
        first = spec.timing.next_after(now)
        created = StoredSchedule(key=spec.key, queue=spec.record.queue, spec=packed, next_tick=first)
        return "created", ScheduleChange(created)
    if current.spec == packed:
        return "unchanged", ScheduleChange(current)
    updated = replace(current, spec=packed, queue=spec.record.queue, damage=None)
    before = read_or_none(current)
    if before is not None and before.timing == spec.timing:
        return "updated", ScheduleChange(updated)
    fired = ScheduleChange(current) if before is None else decide_fire(before, current, now)
    if fired.is_partial:
        return "updated", fired
    next_tick = None if current.paused else spec.timing.next_after(now)
    updated = replace(updated, next_tick=next_tick, last_tick=fired.schedule.last_tick)
    return "updated", ScheduleChange(updated, fired.records)


def decide_fire(spec: ScheduleSpec, current: StoredSchedule, now: datetime) -> ScheduleChange:
    """Decide what to store of a schedule that may be due: the records of the ticks that fire, and the next tick."""
    if current.next_tick is None or current.next_tick > now:
        return ScheduleChange(current)
    ticks, next_tick = due_ticks(spec.timing, current.next_tick, now, spec.missed)
    size = len(spec.record.input) + len(spec.record.meta or b"")
    most = max(1, min(MAX_ENQUEUE_RECORDS, MAX_ENQUEUE_BYTES // (size or 1)))
    is_partial = len(ticks) > most
    if is_partial:
        ticks, next_tick = ticks[:most], ticks[most]
    records = tuple([make_record(spec, tick_id(spec.key, tick), due=tick) for tick in ticks])
    last_tick = ticks[-1] if ticks else current.last_tick
    return ScheduleChange(replace(current, next_tick=next_tick, last_tick=last_tick), records, is_partial)


def decide_pause(current: StoredSchedule) -> ScheduleChange:
    """Decide what to store of a schedule that is paused. It has no next tick."""
    return ScheduleChange(replace(current, paused=True, next_tick=None))


def decide_resume(spec: ScheduleSpec, current: StoredSchedule, now: datetime) -> ScheduleChange:
    """Decide what to store of a schedule that is resumed. Ticks that came due during the pause are skipped."""
    base = current.last_tick if isinstance(spec.timing.rule, Every) else None
    return ScheduleChange(replace(current, paused=False, next_tick=spec.timing.next_after(now, base=base)))


def next_runs(stored: StoredSchedule, count: int = DEFAULT_RUNS) -> tuple[datetime, ...]:
    """Return up to `count` next ticks of a schedule.

    There are none if it is paused or has ended, or if its spec cannot be read.
    """
    spec = read_or_none(stored)
    ticks: list[datetime] = []
    tick = None if spec is None else stored.next_tick
    while tick is not None and spec is not None and len(ticks) < count:
        ticks.append(tick)
        tick = spec.timing.next_after(tick, base=tick)
    return tuple(ticks)


def make_record(spec: ScheduleSpec, record_id: str, *, due: datetime | timedelta) -> NewRecord:
    """Make a record of a schedule. If overlap is skipped, it holds a key, so that only one of them is unfinished."""
    key = key_of_schedule(spec.record.name, spec.key) if spec.overlap == "skip" else None
    expires = spec.record.expires
    if isinstance(due, datetime) and isinstance(expires, timedelta):
        expires = due + expires  # from the tick, also if it fires late
    return replace(spec.record, id=record_id, due=due, expires=expires, key=key)


def tick_id(key: str, tick: datetime) -> str:
    """Return the id of the record of a tick. It depends only on key and tick, so all workers store the same record."""
    short = key
    if len(key) > _LONGEST_IN_ID or not _IN_ID.fullmatch(key):
        digest = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        short = "".join(_IN_ID.findall(key))[:40] + "~" + digest
    precision = "milliseconds" if tick.microsecond else "seconds"
    return f"{short}@{tick.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=precision)}Z"


def derive_key(spec: ScheduleSpec) -> str:
    """Return the key of a schedule that was given none. It depends on the job, the timing, the input and the meta."""
    record = spec.record
    parts = to_json((spec.timing, record.input, record.meta))
    return f"{record.name}:{hashlib.blake2b(parts, digest_size=16).hexdigest()}"


def read(stored: StoredSchedule) -> ScheduleSpec:
    """Read the spec of a stored schedule. Raises NewerVersionError, or ValueError if it is malformed."""
    return _read(stored.key, stored.spec)


def read_or_none(stored: StoredSchedule) -> ScheduleSpec | None:
    """Read the spec of a stored schedule. Return None if it is malformed, or was written by a later release."""
    try:
        return read(stored)
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def _read(key: str, spec: bytes) -> ScheduleSpec:
    return replace(FORMAT.unpack(spec), key=key)
