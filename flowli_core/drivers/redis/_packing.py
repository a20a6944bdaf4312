r"""The format of stored records: the fields that many records share are stored once, as a shape.

A shape is "max_recoveries keep_completed keep_failed keep_id queue\nname\npolicy", with times in ms, stored under its
digest. The rest of a record is its blob: "digest created key\nwords\nlane meta input". The words are the length of
the meta, the time at which the record expires, the length of the lane, and the ms for which its key stays unique. Each
is - if the record has none, and those at the end are left out. The lane is "limit\nvalue". The scripts read all this;
they never read a payload.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from flowli_core.driver import Ack, Cancelled, Completed, Failed, Outcome, Released, Retried
from flowli_core.drivers._times import LAST_STAMP, expiry_at, milliseconds, moment, stamp
from flowli_core.lanes import Lane, Rate
from flowli_core.new_records import NewRecord
from flowli_core.reports import Report
from flowli_core.stored import State, StoredRecord, StoredSchedule

Word = bytes | str | int | float
"""An argument of a command."""

_SHAPE = re.compile(rb"(\d+) \d+ \d+ \d+ ([^\n]*)\n([^\n]*)\n")
"""The most recoveries, queue, name; the policy follows."""

_LONGEST_NUMBERS = 64
"""The numbers of a shape are read up to this length, as in parse_shape of columns.lua."""

_OUTCOME = re.compile(rb"\S+ \d+ (\d{1,16}) (\d{1,16}) (\d{1,16}) \d+ \S+ ([^\n]*)(\n)?(.*)", re.DOTALL)
"""Started, failed, updated, worker, and the result after a newline."""

_TOKEN = re.compile(rb"\d+ (\d{1,16}) \d+ \S+ ([^\n]*)")
"""Reserved, worker."""

_SCHEDULE = re.compile(rb"\d+ ([01]) (-|\d{1,16}) (-|\d{1,16}) ([!-~]+) ([^ \n]+)\n")
"""Paused, next tick, last tick, last record, queue; the spec follows."""

_GREATEST = 2**53
"""The greatest number that is read. Lua counts exactly up to it."""

DIGEST = 22
"""The length of a digest. Each blob begins with the digest of its shape."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The fields that many records share."""

    name: str
    queue: str
    policy: bytes
    max_recoveries: int


def digest_of(text: bytes) -> bytes:
    """Return the digest of a shape. It is long enough that nobody can make two shapes with the same one."""
    return base64.urlsafe_b64encode(hashlib.blake2b(text, digest_size=16).digest())[:DIGEST]


@lru_cache(maxsize=1024)
def _pack_shape(
    max_recoveries: int, times: tuple[timedelta, ...], queue: str, name: str, policy: bytes
) -> tuple[bytes, bytes]:
    head = " ".join(map(str, [max_recoveries, *map(milliseconds, times), queue]))
    text = f"{head}\n{name}\n".encode() + policy
    return digest_of(text), text


def unpack_shape(text: bytes) -> Shape | None:
    """Read a shape, as parse_shape in columns.lua does. Return None if it cannot be read."""
    found = _SHAPE.match(text)
    if found is None or found.start(2) > _LONGEST_NUMBERS:
        return None
    max_recoveries, queue, name = found.groups()
    return Shape(to_text(name), to_text(queue), text[found.end() :], int(max_recoveries))


def read_number(stored: bytes) -> int | None:
    """Read a number as number_or in head.lua does. Return None if it is damaged."""
    number = int(stored) if stored.isdigit() and len(stored) <= len(str(_GREATEST)) else None
    return None if number is None or number > _GREATEST else number


def is_text(stored: bytes) -> bool:
    """Return True if this is UTF-8."""
    try:
        stored.decode()
    except UnicodeDecodeError:
        return False
    return True


def to_text(stored: bytes) -> str:
    """Return stored text. Bytes that are damaged are shown escaped."""
    return stored.decode(errors="backslashreplace")


def shape_of(record: NewRecord) -> tuple[bytes, bytes]:
    """Return the digest and the text of a record's shape."""
    times = (record.keep_completed, record.keep_failed, record.keep_id)
    return _pack_shape(record.max_recoveries, times, record.queue, record.name, record.policy)


