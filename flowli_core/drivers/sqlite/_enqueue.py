"""Enqueue: store records whose id is new and whose key is free."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal, NamedTuple

from flowli_core.driver import Enqueued, NewRecord
from flowli_core.drivers._times import due_at, milliseconds, moment
from flowli_core.drivers.sqlite import _statements as sql
from flowli_core.drivers.sqlite._rows import Status, state_of
from flowli_core.drivers.sqlite._transaction import Transaction
from flowli_core.stored import State


class _Known(NamedTuple):
    """A record that is stored, as far as an answer to an enqueue tells of it."""

    id: str
    status: Status
    due: int
    progress: bytes | None


def enqueue(transaction: Transaction, records: Sequence[NewRecord]) -> list[Enqueued]:
    """Store the records, all or none, and answer for each in its place."""
    now = transaction.now
    known = _find_known(transaction, records)
    holders = _find_holders(transaction, records)
    number: int = transaction.run(sql.LAST_NUMBER).fetchone()[0]
    rows: list[tuple[object, ...]] = []
    payloads: list[tuple[object, ...]] = []
    answers: list[Enqueued] = []
    for new in records:
        if new.id in known:
            answers.append(_answer(known[new.id], "duplicate", now))
            continue
        if new.key is not None and new.key in holders:
            answers.append(_answer(holders[new.key], "existing", now))
            continue
        due = due_at(new.due, now)
        number += 1
        rows.append(_row(new, number, due, now))
        payloads.append((number, new.input, new.meta, new.policy))
        # The rest of the batch must see it.
        stored = known[new.id] = _Known(new.id, "waiting", due, None)
        if new.key is not None:
            holders[new.key] = stored
        transaction.stirred.add(new.queue)
        answers.append(_answer(stored, "accepted", now))
    if rows:
        transaction.run_many(sql.ADD_RECORD, rows)
        transaction.run_many(sql.ADD_PAYLOAD, payloads)
    return answers


def _find_known(transaction: Transaction, records: Sequence[NewRecord]) -> dict[str, _Known]:
    ids = json.dumps([new.id for new in records])
    return {row[0]: _Known._make(row) for row in transaction.run(sql.FIND_ENQUEUED, (ids,))}


def _find_holders(transaction: Transaction, records: Sequence[NewRecord]) -> dict[str, _Known]:
    keys = [new.key for new in records if new.key is not None]
    if not keys:
        return {}
    return {row[0]: _Known._make(row[1:]) for row in transaction.run(sql.FIND_KEY_HOLDERS, (json.dumps(keys),))}


def _row(new: NewRecord, number: int, due: int, now: int) -> tuple[object, ...]:
    keep_completed, keep_failed = milliseconds(new.keep_completed), milliseconds(new.keep_failed)
    return number, new.id, new.name, new.queue, new.key, due, new.max_recoveries, keep_completed, keep_failed, now


def _answer(stored: _Known, disposition: Literal["accepted", "duplicate", "existing"], now: int) -> Enqueued:
    state: State = state_of(stored.status, stored.due, now)
    return Enqueued(
        id=stored.id,
        disposition=disposition,
        state=state,
        scheduled_for=moment(stored.due),
        progress=stored.progress,
    )
