r"""The format of stored records: the fields that many records share are stored once, as a shape.

A shape is "max_recoveries keep_completed keep_failed keep_id queue\nname\npolicy", with times in ms, stored under its
digest. The rest of a record is its blob: "digest created key\nlength of meta or -\nmeta input". The scripts read the
numbers, the queue and the key; they never read a payload.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from flowli_core.driver import Ack, Cancelled, Completed, Failed, NewRecord, Outcome, Released, Retried
from flowli_core.drivers._times import milliseconds, moment, stamp
from flowli_core.stored import State, StoredRecord, StoredSchedule

Word = bytes | str | int | float
"""An argument of a command."""

DIGEST = 8
"""The length of a digest. Each blob begins with the digest of its shape."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The fields that many records share."""

    name: str
    queue: str
    policy: bytes
    max_recoveries: int


@lru_cache(maxsize=4096)
def _pack_shape(
    max_recoveries: int, times: tuple[timedelta, ...], queue: str, name: str, policy: bytes
) -> tuple[bytes, bytes]:
    head = " ".join(map(str, [max_recoveries, *map(milliseconds, times), queue]))
    text = f"{head}\n{name}\n".encode() + policy
    return base64.urlsafe_b64encode(hashlib.blake2b(text, digest_size=6).digest()), text


def unpack_shape(text: bytes) -> Shape:
    head, name, policy = text.split(b"\n", 2)
    max_recoveries, _, _, _, queue = head.split(b" ", 4)
    return Shape(name.decode(), queue.decode(), policy, int(max_recoveries))


def shape_of(record: NewRecord) -> tuple[bytes, bytes]:
    """Return the digest and the text of a record's shape."""
    times = (record.keep_completed, record.keep_failed, record.keep_id)
    return _pack_shape(record.max_recoveries, times, record.queue, record.name, record.policy)


def pack_record(record: NewRecord) -> tuple[Word, ...]:
    """Return the words of a record for add_records.lua: id, digest, key, d or a, ms, the rest of its blob."""
    kind, ms = ("a", stamp(record.due)) if isinstance(record.due, datetime) else ("d", milliseconds(record.due))
    meta = record.meta
    rest = b"-\n" + record.input if meta is None else b"%d\n" % len(meta) + meta + record.input
    return record.id, shape_of(record)[0], record.key or "", kind, ms, rest


def unpack_payload(blob: bytes) -> tuple[bytes | None, bytes]:
    """Return the meta and the input of a record."""
    _, length, rest = blob.split(b"\n", 2)
    if length == b"-":
        return None, rest
    size = int(length)
    return rest[:size], rest[size:]


def pack_ack(ack: Ack) -> tuple[Word, ...]:
    """Return the words of an ack for step.lua: id, token, kind, started, delay, data."""
    kind, delay, data = _pack_outcome(ack.outcome)
    started = "" if ack.started_at is None else stamp(ack.started_at)
    return ack.id, ack.token, kind, started, delay, data


def _pack_outcome(outcome: Outcome) -> tuple[str, int, bytes]:
    match outcome:
        case Completed(result):
            return "c", 0, result
        case Retried(delay, progress):
            return "r", milliseconds(delay), progress
        case Failed(progress):
            return "f", 0, progress
        case Released(delay, None):
            return "g", milliseconds(delay), b""
        case Released(delay, progress):
            return "p", milliseconds(delay), progress or b""
        case Cancelled():
            return "x", 0, b""


def unpack_stored(row: list[Any], shape: Callable[[bytes], Shape]) -> StoredRecord:
    """Read a record from the reply of read_records.lua. `shape` finds a shape by its digest."""
    record_id, blob, state, due, progress, recoveries, token, outcome, finished = row
    common, (meta, input_) = shape(blob[:DIGEST]), unpack_payload(blob)
    created, _, key = blob[DIGEST : blob.index(b"\n")].partition(b" ")
    worker, started, failed, updated, has_result, result = b"", 0, 0, created, b"", b""
    if outcome is not None:
        head, has_result, result = outcome.partition(b"\n")
        _, _, started, failed, updated, _, _, worker = head.split(b" ", 7)
    if token is not None:
        _, started, _, _, worker = token.split(b" ", 4)
        updated = started
    name: State = state.decode()
    return StoredRecord(
        id=record_id.decode(),
        name=common.name,
        queue=common.queue,
        state=name,
        input=input_,
        meta=meta,
        key=key.decode() or None,
        policy=common.policy,
        progress=progress,
        result=result if name == "completed" and has_result else None,
        recoveries=int(recoveries),
        max_recoveries=common.max_recoveries,
        worker=worker.decode() or None,
        created_at=moment(int(created)),
        updated_at=moment(int(updated)),
        scheduled_for=moment(int(due)),
        failed_at=_moment_or_none(failed),
        started_at=_moment_or_none(started),
        finished_at=None if finished is None else moment(int(float(finished))),
    )


def unpack_schedule(key: bytes, text: bytes) -> StoredSchedule:
    """Read a schedule from the reply of read_schedules.lua."""
    head, _, spec = text.partition(b"\n")
    revision, paused, next_tick, last_tick, last_id, queue = head.decode().split(" ", 5)
    return StoredSchedule(
        key=key.decode(),
        queue=queue,
        spec=spec,
        next_tick=None if next_tick == "-" else moment(int(next_tick)),
        last_tick=None if last_tick == "-" else moment(int(last_tick)),
        paused=paused == "1",
        last_record_id=None if last_id == "-" else last_id,
        revision=int(revision),
    )


def _moment_or_none(stamped: bytes | int) -> datetime | None:
    number = int(stamped)
    return moment(number) if number else None
