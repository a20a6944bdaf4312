"""Reads the replies of the scripts into the values of the contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from flowli_core.driver import AckAnswer, Damaged, Expired, Recovered, Reserved, StepAnswer
from flowli_core.drivers._times import due_at, duration, milliseconds, moment
from flowli_core.drivers.redis._clients import Client
from flowli_core.drivers.redis._packing import (
    DIGEST,
    Shape,
    digest_of,
    is_text,
    read_number,
    shape_of,
    to_text,
    unpack_damaged,
    unpack_limit,
    unpack_payload,
    unpack_shape,
    unpack_stored,
)
from flowli_core.lanes import StoredLane
from flowli_core.new_records import Enqueued, NewRecord
from flowli_core.stored import STATES, Overview, QueueCounts, State, StateCounts, StoredRecord, StoredWorker

_ACKS: dict[str, AckAnswer] = {"o": "ok", "d": "duplicate", "l": "lost"}
_DAMAGED = 6
"""The length of the reply of read_records.lua for a record that cannot be read."""

_MOST_SHAPES = 1024
"""The most shapes that a process remembers. Callers choose limits and queues, so there may be any number."""

_DAMAGED_POLICY = b"damaged"
"""The policy of a shape that was changed: it cannot be read. Such a shape is not remembered, as it may be repaired."""

_NO_HISTORY: tuple[bytes | None, int] = (None, 0)
"""The attempts and the recoveries of a record that has no outcome yet."""


class Replies:
    """Reads replies. `client` and `key` read shapes that this process does not know."""

    def __init__(self, client: Client, key: str) -> None:
        self._client = client
        self._key = key
        self._shapes: dict[bytes, Shape] = {}

    def to_enqueued(self, records: Sequence[NewRecord], now: int, refused: list[Any]) -> list[Enqueued]:
        """Read the reply of enqueue.lua, which describes only the records that were not accepted."""
        answers = [self._accepted(record, now) for record in records]
        for position, disposition, record_id, state, due, attempts in refused:
            answers[position - 1] = Enqueued(
                disposition=disposition.decode(),
                id=to_text(record_id),
                state=state.decode(),
                scheduled_for=moment(int(due)),
                attempts=attempts,
            )
        return answers

    async def to_step_answer(self, reply: Any) -> StepAnswer:
        """Read the reply of step.lua."""
        now, acks, ids, blobs, histories, token, *rest = reply
        recovered, damaged, next_due, next_tick, suspect_due, forgot, *expired = rest
        shapes = await self._read_shapes(blob[:DIGEST] for blob in blobs)
        return StepAnswer(
            now=moment(now),
            acks=tuple([_ACKS[letter] for letter in acks.decode()]),
            reserved=_to_reserved(shapes, ids, blobs, histories, token=int(token)),
            recovered=tuple([_to_recovered(row) for row in recovered]),
            expired=tuple([Expired(*map(to_text, row)) for row in expired[0]]) if expired else (),
            damaged=tuple([Damaged(*map(to_text, row)) for row in damaged]),
            next_due=None if next_due < 0 else moment(next_due) - moment(0),
            next_tick=None if next_tick < 0 else duration(next_tick),
            suspect_due=bool(suspect_due),
            forgot=bool(forgot),
        )

    async def to_records(self, rows: list[Any]) -> list[StoredRecord]:
        """Read the reply of read_records.lua."""
        shapes = await self._read_shapes(row[1][:DIGEST] for row in rows if len(row) != _DAMAGED)
        return [
            unpack_damaged(row) if len(row) == _DAMAGED else unpack_stored(row, shapes[row[1][:DIGEST]])
            for row in rows
            if len(row) == _DAMAGED or row[1][:DIGEST] in shapes
        ]

    def _accepted(self, record: NewRecord, now: int) -> Enqueued:
        digest, _ = shape_of(record)
        if digest not in self._shapes:
            self._remember({digest: Shape(record.name, record.queue, record.policy, record.max_recoveries)})
        due = due_at(record.due, now)
        if record.max_wait is not None:
            due = min(due, now + milliseconds(record.max_wait))
        state: State = "scheduled" if due > now else "queued"
        return Enqueued(disposition="accepted", id=record.id, state=state, scheduled_for=moment(due))

    async def _read_shapes(self, digests: Iterable[bytes]) -> dict[bytes, Shape]:
        """Return the shapes with these digests, without those that were removed or damaged after the reply."""
        shapes = {digest: self._shapes.get(digest) for digest in digests}
        found = {digest: shape for digest, shape in shapes.items() if shape is not None}
        if unknown := [digest for digest in shapes if digest not in found]:
            texts = await self._client.execute("HMGET", self._key, *unknown)
            read = {digest: _read_shape(digest, text or b"") for digest, text in zip(unknown, texts, strict=True)}
            found |= {digest: shape for digest, shape in read.items() if shape is not None}
            self._remember({digest: shape for digest, shape in found.items() if shape.policy != _DAMAGED_POLICY})
        return found

    def _remember(self, shapes: dict[bytes, Shape]) -> None:
        if len(self._shapes) >= _MOST_SHAPES:
            self._shapes = {}
        self._shapes.update(shapes)


def _read_shape(digest: bytes, text: bytes) -> Shape | None:
    """Read a shape. If it was changed, its name may be that of another job: its policy is made unreadable.

    A worker then fails the record instead of running it.
    """
    shape = unpack_shape(text)
    return shape if shape is None or digest_of(text) == digest else replace(shape, policy=_DAMAGED_POLICY)


def _to_reserved(
    shapes: Mapping[bytes, Shape], ids: list[bytes], blobs: list[bytes], histories: list[Any], *, token: int
) -> tuple[Reserved, ...]:
    by_position = {position - 1: (attempts, recoveries) for position, attempts, recoveries in histories}
    reserved: list[Reserved] = []
    for position, (record_id, blob) in enumerate(zip(ids, blobs, strict=True)):
        shape = shapes.get(blob[:DIGEST])
        if shape is None or not is_text(record_id):
            continue  # the record was removed since, because its lease has expired; or it is recovered and set aside
        meta, input_ = unpack_payload(blob)
        attempts, recoveries = by_position.get(position, _NO_HISTORY)
        reserved.append(
            Reserved(
                id=record_id.decode(),
                token=token,
                name=shape.name,
                queue=shape.queue,
                input=input_,
                meta=meta,
                policy=shape.policy,
                attempts=attempts,
                recoveries=recoveries,
                suspect=recoveries >= shape.max_recoveries,
            )
        )
    return tuple(reserved)


def _to_recovered(row: Any) -> Recovered:
    record_id, name, queue, meta, recoveries, state = row
    return Recovered(
        id=to_text(record_id),
        name=to_text(name),
        queue=to_text(queue),
        meta=meta,
        recoveries=recoveries,
        state=state.decode(),
    )


def to_overview(now: int, queues: list[Any], counts: list[Any], others: list[Any]) -> Overview:
    """Read the replies of overview.lua. A count that is damaged is left out: fsck reports it."""
    workers, paused, lane_count, lanes = others
    found: dict[str, StateCounts] = {}
    oldest: dict[str, datetime] = {}
    for position, (name, queued, scheduled, due) in enumerate(queues):
        numbers = [read_number(count or b"") or 0 for count in counts[4 * position : 4 * position + 4]]
        if queued or scheduled or any(numbers):
            found[to_text(name)] = StateCounts(**dict(zip(STATES, (queued, scheduled, *numbers), strict=True)))
        if due >= 0:
            oldest[to_text(name)] = moment(due)
    return Overview(
        now=moment(now),
        counts=QueueCounts.of(found),
        oldest=oldest,
        workers={
            to_text(name): StoredWorker(seen=moment(read_number(seen) or now), about=about)
            for name, seen, about in workers
        },
        paused={to_text(queue): moment(int(since)) for queue, since in paused},
        lanes=tuple([_to_lane(now, row) for row in lanes]),
        lane_count=lane_count,
    )


def _to_lane(now: int, row: list[Any]) -> StoredLane:
    name, waiting, active, limit, turn, start = row
    queue, limit_name, value = map(to_text, name.split(b"\n", 2))
    concurrency, rate = unpack_limit(limit)
    next_turn = int(turn)
    return StoredLane(
        queue=queue,
        limit=limit_name,
        value=value,
        waiting=waiting,
        active=active,
        concurrency=concurrency,
        rate=rate,
        next_turn=None if next_turn < 0 else moment(next_turn),
        blocked="concurrency" if next_turn < 0 else "rate" if int(start) >= next_turn > now else None,
    )
