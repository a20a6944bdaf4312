"""The stages of a step that finish and remove records: settle, recover, trim."""

from collections.abc import Sequence
from typing import Literal, assert_never

from flowli_core.driver import Ack, AckAnswer, Cancelled, Completed, Failed, Recovered, Released, Retried, Step
from flowli_core.drivers._times import milliseconds, stamp
from flowli_core.drivers.sqlite._records import Row, find, read_row, write
from flowli_core.drivers.sqlite._transaction import Transaction
from flowli_core.history import bucket_of
from flowli_core.limits import MOST_TAKEN_IDS, RECOVER_PER_STEP, TRIM_PER_STEP, Keep
from flowli_core.stored import FINISHED


def settle(transaction: Transaction, acks: Sequence[Ack], worker: str) -> tuple[AckAnswer, ...]:
    """Settle the records that the worker holds. The answers are in the order of the acks."""
    if not acks:
        return ()
    rows = find(transaction, [ack.id for ack in acks])
    settled: dict[str, Row] = {}
    answers: list[AckAnswer] = []
    for ack in acks:
        row = rows.get(ack.id)
        if row is None:
            answers.append("lost")
        elif row.token != ack.token or row.worker != worker:
            answers.append("duplicate" if row.settled == ack.token else "lost")
        else:
            due = row.due
            _settle(row, ack, transaction.now)
            _count(transaction, row, ack, due)
            settled[row.id] = row
            answers.append("ok")
    write(transaction, settled.values())
    return tuple(answers)


def _settle(row: Row, ack: Ack, now: int) -> None:
    row.settled = ack.token
    row.started_at = row.started_at if ack.started_at is None else stamp(ack.started_at)
    match ack.outcome:
        case Completed(result):
            row.result = result
            row.finish("completed", now)
        case Retried(delay, attempts):
            row.attempts, row.failed_at = attempts, now
            row.make_waiting(now + milliseconds(delay), now)
        case Failed(attempts):
            row.attempts, row.failed_at = attempts, now
            row.finish("failed", now)
        case Released(delay, attempts):
            row.attempts = row.attempts if attempts is None else attempts
            row.make_waiting(now + milliseconds(delay) if delay else min(row.due, now), now)
        case Cancelled():
            row.finish("cancelled", now)
        case _ as never:
            assert_never(never)


def _count(transaction: Transaction, row: Row, ack: Ack, due: int) -> None:
    """Count how an attempt ended, with how long its record was due before, and how long its handler ran."""
    if not isinstance(ack.outcome, Released):
        state = "retried" if row.status == "waiting" else row.status
        started = row.started_at or transaction.now
        event = f"{state} {bucket_of(started - due)} {bucket_of(transaction.now - started)}"
        transaction.count(row.name, row.queue, event)
    elif row.status == "cancelled":
        transaction.count(row.name, row.queue, "cancelled")


def recover(transaction: Transaction, step: Step) -> tuple[tuple[Recovered, ...], bool]:
    """Return records whose lease has expired to their queues; those recovered too often fail.

    Return them, and True if this waiting step has left leases of its own worker as they are.
    """
    now = transaction.now
    found = transaction.run("find_expired", now=now, limit=RECOVER_PER_STEP).fetchall()
    expired: list[tuple[bytes | None, Row]] = [(meta, read_row(columns)) for meta, *columns in found]
    rows: list[Row] = []
    recovered: list[Recovered] = []
    for meta, row in expired:
        if step.wait is not None and row.worker == step.worker:
            continue
        rows.append(row)
        if row.worker != step.worker:
            row.recoveries += 1
            transaction.run("note_recovery", number=row.number, token=row.token)
        state: Literal["queued", "failed", "cancelled"] = "cancelled" if row.cancel_at else "queued"
        if row.recoveries > row.max_recoveries and not row.cancel_at:
            state = "failed"
            row.finish("failed", now)
        else:
            row.make_waiting(min(row.due, now), now)
        for event in ("recovered", row.status) if row.status != "waiting" else ("recovered",):
            transaction.count(row.name, row.queue, event)
        recovered.append(
            Recovered(id=row.id, name=row.name, queue=row.queue, meta=meta, recoveries=row.recoveries, state=state)
        )
    write(transaction, rows)
    return tuple(recovered), len(rows) < len(expired)


def trim(transaction: Transaction, keep: Keep) -> None:
    """Remove finished records: first those that were kept for their time, then the oldest of too many."""
    budget = TRIM_PER_STEP
    budget -= transaction.run("trim_expired", now=transaction.now, limit=budget).rowcount
    kept: dict[str, int] = dict(transaction.run("count_finished"))
    for state in FINISHED:
        limit: int = getattr(keep, state)
        excess = min(kept.get(state, 0) - limit, budget)
        if excess > 0:
            budget -= transaction.run("trim_oldest", state=state, keep=limit, limit=excess).rowcount
    transaction.run("forget_ids", now=transaction.now, limit=TRIM_PER_STEP)
    transaction.run("forget_oldest_ids", most=MOST_TAKEN_IDS)
    transaction.run("forget_starts", now=transaction.now, limit=TRIM_PER_STEP)
    transaction.run("forget_keys", now=transaction.now, limit=TRIM_PER_STEP)
    transaction.run("forget_oldest_keys", most=MOST_TAKEN_IDS)
