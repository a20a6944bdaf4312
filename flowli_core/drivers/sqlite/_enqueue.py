"""Enqueue: store the records whose id is new and whose key is free."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flowli_core.drivers._times import due_at, expiry_at, milliseconds, moment
from flowli_core.drivers.sqlite._damage import CUT, Status
from flowli_core.drivers.sqlite._records import state_of
from flowli_core.drivers.sqlite._transaction import Transaction
from flowli_core.new_records import Enqueued, NewRecord


def enqueue(transaction: Transaction, records: Sequence[NewRecord]) -> list[Enqueued]:
    """Store the records, all or none. The answers are in the order of the records."""
    now = transaction.now
    stored = _find_taken(transaction, records) | _find_stored(transaction, records)
    holders = _find_holders(transaction, records)
    number: int = transaction.run("find_last_number").fetchone()[0]
    rows: list[dict[str, Any]] = []
    answers: list[Enqueued] = []
    for new in records:
        if new.id in stored:
            answers.append(replace(stored[new.id], disposition="duplicate"))
        elif new.key is not None and new.key in holders:
            answers.append(replace(holders[new.key], disposition="existing"))
        else:
            number += 1
            due = due_at(new.due, now)
            rows.append(_row(new, number, due, now))
            answers.append(_answer(now, new.id, "waiting", due, None))
            # The rest of the batch must see it.
            stored[new.id] = answers[-1]
            if new.key is not None:
                holders[new.key] = answers[-1]
            transaction.changed.add(new.queue)
            transaction.count(new.name, new.queue, "enqueued")
    transaction.run_many("add_record", rows)
    transaction.run_many("add_payload", rows)
    return answers


def _find_stored(transaction: Transaction, records: Sequence[NewRecord]) -> dict[str, Enqueued]:
    ids = json.dumps([new.id for new in records])
    found = transaction.run("find_ids", ids=ids, cut=CUT).fetchall()
    return {columns[0]: _answer(transaction.now, *columns) for columns in found}


def _find_taken(transaction: Transaction, records: Sequence[NewRecord]) -> dict[str, Enqueued]:
    now, ids = transaction.now, [new.id for new in records if new.keep_id]
    found = transaction.run("find_taken_ids", ids=json.dumps(ids), now=now).fetchall() if ids else []
    return {record_id: _answer(now, record_id, state, now, None) for record_id, state in found}


def _find_holders(transaction: Transaction, records: Sequence[NewRecord]) -> dict[str, Enqueued]:
    keys = [new.key for new in records if new.key is not None]
    found = transaction.run("find_key_holders", keys=json.dumps(keys), cut=CUT).fetchall() if keys else []
    return {key: _answer(transaction.now, *columns) for key, *columns in found}


def _row(new: NewRecord, number: int, due: int, now: int) -> dict[str, Any]:
    """Return the parameters of add_record and add_payload."""
    return {
        "number": number,
        "id": new.id,
        "name": new.name,
        "queue": new.queue,
        "key": new.key,
        "due": due,
        "cancel_at": expiry_at(new.expires, due) or 0,
        "max_recoveries": new.max_recoveries,
        "keep_completed": milliseconds(new.keep_completed),
        "keep_failed": milliseconds(new.keep_failed),
        "keep_id": milliseconds(new.keep_id),
        "now": now,
        "input": new.input,
        "meta": new.meta,
        "policy": new.policy,
    }


def _answer(now: int, record_id: str, status: Status, due: int, attempts: bytes | None) -> Enqueued:
    return Enqueued(
        id=record_id,
        disposition="accepted",
        state=state_of(status, due, now),
        scheduled_for=moment(due),
        attempts=attempts,
    )
