"""The first half of a step: settle what was run, recover what was given up, remove what was kept for long enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, assert_never

from flowli_core.driver import (
    RECOVER_PER_STEP,
    TRIM_PER_STEP,
    Ack,
    AckAnswer,
    Cancelled,
    Completed,
    Failed,
    Keep,
    Recovered,
    Released,
    Retried,
)
from flowli_core.drivers._times import milliseconds, stamp
from flowli_core.drivers.sqlite import _statements as sql
from flowli_core.drivers.sqlite._rows import Carried, Move, Row, find, finish, move, put_back
from flowli_core.drivers.sqlite._transaction import Transaction
from flowli_core.stored import FINISHED


def settle(transaction: Transaction, acks: Sequence[Ack]) -> tuple[AckAnswer, ...]:
    """Do what the acks ask for whose token is current, and answer for each in its place."""
    if not acks:
        return ()
    rows = find(transaction, [ack.id for ack in acks])
    moves: list[Move] = []
    answers: list[AckAnswer] = []
    for ack in acks:
        row = rows.get(ack.id)
        if row is None:
            answers.append("lost")
        elif row.token != ack.token:
            answers.append("duplicate" if row.settled == ack.token else "lost")
        else:
            moves.append(settled := _settled(row, ack, transaction.now))
            if settled.status == "waiting":
                transaction.stirred.add(row.queue)
            answers.append("ok")
            # The next ack of the batch may be for the same record.
            rows[ack.id] = row._replace(token=None, settled=ack.token)
    move(transaction, moves)
    return tuple(answers)


def _settled(row: Row, ack: Ack, now: int) -> Move:
    carried = Carried(settled=ack.token, started_at=None if ack.started_at is None else stamp(ack.started_at))
    match ack.outcome:
        case Completed(result):
            return finish(row, "completed", now, carried._replace(result=result))
        case Retried(delay, progress):
            return put_back(row, now + milliseconds(delay), now, carried._replace(progress=progress, failed_at=now))
        case Failed(progress):
            return finish(row, "failed", now, carried._replace(progress=progress, failed_at=now))
        case Released(delay, progress):
            # Where no delay is asked for, it goes back to where it was: not behind what was enqueued later.
            due = now + milliseconds(delay) if delay else min(row.due, now)
            return put_back(row, due, now, carried._replace(progress=progress))
        case Cancelled():
            return finish(row, "cancelled", now, carried)
        case _ as never:
            assert_never(never)


def recover(transaction: Transaction) -> tuple[Recovered, ...]:
    """Take records away from workers that are not heard of any more: to be run again, but not for ever."""
    now = transaction.now
    moves: list[Move] = []
    recovered: list[Recovered] = []
    for columns in transaction.run(sql.FIND_EXPIRED, (now, RECOVER_PER_STEP)):
        row = Row._make(columns)
        row = row._replace(recoveries=row.recoveries + 1)
        state: Literal["queued", "failed", "cancelled"] = "cancelled" if row.cancel_requested else "queued"
        if row.recoveries > row.max_recoveries and not row.cancel_requested:
            state = "failed"
            moves.append(finish(row, "failed", now))
        else:
            moves.append(put_back(row, min(row.due, now), now))
            transaction.stirred.add(row.queue)
        recovered.append(
            Recovered(
                id=row.id,
                name=row.name,
                queue=row.queue,
                recoveries=row.recoveries,
                state=state,
            )
        )
    move(transaction, moves)
    return tuple(recovered)


def trim(transaction: Transaction, keep: Keep) -> None:
    """Remove finished records: those that were kept for their time, then the oldest of those that are too many."""
    budget = TRIM_PER_STEP
    budget -= transaction.run(sql.TRIM_EXPIRED, (transaction.now, budget)).rowcount
    kept: dict[str, int] = dict(transaction.run(sql.COUNT_FINISHED))
    for state in FINISHED:
        most: int = getattr(keep, state)
        excess = min(kept.get(state, 0) - most, budget)
        if excess > 0:
            budget -= transaction.run(sql.TRIM_OLDEST, (state, excess)).rowcount
