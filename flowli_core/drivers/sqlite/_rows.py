"""A record on its way from one state to another: what a transition reads of it, and what it writes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from flowli_core.drivers.sqlite import _statements as sql
from flowli_core.drivers.sqlite._transaction import Transaction
from flowli_core.stored import FinishedState, State

Status = Literal["waiting", "active"] | FinishedState
"""A state as the file has it: queued and scheduled differ by the time alone."""


class Row(NamedTuple):
    """What a transition must know of a record."""

    number: int
    id: str
    name: str
    queue: str
    key: str | None
    status: Status
    due: int
    token: int | None
    settled: int | None
    cancel_requested: int
    recoveries: int
    max_recoveries: int
    keep_completed: int
    keep_failed: int


class Move(NamedTuple):
    """What becomes of a record; the parameters of MOVE_RECORD."""

    status: Status
    due: int
    recoveries: int
    settled: int | None
    progress: bytes | None
    result: bytes | None
    failed_at: int | None
    started_at: int | None
    finished_at: int | None
    forget_at: int | None
    updated_at: int
    number: int


class Carried(NamedTuple):
    """What a move brings along; None leaves what the record has."""

    settled: int | None = None
    progress: bytes | None = None
    result: bytes | None = None
    failed_at: int | None = None
    started_at: int | None = None


NOTHING = Carried()


def state_of(status: Status, due: int, now: int) -> State:
    """Answer the state that a reader sees."""
    if status == "waiting":
        return "queued" if due <= now else "scheduled"
    return status


def find(transaction: Transaction, ids: Sequence[str]) -> dict[str, Row]:
    """Answer those of the records that there are."""
    return {row[1]: Row._make(row) for row in transaction.run(sql.FIND_RECORDS, (json.dumps(ids),))}


def move(transaction: Transaction, moves: Iterable[Move]) -> None:
    """Write what has become of the records."""
    transaction.run_many(sql.MOVE_RECORD, moves)


def put_back(row: Row, due: int, now: int, carried: Carried = NOTHING) -> Move:
    """Make a record wait, or cancel it where that was asked for while it was active."""
    if row.cancel_requested:
        return finish(row, "cancelled", now, carried)
    return _move(row, "waiting", due, now, carried)


def finish(row: Row, state: FinishedState, now: int, carried: Carried = NOTHING) -> Move:
    """Make a record stay as it is, for as long as it is kept."""
    keep = row.keep_completed if state == "completed" else row.keep_failed
    return _move(row, state, row.due, now, carried)._replace(finished_at=now, forget_at=now + keep)


def _move(row: Row, status: Status, due: int, now: int, carried: Carried) -> Move:
    return Move(
        status=status,
        due=due,
        recoveries=row.recoveries,
        settled=carried.settled,
        progress=carried.progress,
        result=carried.result,
        failed_at=carried.failed_at,
        started_at=carried.started_at,
        finished_at=None,
        forget_at=None,
        updated_at=now,
        number=row.number,
    )
