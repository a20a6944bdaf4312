"""What is kept of a schedule: when it recurs, what a tick of it stores; and, decided purely, what becomes of it.

Every function here takes the store's time, and answers what is to be stored. Nothing of this knows a driver.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal

from flowli_core._schedules import AllMissed, Cron, Every, Missed, Overlap, Timing, due_ticks
from flowli_core._wire.policy import NewerVersionError
from flowli_core.driver import NewRecord, StoredSchedule
from flowli_core.errors import SchedulingError

VERSION = 1
"""Of the JSON below. A schedule of a later version is left to runners that know it."""

DEFAULT_RUNS = 5

_MS = timedelta(milliseconds=1)
_LONGEST_IN_ID = 80
_IN_ID = re.compile(r"[!-)+-z|]+", re.ASCII)
"""What an id may have, without `~`, which marks the keys that had to be shortened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A recurring definition. `record` is what a tick stores, with an id and a time of its own.

    `declared_by` names the registry in whose class body it stands.
    """

    key: str
    timing: Timing
    missed: Missed
    overlap: Overlap
    record: NewRecord
    declared_by: str | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """What is to be stored, and together with which records."""

    schedule: StoredSchedule
    records: tuple[NewRecord, ...] = ()


Disposition = Literal["created", "updated", "unchanged"]


def placed(planned: Planned, current: StoredSchedule | None, now: datetime) -> tuple[Disposition, Placed]:
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
    parts: list[Any] = [
        _pack_timing(planned.timing),
        record.input.decode(),
        "" if record.meta is None else record.meta.decode(),
    ]
    text = json.dumps(parts, sort_keys=True)
    return f"{record.name}:{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def pack(planned: Planned) -> bytes:
    """Write a definition as JSON: the same definition gives the same bytes, in whatever process."""
    record = planned.record
    packed: dict[str, Any] = {
        "v": VERSION,
        "name": record.name,
        "queue": record.queue,
        **_pack_timing(planned.timing),
        "missed": planned.missed.limit if isinstance(planned.missed, AllMissed) else planned.missed,
        "overlap": planned.overlap,
        "input": record.input.decode(),
        "meta": None if record.meta is None else record.meta.decode(),
        "policy": record.policy.decode(),
        "max_recoveries": record.max_recoveries,
        "keep_completed_ms": record.keep_completed // _MS,
        "keep_failed_ms": record.keep_failed // _MS,
        "declared_by": planned.declared_by,
    }
    return json.dumps(packed, separators=(",", ":"), sort_keys=True).encode()


def read(stored: StoredSchedule) -> Planned:
    """Read a definition. Raises NewerVersionError, or ValueError where it is malformed."""
    return _read(stored.key, stored.spec)


@lru_cache(maxsize=1024)
def _read(key: str, spec: bytes) -> Planned:
    try:
        data = json.loads(spec)
        if data["v"] > VERSION:
            raise NewerVersionError
        missed = data["missed"]
        record = NewRecord(
            id="",
            name=str(data["name"]),
            queue=str(data["queue"]),
            input=data["input"].encode(),
            meta=None if data["meta"] is None else data["meta"].encode(),
            policy=data["policy"].encode(),
            max_recoveries=int(data["max_recoveries"]),
            keep_completed=data["keep_completed_ms"] * _MS,
            keep_failed=data["keep_failed_ms"] * _MS,
        )
        return Planned(
            key=key,
            timing=_read_timing(data),
            missed=AllMissed(missed) if isinstance(missed, int) else missed,
            overlap=data["overlap"],
            record=record,
            declared_by=data["declared_by"],
        )
    except (
        LookupError,
        TypeError,
        AttributeError,
        ValueError,
        OverflowError,
        RecursionError,
        SchedulingError,
    ) as error:
        raise ValueError(f"the schedule {key!r} cannot be read: {type(error).__name__}") from error


def _read_or_none(stored: StoredSchedule) -> Planned | None:
    try:
        return read(stored)
    except (NewerVersionError, ValueError):
        return None


def _pack_timing(timing: Timing) -> dict[str, Any]:
    rule = timing.rule
    return {
        "cron": rule.expression if isinstance(rule, Cron) else None,
        "timezone": rule.timezone if isinstance(rule, Cron) else "UTC",
        "every_ms": rule.interval // _MS if isinstance(rule, Every) else None,
        "start": None if timing.start is None else timing.start.isoformat(),
        "end": None if timing.end is None else timing.end.isoformat(),
    }


def _read_timing(data: dict[str, Any]) -> Timing:
    every = data["every_ms"]
    return Timing(
        rule=Cron(data["cron"], data["timezone"]) if every is None else Every(every * _MS),
        start=None if data["start"] is None else datetime.fromisoformat(data["start"]),
        end=None if data["end"] is None else datetime.fromisoformat(data["end"]),
    )
