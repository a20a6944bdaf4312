"""The second half of a step: reserve what is due, and say when there will be more."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

from flowli_core.driver import MAX_BATCH_BYTES, Reserved, Step
from flowli_core.drivers._times import milliseconds
from flowli_core.drivers.sqlite import _statements as sql
from flowli_core.drivers.sqlite._transaction import Transaction


class Due(NamedTuple):
    """A record to be reserved."""

    number: int
    due: int
    id: str
    name: str
    queue: str
    suspect: int
    recoveries: int
    progress: bytes | None
    input: bytes
    meta: bytes | None
    policy: bytes


def reserve(transaction: Transaction, step: Step) -> tuple[list[Due], int | None]:
    """Reserve up to `want` records under a new token; without any there is no token."""
    found = list(_found(transaction, step))
    if not found:
        return [], None
    token: int = transaction.run(sql.NEXT_TOKEN).fetchone()[0]
    lease_end = transaction.now + milliseconds(step.lease)
    numbers = json.dumps([due.number for due in found])
    transaction.run(sql.RESERVE, (token, lease_end, step.worker, transaction.now, numbers))
    return found, token


def reserve_again(transaction: Transaction, step: Step, token: int) -> list[Due]:
    """Answer what is left of the batch of a step that was sent before, its leases renewed."""
    held = [Due._make(row) for row in transaction.run(sql.FIND_HELD, (token,))]
    if held:
        transaction.run(sql.RENEW_BATCH, (transaction.now + milliseconds(step.lease), token))
    turn = {queue: index for index, queue in enumerate(step.queues)}
    return sorted(held, key=lambda due: (turn.get(due.queue, len(turn)), due.due, due.id))


def answer(batch: Iterable[Due], token: int) -> tuple[Reserved, ...]:
    """Answer the worker that holds the batch."""
    return tuple(
        [
            Reserved(
                id=due.id,
                token=token,
                name=due.name,
                queue=due.queue,
                input=due.input,
                meta=due.meta,
                policy=due.policy,
                progress=due.progress,
                recoveries=due.recoveries,
                suspect=bool(due.suspect),
            )
            for due in batch
        ]
    )


def _found(transaction: Transaction, step: Step) -> Iterator[Due]:
    """Each record to be reserved. They are read one by one: `want` of the longest inputs would not fit into memory."""
    left, size = step.want, 0
    suspects = step.suspect
    for queue in dict.fromkeys(step.queues) if left > 0 else ():
        suspect = transaction.run(sql.FIND_DUE, (queue, True, transaction.now, 1)).fetchall() if suspects else []
        with closing(transaction.run(sql.FIND_DUE, (queue, False, transaction.now, left))) as ordinary:
            for columns in heapq.merge(suspect, ordinary, key=_place) if suspect else ordinary:
                due = Due._make(columns)
                size += len(due.input)
                if left <= 0 or (left < step.want and size > MAX_BATCH_BYTES):
                    return
                left -= 1
                suspects = suspects and not due.suspect
                yield due


def _place(columns: Sequence[object]) -> tuple[object, object]:
    return columns[1], columns[2]
