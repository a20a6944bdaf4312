"""What is done to single records, and to leases, outside of a step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta

from flowli_core.driver import CancelAnswer, HeartbeatAnswer, Lease, RequeueAnswer
from flowli_core.drivers._times import milliseconds
from flowli_core.drivers.sqlite import _statements as sql
from flowli_core.drivers.sqlite._rows import find, finish, move, state_of
from flowli_core.drivers.sqlite._transaction import Transaction
from flowli_core.stored import FinishedState


def heartbeat(transaction: Transaction, worker: str, leases: Sequence[Lease], lease: timedelta) -> HeartbeatAnswer:
    """Extend the leases whose token is current: also one that has ended, where nobody has recovered it yet."""
    pairs = json.dumps([(held.id, held.token) for held in leases])
    rows = transaction.run(sql.RENEW_LEASES, (transaction.now + milliseconds(lease), pairs)).fetchall()
    if rows:
        transaction.run(sql.NOTE_SEEN, (transaction.now, worker))
    current: set[tuple[str, int]] = {(record_id, token) for record_id, token, _ in rows}
    lost = frozenset(held.id for held in leases if (held.id, held.token) not in current)
    return HeartbeatAnswer(lost, frozenset(record_id for record_id, _, cancel in rows if cancel))


def cancel(transaction: Transaction, record_id: str) -> CancelAnswer:
    """Cancel a waiting record at once; ask for an active one."""
    row = find(transaction, [record_id]).get(record_id)
    if row is None:
        return "unknown"
    if row.status == "waiting":
        move(transaction, [finish(row, "cancelled", transaction.now)])
        return "cancelled"
    if row.status == "active":
        transaction.run(sql.REQUEST_CANCEL, (row.number,))
        return "requested"
    return "finished"


def requeue(transaction: Transaction, record_id: str, progress: bytes | None) -> RequeueAnswer:
    """Make a finished or scheduled record due now, as if no worker had ever been lost with it."""
    row = find(transaction, [record_id]).get(record_id)
    if row is None:
        return "unknown"
    if state_of(row.status, row.due, transaction.now) in {"queued", "active"}:
        return "unfinished"
    if row.key is not None and transaction.run(sql.IS_KEY_HELD, (row.key, row.number)).fetchone() is not None:
        return "key_taken"
    transaction.run(sql.REQUEUE, (transaction.now, progress, row.number))
    transaction.stirred.add(row.queue)
    return "requeued"


def purge(transaction: Transaction, state: FinishedState, *, older_than: timedelta, limit: int) -> int:
    """Remove up to `limit` records that finished in this state more than `older_than` ago, the oldest first."""
    before = transaction.now - milliseconds(older_than)
    return transaction.run(sql.PURGE, (state, before, max(limit, 0))).rowcount
