r"""How records are written: what many share is stored once, and each keeps the rest as one string.

A shape is "most recoveries, ms to keep when completed, ms to keep when failed, queue\nname\npolicy", stored under a
digest of itself. A record's blob is "digest created key\nlength of meta or -\nmeta input". The scripts read the
numbers, the queue and the key; they never look into a payload.
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
"""What a command is made of."""

DIGEST = 8
"""How long the digest of a shape is, with which each record's blob begins."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What records of one kind share."""

    name: str
    queue: str
    policy: bytes
    max_recoveries: int


@lru_cache(maxsize=4096)
def _pack_shape(numbers: tuple[int, timedelta, timedelta], queue: str, name: str, policy: bytes) -> tuple[bytes, bytes]:
    most, completed, failed = numbers
    head = f"{most} {milliseconds(completed)} {milliseconds(failed)} {queue}\n{name}\n"
    text = head.encode() + policy
    return base64.urlsafe_b64encode(hashlib.blake2b(text, digest_size=6).digest()), text


def unpack_shape(text: bytes) -> Shape:
    """Read a shape."""
    numbers, name, policy = text.split(b"\n", 2)
    most, _, _, queue = numbers.split(b" ", 3)
    return Shape(name.decode(), queue.decode(), policy, int(most))


def shape_of(record: NewRecord) -> tuple[bytes, bytes]:
    """Answer the digest and the text of a record's shape."""
    numbers = (record.max_recoveries, record.keep_completed, record.keep_failed)
    return _pack_shape(numbers, record.queue, record.name, record.policy)


def pack_record(record: NewRecord) -> tuple[Word, ...]:
    """What enqueue.lua takes for a record: id, digest, key, kind of due time, ms, the rest of its blob."""
    kind, ms = ("a", stamp(record.due)) if isinstance(record.due, datetime) else ("d", milliseconds(record.due))
    meta = record.meta
    rest = b"-\n" + record.input if meta is None else b"%d\n" % len(meta) + meta + record.input
    return record.id, shape_of(record)[0], record.key or "", kind, ms, rest


@dataclass(frozen=True, slots=True)
class Blob:
    """A record's own part, read."""

    created: int
    key: str | None
    meta: bytes | None
    input: bytes


def unpack_blob(blob: bytes) -> Blob:
    """Read a record's own part."""
    created, _, key = blob[DIGEST : blob.index(b"\n")].partition(b" ")
    return Blob(int(created), key.decode() or None, *unpack_payload(blob))


def unpack_payload(blob: bytes) -> tuple[bytes | None, bytes]:
    """Read a record's meta and input."""
    _, length, rest = blob.split(b"\n", 2)
    if length == b"-":
        return None, rest
    size = int(length)
    return rest[:size], rest[size:]


def pack_ack(ack: Ack) -> tuple[Word, ...]:
    """What step.lua takes for an ack: id, token, kind, start, delay, data."""
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
    """Read what read.lua answers of a record."""
    record_id, raw, state, due, progress, recoveries, token, text, finished = row
    blob, common = unpack_blob(raw), shape(raw[:DIGEST])
    worker, started, failed, updated, result = b"", 0, 0, blob.created, b""
    if text is not None:
        head, _, result = text.partition(b"\n")
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
        input=blob.input,
        meta=blob.meta,
        key=blob.key,
        policy=common.policy,
        progress=progress,
        result=result if name == "completed" else None,
        recoveries=int(recoveries),
        max_recoveries=common.max_recoveries,
        worker=worker.decode() or None,
        created_at=moment(blob.created),
        updated_at=moment(int(updated)),
        scheduled_for=moment(int(due)),
        failed_at=_moment_or_none(failed),
        started_at=_moment_or_none(started),
        finished_at=None if finished is None else moment(int(float(finished))),
    )


def unpack_schedule(key: bytes, text: bytes) -> StoredSchedule:
    """Read what read_schedules.lua answers of a schedule."""
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
