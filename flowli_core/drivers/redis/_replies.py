"""What the scripts reply, as the values of the contract. What records of one kind share is learnt once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flowli_core.driver import AckAnswer, Enqueued, NewRecord, Recovered, Reserved, StepAnswer
from flowli_core.drivers._times import duration, milliseconds, moment, stamp
from flowli_core.drivers.redis._packing import (
    DIGEST,
    Shape,
    shape_of,
    unpack_payload,
    unpack_shape,
    unpack_stored,
)
from flowli_core.stored import Overview, QueueCounts, State, StateCounts, StoredRecord

if TYPE_CHECKING:
    from flowli_core.drivers.redis._clients import Client

_ACKS: dict[str, AckAnswer] = {"o": "ok", "d": "duplicate", "l": "lost"}
_NOTHING: tuple[bytes | None, int] = (None, 0)
"""The progress and the recoveries of a record that nothing has happened to yet."""


class Replies:
    """Reads replies. `column` is the key of the shapes."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._shapes: dict[bytes, Shape] = {}

    def to_enqueue(self, records: Sequence[NewRecord], now: int, refusals: list[Any]) -> list[Enqueued]:
        """Answer for each record in its place: the reply tells of those that were not accepted."""
        answers = [self._accepted(record, now) for record in records]
        for place, disposition, record_id, state, due, progress in refusals:
            answers[place - 1] = Enqueued(
                disposition=disposition.decode(),
                id=record_id.decode(),
                state=state.decode(),
                scheduled_for=moment(int(due)),
                progress=progress,
            )
        return answers

    async def to_step(self, client: Client, reply: Any) -> StepAnswer:
        """Read what step.lua replies."""
        now, acks, ids, blobs, histories, token, recovered, next_due, next_tick, forgot = reply
        await self._learn(client, {blob[:DIGEST] for blob in blobs}.union([row[1] for row in recovered]))
        return StepAnswer(
            now=moment(now),
            acks=tuple([_ACKS[letter] for letter in acks.decode()]),
            reserved=self._reserved(ids, blobs, histories, token=int(token)),
            recovered=tuple([self._recovered(row) for row in recovered]),
            next_due=None if next_due < 0 else moment(next_due) - moment(0),
            next_tick=None if next_tick < 0 else duration(next_tick),
            forgot=bool(forgot),
        )

    async def records(self, client: Client, rows: list[Any]) -> list[StoredRecord]:
        """Read what read_records.lua replies."""
        await self._learn(client, {row[1][:DIGEST] for row in rows})
        return [unpack_stored(row, self._shapes.__getitem__) for row in rows]

    def _accepted(self, record: NewRecord, now: int) -> Enqueued:
        given = record.due
        due = max(stamp(given), now) if isinstance(given, datetime) else now + milliseconds(given)
        digest, text = shape_of(record)
        if digest not in self._shapes:
            self._shapes[digest] = unpack_shape(text)
        state: State = "scheduled" if due > now else "queued"
        return Enqueued(disposition="accepted", id=record.id, state=state, scheduled_for=moment(due))

    def _reserved(
        self, ids: list[bytes], blobs: list[bytes], histories: list[Any], *, token: int
    ) -> tuple[Reserved, ...]:
        before = {place - 1: (progress, recoveries) for place, progress, recoveries in histories}
        made: list[Reserved] = []
        for place, (record_id, raw) in enumerate(zip(ids, blobs, strict=True)):
            shape = self._shapes[raw[:DIGEST]]
            meta, given = unpack_payload(raw)
            progress, recoveries = before.get(place, _NOTHING)
            made.append(
                Reserved(
                    id=record_id.decode(),
                    token=token,
                    name=shape.name,
                    queue=shape.queue,
                    input=given,
                    meta=meta,
                    policy=shape.policy,
                    progress=progress,
                    recoveries=recoveries,
                    suspect=recoveries >= shape.max_recoveries,
                )
            )
        return tuple(made)

    def _recovered(self, row: Any) -> Recovered:
        record_id, digest, recoveries, state = row
        shape = self._shapes[digest]
        return Recovered(
            id=record_id.decode(), name=shape.name, queue=shape.queue, recoveries=recoveries, state=state.decode()
        )

    async def _learn(self, client: Client, digests: set[bytes]) -> None:
        """Read the shapes that other processes have made."""
        unknown = sorted(digests - self._shapes.keys())
        if unknown:
            texts = await client.execute("HMGET", self._column, *unknown)
            self._shapes.update({digest: unpack_shape(text) for digest, text in zip(unknown, texts, strict=True)})


def to_overview(reply: Any) -> Overview:
    """Read what overview.lua replies."""
    now, queues, counts, workers = reply
    found: dict[str, dict[str, int]] = {}
    oldest: dict[str, datetime] = {}
    for name, queued, scheduled, due in queues:
        found[name.decode()] = {"queued": queued, "scheduled": scheduled}
        if due >= 0:
            oldest[name.decode()] = moment(due)
    for field, number in _pairs(counts):
        state, _, queue = field.decode().partition(" ")
        found.setdefault(queue, {})[state] = int(number)
    return Overview(
        now=moment(now),
        counts=QueueCounts.of(
            {queue: StateCounts(**states) for queue, states in found.items() if any(states.values())}
        ),
        oldest=oldest,
        workers={name.decode(): moment(int(at)) for name, at in _pairs(workers)},
    )


def _pairs(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)
