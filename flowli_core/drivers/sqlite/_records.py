"""Records in a transition: reading them, changing their state, and writing them back."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from flowli_core.driver import HeartbeatAnswer, Lease
from flowli_core.drivers._paused import too_many_paused
from flowli_core.drivers._times import milliseconds
from flowli_core.drivers.sqlite._damage import DamagedRowError, Status, is_damaged
from flowli_core.drivers.sqlite._lanes import join, leave, refresh
from flowli_core.drivers.sqlite._transaction import Transaction
from flowli_core.limits import MOST_PAUSED, MOST_TAKEN_BACK
from flowli_core.stored import FINISHED, FinishedState, State
from flowli_core.targets import CancelAnswer, RequeueAnswer, Target


@dataclass(slots=True)
class Row:
    """A record in a transition. The fields up to `worker` are the columns of the statement find_records."""

    number: int
    id: str
    name: str
    queue: str
    key: str | None
    behind: int | None
    lane: str | None
    unique_until: int
    status: Status
    due: int
    token: int | None
    settled: int | None
    cancel_at: int
    recoveries: int
    max_recoveries: int
    keep_completed: int
    keep_failed: int
    attempts: bytes | None
    started_at: int | None
    failed_at: int | None
    worker: str | None
    result: bytes | None = None
    finished_at: int | None = None
    forget_at: int | None = None
    was_behind: bool = False
    was_in_lane: bool = False

    def is_in_lane(self) -> bool:
        """Return True if it waits in a lane."""
        return self.lane is not None and self.status == "waiting" and self.behind is None

    def make_waiting(self, due: int, now: int) -> None:
        """Put it into its queue; or cancel it if that was requested while it was active."""
        self.token = None
        if self.cancel_at:
            self.finish("cancelled", now)
        else:
            self.status, self.due = "waiting", due

    def finish(self, state: FinishedState, now: int) -> None:
        """Finish it."""
        keep = self.keep_completed if state == "completed" else self.keep_failed
        self.status, self.token, self.finished_at, self.forget_at = state, None, now, now + keep
        self.behind = None


def state_of(status: Status, due: int, now: int) -> State:
    """Return the state that a reader sees."""
    if status == "waiting":
        return "queued" if due <= now else "scheduled"
    return status


def find(transaction: Transaction, ids: Sequence[str]) -> dict[str, Row]:
    """Return those of the records that are stored."""
    found = transaction.run("find_records", ids=json.dumps(ids))
    return {row.id: row for row in [read_row(columns) for columns in found]}


def read_row(columns: Sequence[Any]) -> Row:
    """Return a record of the columns of find_records. Raises DamagedRowError."""
    row = Row(*columns)
    if not type(row.id) is type(row.name) is type(row.queue) is str:
        raise DamagedRowError
    if row.lane is not None:
        if type(row.lane) is not str:
            raise DamagedRowError
        row.was_in_lane = row.is_in_lane()
    row.was_behind = row.behind is not None
    return row


def write(transaction: Transaction, rows: Iterable[Row]) -> None:
    """Write records that wait or are finished now."""
    written = list(rows)
    transaction.changed.update([row.queue for row in written if row.status == "waiting"])
    for row in written:
        if row.was_behind and row.behind is None:
            times = {"finished_at": row.finished_at, "forget_at": row.forget_at}
            transaction.run("finish_behind", number=row.number, state=row.status, **times)
    transaction.run_many(
        "write_record",
        [
            {
                "number": row.number,
                "state": row.status,
                "due": row.due,
                "settled": row.settled,
                "recoveries": row.recoveries,
                "attempts": row.attempts,
                "result": row.result,
                "started_at": row.started_at,
                "failed_at": row.failed_at,
                "finished_at": row.finished_at,
                "forget_at": row.forget_at,
                "now": transaction.now,
            }
            for row in written
        ],
    )
    lanes = _move_in_lanes(transaction, [row for row in written if row.lane is not None])
    lanes |= _release_keys(transaction, [row for row in written if row.key is not None and row.status in FINISHED])
    for lane in lanes:
        refresh(transaction, lane)


def _move_in_lanes(transaction: Transaction, written: Sequence[Row]) -> set[str]:
    """Count the records that have joined or left their lanes. Return the lanes in which a place may be free."""
    lanes: set[str] = set()
    for row in written:
        lane = row.lane or ""
        if row.is_in_lane() and not row.was_in_lane:
            join(transaction, lane, row.queue)
        elif row.was_in_lane and not row.is_in_lane():
            leave(transaction, lane, row.queue)
        lanes.add(lane)
    return lanes


def _release_keys(transaction: Transaction, finished: Sequence[Row]) -> set[str]:
    """Admit the records behind finished ones, and keep the keys of completed ones. Return the lanes of the admitted."""
    if not finished:
        return set()
    admitted = transaction.run("admit", numbers=json.dumps([row.number for row in finished])).fetchall()
    transaction.changed.update([queue for queue, _, _ in admitted])
    passed_on = {key for _, key, _ in admitted}
    for row in finished:
        if row.status == "completed" and row.unique_until > transaction.now and row.key not in passed_on:
            transaction.run("keep_key", key=row.key, id=row.id, until=row.unique_until)
    lanes: set[str] = set()
    for queue, _, lane in admitted:
        if lane is not None:
            join(transaction, lane, queue)
            lanes.add(lane)
    return lanes


def heartbeat(transaction: Transaction, worker: str, leases: Sequence[Lease], lease: timedelta) -> HeartbeatAnswer:
    """Extend the leases that the worker holds, also one that has ended but was not recovered yet."""
    pairs = json.dumps([(held.id, held.token) for held in leases])
    lease_end = transaction.now + milliseconds(lease)
    rows = transaction.run("renew_leases", lease_end=lease_end, worker=worker, leases=pairs).fetchall()
    if rows:
        transaction.run("note_seen", now=transaction.now, worker=worker)
    current: set[tuple[str, int]] = {(record_id, token) for record_id, token, _ in rows}
    lost = [held for held in leases if (held.id, held.token) not in current]
    for held in lost:
        take_back_recovery(transaction, held.id, held.token)
    cancelled = frozenset([record_id for record_id, _, cancel in rows if cancel])
    return HeartbeatAnswer(frozenset([held.id for held in lost]), cancelled)


def take_back_recovery(transaction: Transaction, record_id: str, token: int) -> None:
    """Take back the last recovery of a record if it was under this token: its worker has reported, so it is alive.

    A record that has finished stays as it is.
    """
    found = transaction.run("take_back_recovery", id=record_id, token=token, most=MOST_TAKEN_BACK).fetchone()
    if found is not None and found[1] == "waiting":
        queue, _, lane = found
        if lane is not None:
            refresh(transaction, lane)
        transaction.note_due(queue)  # it may be no suspect any more


def cancel(transaction: Transaction, target: Target) -> CancelAnswer:
    """Cancel a waiting record now, or request that of an active one."""
    row = find(transaction, [target.id]).get(target.id)
    if row is None:
        set_aside = _find_set_aside(transaction, target.id)
        if set_aside is None:
            return "unknown"
        return "finished" if target.state in {None, set_aside.state} else "changed"
    if target.state not in {None, state_of(row.status, row.due, transaction.now)}:
        return "changed"
    if row.status == "waiting":
        row.finish("cancelled", transaction.now)
        transaction.count(row.name, row.queue, "cancelled")
        write(transaction, [row])
        return "cancelled"
    if row.status == "active":
        transaction.run("request_cancel", number=row.number)
        return "requested"
    return "finished"


def requeue(transaction: Transaction, target: Target) -> RequeueAnswer:
    """Return a finished or scheduled record to its queue, due now, with no recoveries."""
    set_aside = _find_set_aside(transaction, target.id)
    if set_aside is not None:
        if is_damaged(transaction.connection, set_aside.number):
            return "damaged"
        transaction.run("note_damage", number=set_aside.number, damage=None)
    row = find(transaction, [target.id]).get(target.id)
    if row is None:
        return "unknown"
    state = state_of(row.status, row.due, transaction.now)
    if target.state not in {None, state}:
        return "changed"
    if state in {"queued", "active"}:
        return "unfinished"
    if row.key is not None and row.status in FINISHED:
        held = transaction.run("is_key_held", key=row.key, number=row.number, id=row.id, now=transaction.now)
        if held.fetchone() is not None:
            return "key_taken"
        transaction.run("forget_key", key=row.key)
    row.recoveries, row.cancel_at, row.attempts = 0, 0, target.attempts
    transaction.run("forget_recoveries", number=row.number)
    row.make_waiting(transaction.now, transaction.now)
    write(transaction, [row])
    transaction.run("forget_progress", number=row.number)
    return "requeued"


class _SetAside(NamedTuple):
    number: int
    state: str


def _find_set_aside(transaction: Transaction, record_id: str) -> _SetAside | None:
    row = transaction.run("find_one_set_aside", id=record_id).fetchone()
    return None if row is None else _SetAside(*row)


def purge(
    transaction: Transaction, *, state: FinishedState, older_than: timedelta, limit: int, ids: Sequence[str] | None
) -> int:
    """Remove up to `limit` records that finished in this state more than `older_than` ago, the oldest first."""
    parameters = {"state": state, "before": transaction.now - milliseconds(older_than), "limit": max(limit, 0)}
    if ids is None:
        return transaction.run("purge", **parameters).rowcount
    return transaction.run("purge_ids", **parameters, ids=json.dumps(ids)).rowcount


def pause_queue(transaction: Transaction, queue: str) -> bool:
    """Pause a queue. Return False if it was paused already."""
    transaction.run("drop_damaged_pauses")
    if transaction.run("pause_queue", queue=queue, now=transaction.now).rowcount == 0:
        return False
    if transaction.run("count_paused").fetchone()[0] > MOST_PAUSED:
        raise too_many_paused()
    return True


def resume_queue(transaction: Transaction, queue: str) -> bool:
    """Resume a queue. Return False if it was not paused. The thread that polls for commits wakes a waiter."""
    transaction.run("drop_damaged_pauses")
    return transaction.run("resume_queue", queue=queue).rowcount > 0
