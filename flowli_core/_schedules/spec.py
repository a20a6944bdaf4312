"""What is kept of a schedule: when it recurs, what a tick of it stores; and, decided purely, what becomes of it.

Every function here takes the store's time, and answers what is to be stored. Nothing of this knows a driver.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal

from pydantic_core import to_json

from flowli_core._schedules import Every, Missed, Overlap, Timing, due_ticks
from flowli_core._wire.versioned import NewerVersionError, VersionedJson
from flowli_core.driver import NewRecord
from flowli_core.stored import StoredSchedule

DEFAULT_RUNS = 5

_LONGEST_IN_ID = 80
_IN_ID = re.compile(r"[!-)+-z|]+", re.ASCII)
"""What an id may have, without `~`, which marks the keys that had to be shortened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A recurring definition. `record` is what a tick stores, with an id and a time of its own.

    `declared_by` names the registry in whose class body it stands.
    """

    key: str = ""
    timing: Timing
    missed: Missed
    overlap: Overlap
    record: NewRecord
    declared_by: str | None = None


FORMAT = VersionedJson(Planned, version=1, label="the schedule", leave_out={"key": True, "record": {"key", "due"}})


@dataclass(frozen=True, slots=True)
class Placed:
    """What is to be stored, and together with which records."""

    schedule: StoredSchedule
    records: tuple[NewRecord, ...] = ()


ScheduleDisposition = Literal["created", "updated", "unchanged"]


def placed(planned: Planned, current: StoredSchedule | None, now: datetime) -> tuple[ScheduleDisposition, Placed]:
    """Decide what a call of `schedule` comes to, whatever there was before.

    An unchanged rule keeps its next tick, also one that has come and waits for a runner. A changed one counts from now;
    where a tick of the old one has come, it is had first: a deploy in the due minute skips nothing.
    """
    spec = pack(planned)
    if current is None:
        first = planned.timing.next_after(now)
        return "created", Placed(
            StoredSchedule(key=planned.key, queue=planned.record.queue, spec=spec, next_tick=first)
        )
    if current.spec == spec:
        return "unchanged", Placed(current)
    changed = replace(current, spec=spec, queue=planned.record.queue)
    before = _read_or_none(current)
    if before is not None and before.timing == planned.timing:
        return "updated", Placed(changed)
    records: tuple[NewRecord, ...] = ()
    if before is not None and current.next_tick is not None and current.next_tick <= now:
        fired = ticked(before, current, now)
        records, changed = fired.records, replace(changed, last_tick=fired.schedule.last_tick)
    following = None if current.paused else planned.timing.next_after(now)
    return "updated", Placed(replace(changed, next_tick=following), records)


def ticked(planned: Planned, current: StoredSchedule, now: datetime) -> Placed:
    """Decide what a tick that has come comes to: its records, and the next tick."""
    if current.next_tick is None or current.next_tick > now:
        return Placed(current)
    fired, following = due_ticks(planned.timing, current.next_tick, now, planned.missed)
    last = fired[-1] if fired else current.last_tick
    records = tuple([record_of(planned, tick_id(planned.key, tick), due=tick) for tick in fired])
    return Placed(replace(current, next_tick=following, last_tick=last), records)


def paused(current: StoredSchedule) -> StoredSchedule:
    """Decide what is stored of a schedule that is to have no ticks for a while."""
    return replace(current, paused=True, next_tick=None)


def resumed(planned: Planned, current: StoredSchedule, now: datetime) -> StoredSchedule:
    """Decide what is stored of a schedule that is to go on: from now, without what came while it was paused."""
    base = current.last_tick if isinstance(planned.timing.rule, Every) else None
    return replace(current, paused=False, next_tick=planned.timing.next_after(now, base=base))


def next_runs(stored: StoredSchedule, count: int = DEFAULT_RUNS) -> tuple[datetime, ...]:
    """Answer the next ticks, as they are foreseen now; none where the definition cannot be read."""
    planned = _read_or_none(stored)
    ticks: list[datetime] = []
    tick = None if planned is None else stored.next_tick
    while tick is not None and planned is not None and len(ticks) < count:
        ticks.append(tick)
        tick = planned.timing.next_after(tick, base=tick)
    return tuple(ticks)


def record_of(planned: Planned, record_id: str, *, due: datetime | timedelta) -> NewRecord:
    """Make a record of a schedule. One that must not overlap holds a key, so that one at a time is unfinished."""
    key = f"{planned.record.name}:@{planned.key}" if planned.overlap == "skip" else None
    return replace(planned.record, id=record_id, due=due, key=key)


def tick_id(key: str, tick: datetime) -> str:
    """Name the record of a tick by its key and time: whoever makes it, there is one."""
    short = key
    if len(key) > _LONGEST_IN_ID or not _IN_ID.fullmatch(key):
        digest = hashlib.blake2b(key.encode(), digest_size=12).hexdigest()
        short = "".join(_IN_ID.findall(key))[:40] + "~" + digest
    seconds = (
        tick.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds" if tick.microsecond else "seconds")
    )
    return f"{short}@{seconds}Z"


def derived_key(planned: Planned) -> str:
    """Name a schedule that was given no key by what it is: the job, when it recurs, and with which input."""
    record = planned.record
    parts = to_json((planned.timing, record.input, record.meta))
    return f"{record.name}:{hashlib.blake2b(parts, digest_size=8).hexdigest()}"


def pack(planned: Planned) -> bytes:
    """Write a definition as JSON."""
    return FORMAT.pack(planned)


def read(stored: StoredSchedule) -> Planned:
    """Read a definition. Raises NewerVersionError, or ValueError where it is malformed."""
    return _read(stored.key, stored.spec)


@lru_cache(maxsize=1024)
def _read(key: str, spec: bytes) -> Planned:
    return replace(FORMAT.unpack(spec), key=key)


def _read_or_none(stored: StoredSchedule) -> Planned | None:
    try:
        return read(stored)
    except (NewerVersionError, ValueError):
        return None