def pack_record(record: NewRecord) -> tuple[Word, ...]:
    """Return the words of a record for add_records.lua: id, digest, key, when it is due, ms, the rest of its blob."""
    kind, ms = ("a", stamp(record.due)) if isinstance(record.due, datetime) else ("d", milliseconds(record.due))
    meta, lane = record.meta, record.lane
    body = record.input if meta is None else meta + record.input
    words = [b"-" if meta is None else b"%d" % len(meta), b"-", b"-", b"-"]
    if isinstance(record.expires, timedelta):
        kind += str(milliseconds(record.expires))
    elif record.expires is not None:
        words[1] = b"%d" % (expiry_at(record.expires, 0) or 0)
    if record.key is not None:
        if record.on_conflict == "replace":
            kind += "r"
        if record.unique_for:
            words[3] = b"%d" % min(milliseconds(record.unique_for), LAST_STAMP)
    if record.max_wait is not None:
        kind += f"m{milliseconds(record.max_wait)}"
    if lane is not None:
        kind += "*"
        text = f"{lane.limit}\n{lane.value}".encode()
        words[2] = b"%d" % len(text)
        body = text + body
    rest = (b" ".join(words).rstrip(b" -") or b"-") + b"\n" + body
    return record.id, shape_of(record)[0], record.key or "", kind, ms, rest


def pack_limit(lane: Lane) -> str:
    """Return the numbers of the limit of a lane, as they are stored: "concurrency count period", - for none."""
    rate = "- -" if lane.rate is None else f"{lane.rate.count} {milliseconds(lane.rate.period)}"
    return f"{lane.concurrency or '-'} {rate}"


def unpack_limit(text: bytes) -> tuple[int | None, Rate | None]:
    """Return the concurrency and the rate of a limit."""
    concurrency, count, period = text.split(b" ")
    rate = None if count == b"-" else Rate(int(count), moment(int(period)) - moment(0))
    return None if concurrency == b"-" else int(concurrency), rate


def unpack_payload(blob: bytes) -> tuple[bytes | None, bytes]:
    """Return the meta and the input of a record."""
    _, length, rest = blob.split(b"\n", 2)
    if length == b"-":
        return None, rest
    if b" " in length:
        length, _, lane_length, _ = _words_of(length)
        rest = rest[0 if lane_length == b"-" else int(lane_length) :]
        if length == b"-":
            return None, rest
    size = int(length)
    return rest[:size], rest[size:]


def _words_of(line: bytes) -> list[bytes]:
    """Return the four words of the second line of a blob."""
    return (line.split(b" ") + [b"-"] * 3)[:4]


def _unpack_expiry_and_lane(blob: bytes) -> tuple[datetime | None, Lane | None]:
    _, line, rest = blob.split(b"\n", 2)
    _, expires, lane_length, _ = _words_of(line)
    expires_at = None if expires == b"-" else moment(int(expires))
    if lane_length == b"-":
        return expires_at, None
    limit, _, value = rest[: int(lane_length)].partition(b"\n")
    return expires_at, Lane(to_text(limit), to_text(value))


def pack_ack(ack: Ack) -> tuple[Word, ...]:
    """Return the words of an ack for settle.lua: id, token with kind, delay and start, data."""
    kind, delay, data = _pack_outcome(ack.outcome)
    started = "" if ack.started_at is None else stamp(ack.started_at)
    return ack.id, f"{ack.token} {kind} {delay} {started}", data


def pack_report(report: Report) -> tuple[Word, ...]:
    """Return the words of a report for reports.lua: id, token, progress or empty, first line, lines."""
    lines = b"".join([line + b"\n" for line in report.log])
    return report.id, report.token, report.progress or b"", report.first_line, lines


def _pack_outcome(outcome: Outcome) -> tuple[str, int, bytes]:
    match outcome:
        case Completed(result):
            return "c", 0, result
        case Retried(delay, attempts):
            return "r", milliseconds(delay), attempts
        case Failed(attempts):
            return "f", 0, attempts
        case Released(delay, None):
            return "g", milliseconds(delay), b""
        case Released(delay, attempts):
            return "p", milliseconds(delay), attempts or b""
        case Cancelled():
            return "x", 0, b""


