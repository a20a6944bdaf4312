"""Enqueue: store the records whose id is new and whose key is free, or whose holder gives way."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flowli_core.drivers._times import due_at, expiry_at, milliseconds, moment
from flowli_core.drivers.sqlite._damage import CUT, DamagedRowError, Status
from flowli_core.drivers.sqlite._lanes import join, leave, pack, put_limits, refresh
from flowli_core.drivers.sqlite._records import state_of
from flowli_core.drivers.sqlite._transaction import Transaction
from flowli_core.new_records import Enqueued, NewRecord


@dataclass(slots=True)
class _Holder:
    """The record that holds a key, with its answer to an enqueue."""

    answer: Enqueued
    number: int
    created_at: int
    behind: int | None
    status: Status


def enqueue(transaction: Transaction, records: Sequence[NewRecord]) -> list[Enqueued]:
    """Store the records, all or none. The answers are in the order of the records."""
    now = transaction.now
    stored = _find_taken(transaction, records) | _find_stored(transaction, records)
    holders = _find_holders(transaction, records)
    number: int = transaction.run("find_last_number").fetchone()[0]
    rows: dict[str, dict[str, Any]] = {}
    replaced: list[dict[str, int]] = []
    limits = [new.lane for new in records if new.lane is not None]
    answers: list[Enqueued] = []
    for new in records:
        holder = None if new.key is None else holders.get(new.key)
        if new.id in stored:
            answers.append(replace(stored[new.id], disposition="duplicate"))
        elif holder is not None and (new.on_conflict == "keep" or holder.status == "completed"):
            answers.append(replace(holder.answer, disposition="existing"))
        else:
            number += 1
            row = _row(new, number, holder, now)
            record_id: str = row["id"]
            answer = _answer(now, record_id, "waiting", row["due"], None)
            if holder is None or holder.status == "active":
                answers.append(answer)
                transaction.count(new.name, new.queue, "enqueued")
            else:
                answers.append(replace(answer, disposition="replaced"))
                if record_id not in rows:
                    replaced.append({"number": holder.number})
            # The rest of the batch must see it.
            rows[record_id], stored[record_id] = row, answer
            if new.key is not None:
                holders[new.key] = _Holder(answer, number, row["created_at"], row["behind"], "waiting")
            transaction.changed.add(new.queue)
    lanes = _leave_lanes(transaction, replaced)
    _add(transaction, list(rows.values()))
    if limits:
        put_limits(transaction, limits)
        lanes |= _join_lanes(transaction, rows.values())
    for lane in lanes:
        refresh(transaction, lane)
    return answers


def _add(transaction: Transaction, rows: list[dict[str, Any]]) -> None:
    """Store records. Most have no options, and a statement without these is faster."""
    with_options = [row for row in rows if row["has_options"]]
    transaction.run_many("add_record", [row for row in rows if not row["has_options"]] if with_options else rows)
    transaction.run_many("add_record_with_options", with_options)
    transaction.run_many("add_payload", rows)


def _leave_lanes(transaction: Transaction, replaced: Sequence[dict[str, int]]) -> set[str]:
    """Remove records that are replaced. Return the lanes in which they waited."""
    lanes: set[str] = set()
    for old in replaced:
        lane, queue, behind = transaction.run("remove_replaced", **old).fetchone()
        if lane is not None and behind is None:
            leave(transaction, lane, queue)
            lanes.add(lane)
    return lanes


def _join_lanes(transaction: Transaction, rows: Iterable[dict[str, Any]]) -> set[str]:
    """Count the records that wait in lanes now. Return these lanes."""
    joined = Counter([(row["lane"], row["queue"]) for row in rows if row["lane"] and row["behind"] is None])
    for (lane, queue), number in joined.items():
        join(transaction, lane, queue, number)
    return {lane for lane, _ in joined}


def _find_stored(transaction: Transaction, records: Sequence[NewRecord]) -> dict[str, Enqueued]:
    ids = json.dumps([new.id for new in records])
    found = transaction.run("find_ids", ids=ids, cut=CUT).fetchall()
    return {columns[0]: _answer(transaction.now, *columns) for columns in found}


def _find_taken(transaction: Transaction, records: Sequence[NewRecord]) -> dict[str, Enqueued]:
    now, ids = transaction.now, [new.id for new in records if new.keep_id]
    found = transaction.run("find_taken_ids", ids=json.dumps(ids), now=now).fetchall() if ids else []
    return {record_id: _answer(now, record_id, state, now, None) for record_id, state in found}


def _find_holders(transaction: Transaction, records: Sequence[NewRecord]) -> dict[str, _Holder]:
    keys = json.dumps([new.key for new in records if new.key is not None])
    if keys == "[]":
        return {}
    now = transaction.now
    found = transaction.run("find_kept_keys", keys=keys, now=now, cut=CUT).fetchall()
    found += transaction.run("find_key_holders", keys=keys, cut=CUT).fetchall()
    holders: dict[str, _Holder] = {}
    for key, number, created_at, behind, record_id, status, due, attempts in found:
        if type(record_id) is not str:
            raise DamagedRowError
        answer = _answer(now, record_id, status, due, attempts)
        holders[key] = _Holder(answer, number, created_at, behind, status)
    return holders


def _row(new: NewRecord, number: int, holder: _Holder | None, now: int) -> dict[str, Any]:
    """Return the parameters of add_record and add_payload.

    The record takes the place of the holder of its key if that waits, and is behind it if that is active.
    """
    record_id, created_at, behind = new.id, now, None
    if holder is not None and holder.status == "active":
        behind = holder.number
    elif holder is not None:
        record_id, created_at, behind = holder.answer.id, holder.created_at, holder.behind
    due = due_at(new.due, now)
    if new.max_wait is not None:
        due = max(min(due, created_at + milliseconds(new.max_wait)), now)
    has_options = holder is not None or new.lane is not None or bool(new.unique_for)
    return {
        "has_options": has_options,
        "number": number,
        "id": record_id,
        "name": new.name,
        "queue": new.queue,
        "key": new.key,
        "behind": behind,
        "lane": None if new.lane is None else pack(new.lane),
        "unique_until": created_at + milliseconds(new.unique_for) if new.unique_for else 0,
        "due": due,
        "cancel_at": expiry_at(new.expires, due) or 0,
        "max_recoveries": new.max_recoveries,
        "keep_completed": milliseconds(new.keep_completed),
        "keep_failed": milliseconds(new.keep_failed),
        "keep_id": milliseconds(new.keep_id),
        "created_at": created_at,
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
