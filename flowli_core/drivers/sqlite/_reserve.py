"""The stage of a step that reserves records."""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from flowli_core.driver import Reserved, Step
from flowli_core.drivers._times import milliseconds
from flowli_core.drivers.sqlite._damage import CUT, LONGEST, DamagedRowError
from flowli_core.drivers.sqlite._transaction import Transaction
from flowli_core.limits import MAX_BATCH_BYTES

Columns = tuple[Any, ...]
"""The columns of the statements find_due and find_held; the first three are number, due and id."""

_INPUT, _META, _POLICY = 8, 9, 10


def reserve(transaction: Transaction, step: Step) -> tuple[tuple[Reserved, ...], int | None]:
    """Reserve up to `want` records under a new token. Return them and the token, if there are any."""
    found = list(_find_due(transaction, step))
    if not found:
        return (), None
    token = transaction.run("next_token", known=step.last_token, now=transaction.now).fetchone()[0]
    if type(token) is not int:
        raise DamagedRowError
    transaction.run(
        "reserve",
        token=token,
        lease_end=transaction.now + milliseconds(step.lease),
        worker=step.worker,
        now=transaction.now,
        numbers=json.dumps([columns[0] for columns in found]),  # the row numbers of the records
    )
    return tuple([_reserved(columns, token) for columns in found]), token


def reserve_again(transaction: Transaction, step: Step, token: int) -> tuple[Reserved, ...]:
    """Return those records of the batch of a step sent before that are still held, with their leases renewed."""
    held: list[Columns] = transaction.run("find_held", token=token, worker=step.worker).fetchall()
    if held:
        lease_end = transaction.now + milliseconds(step.lease)
        transaction.run("renew_batch", lease_end=lease_end, token=token, worker=step.worker)
    order = {queue: index for index, queue in enumerate(step.queues)}
    held.sort(key=lambda columns: (order.get(columns[4], len(order)), columns[1:3]))
    return tuple([_reserved(columns, token) for columns in held])


def _find_due(transaction: Transaction, step: Step) -> Iterator[Columns]:
    """Find the records to reserve. They are read one by one: `want` of the longest inputs would not fit into memory."""
    left, size, now = step.want, 0, transaction.now
    for queue in dict.fromkeys(step.queues) if step.want > 0 else ():
        suspect: list[Columns] = []
        if step.suspect and step.wait is None and left == step.want:
            suspect = transaction.run("find_due", queue=queue, suspect=True, now=now, limit=1).fetchall()
        with closing(transaction.run("find_due", queue=queue, suspect=False, now=now, limit=left)) as ordinary:
            for columns in ordinary:
                if suspect and suspect[0][1:3] < columns[1:3]:
                    break
                suspect = []  # it is not the first
                if len(columns[_INPUT]) + len(columns[_META] or b"") + len(columns[_POLICY]) > LONGEST:
                    raise DamagedRowError
                size += len(columns[_INPUT])
                if left < step.want and size > MAX_BATCH_BYTES:
                    return
                left -= 1
                yield columns
        if suspect:
            yield suspect[0]
            return


def _reserved(columns: Columns, token: int) -> Reserved:
    _, _, record_id, name, queue, suspect, recoveries, attempts, given, meta, policy = columns
    if not (type(record_id) is type(name) is str and type(recoveries) is int):
        raise DamagedRowError
    return Reserved(
        id=record_id,
        token=token,
        name=name,
        queue=queue,
        input=given,
        meta=meta,
        policy=policy,
        attempts=attempts and attempts[:CUT],
        recoveries=recoveries,
        suspect=bool(suspect),
    )