def unpack_damaged(row: list[Any]) -> StoredRecord:
    """Read a record that cannot be read from the reply of read_records.lua."""
    record_id, state, due, finished, queue, damage = row
    return StoredRecord(
        id=to_text(record_id),
        name="",
        queue=to_text(queue),
        state=state.decode(),
        input=b"",
        meta=None,
        key=None,
        policy=b"",
        attempts=None,
        result=None,
        recoveries=0,
        max_recoveries=0,
        worker=None,
        created_at=moment(0),
        updated_at=moment(0),
        scheduled_for=moment(int(due)),
        failed_at=None,
        started_at=None,
        finished_at=None if finished is None else moment(int(finished)),
        damage=to_text(damage),
    )


def unpack_stored(row: list[Any], shape: Shape) -> StoredRecord:
    """Read a record of this shape from the reply of read_records.lua.

    What is stored beside the record may be damaged: it is then left out.
    """
    record_id, blob, state, due, attempts, recoveries, token, outcome, finished, *rest = row
    lease, is_cancelling, progress, log = rest
    meta, input_ = unpack_payload(blob)
    expires_at, lane = _unpack_expiry_and_lane(blob)
    created, _, key = blob[DIGEST : blob.index(b"\n")].partition(b" ")
    worker, started, failed, updated, has_result, result = b"", b"0", b"0", created, b"", b""
    if outcome is not None and (found := _OUTCOME.match(outcome)) is not None:
        started, failed, updated, worker, has_result, result = found.groups(b"")
    if token is not None and (found := _TOKEN.match(token)) is not None:
        started, worker = found.groups()
        updated = started
    name: State = state.decode()
    is_expired = name == "cancelled" and result == b"expired"
    may_expire = name in ("queued", "scheduled") and (outcome is None or result == b"replaced")
    return StoredRecord(
        id=record_id.decode(),
        name=shape.name,
        queue=shape.queue,
        state=name,
        input=input_,
        meta=meta,
        key=to_text(key) or None,
        policy=shape.policy,
        attempts=attempts,
        result=result if name == "completed" and has_result else None,
        recoveries=recoveries,
        max_recoveries=shape.max_recoveries,
        worker=to_text(worker) or None,
        created_at=moment(int(created)),
        updated_at=moment(int(updated)),
        scheduled_for=moment(int(due)),
        failed_at=_moment_or_none(failed),
        started_at=_moment_or_none(started),
        finished_at=None if finished is None else moment(int(finished)),
        lease_until=None if lease is None else moment(int(lease)),
        cancel_requested=bool(is_cancelling),
        expires_at=expires_at if is_expired or may_expire else None,
        expired=is_expired,
        lane=lane,
        progress=progress,
        log=tuple(log.split(b"\n")[1:-1]) if log else (),
    )


def unpack_schedule(key: bytes, text: bytes) -> StoredSchedule:
    """Read a schedule from the reply of read_schedules.lua."""
    found = _SCHEDULE.match(text)
    digits = re.match(rb"\d*", text)
    revision = read_number(digits[0] if digits else b"")
    if found is None or revision is None:
        damage = "the head of the schedule cannot be read"
        return StoredSchedule(
            key=to_text(key), queue="", spec=b"", next_tick=None, revision=revision or 0, damage=damage
        )
    paused, next_tick, last_tick, last_id, queue = found.groups()
    return StoredSchedule(
        key=to_text(key),
        queue=to_text(queue),
        spec=text[found.end() :],
        next_tick=None if next_tick == b"-" else moment(int(next_tick)),
        last_tick=None if last_tick == b"-" else moment(int(last_tick)),
        paused=paused == b"1",
        last_record_id=None if last_id == b"-" else last_id.decode(),
        revision=revision,
    )


def _moment_or_none(stamped: bytes) -> datetime | None:
    number = int(stamped)
    return moment(number) if number else None
