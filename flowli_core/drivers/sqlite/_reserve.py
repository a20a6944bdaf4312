"""The stage of a step that reserves records."""

import json
from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial
from heapq import merge
from itertools import count
from operator import itemgetter
from typing import Any

from flowli_core.driver import Expired, Reserved, Step
from flowli_core.drivers._times import milliseconds
from flowli_core.drivers.sqlite._damage import CUT, LONGEST, DamagedRowError
from flowli_core.drivers.sqlite._transaction import Transaction
from flowli_core.limits import EXPIRE_PER_STEP, MAX_BATCH_BYTES

Columns = tuple[Any, ...]
"""The columns of the statements find_due and find_held; the first three are number, due and id."""

_SUSPECT, _INPUT, _META, _POLICY, _CANCEL_AT = 5, 8, 9, 10, 11


def reserve(transaction: Transaction, step: Step) -> tuple[tuple[Reserved, ...], int | None, tuple[Expired, ...]]:
    """Reserve up to `want` records under a new token, and cancel those that have expired instead.

    Return the reserved records, the token if there are any, and the expired records.
    """
    late: list[Columns] = []
    found = list(_find_due(transaction, step, late))
    expired = _expire(transaction, late) if late else ()
    if not found:
        return (), None, expired
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
    return tuple([_reserved(columns, token) for columns in found]), token, expired


def reserve_again(transaction: Transaction, step: Step, token: int) -> tuple[Reserved, ...]:
    """Return those records of the batch of a step sent before that are still held, with their leases renewed."""
    held: list[Columns] = transaction.run("find_held", token=token, worker=step.worker).fetchall()
    if held:
        lease_end = transaction.now + milliseconds(step.lease)
        transaction.run("renew_batch", lease_end=lease_end, token=token, worker=step.worker)
    order = {queue: index for index, queue in enumerate(step.queues)}
    held.sort(key=lambda columns: (order.get(columns[4], len(order)), columns[1:3]))
    return tuple([_reserved(columns, token) for columns in held])


def _expire(transaction: Transaction, late: list[Columns]) -> tuple[Expired, ...]:
    transaction.run("cancel_expired", numbers=json.dumps([columns[0] for columns in late]), now=transaction.now)
    expired: list[Expired] = []
    for _, _, record_id, name, queue in late:
        if not type(record_id) is type(name) is str:
            raise DamagedRowError
        transaction.count(name, queue, "cancelled")
        expired.append(Expired(record_id, name, queue))
    return tuple(expired)


def _find_due(transaction: Transaction, step: Step, late: list[Columns]) -> Iterator[Columns]:
    """Find the records to reserve. Add the first five columns of those that have expired to `late`.

    They are read one by one: `want` of the longest inputs would not fit into memory.
    """
    left, size = step.want, 0
    for queue in dict.fromkeys(step.queues) if step.want > 0 else ():
        with_suspects = step.suspect and step.wait is None and left == step.want
        with closing(_walk(transaction, queue, left + EXPIRE_PER_STEP + 1, with_suspects=with_suspects)) as due:
            for columns in due:
                if columns[_SUSPECT] and left < step.want:
                    continue  # it is not the first
                if 0 < columns[_CANCEL_AT] <= transaction.now:
                    if len(late) == EXPIRE_PER_STEP:
                        return
                    late.append(columns[:5])
                    continue
                if len(columns[_INPUT]) + len(columns[_META] or b"") + len(columns[_POLICY]) > LONGEST:
                    raise DamagedRowError
                size += len(columns[_INPUT])
                if left < step.want and size > MAX_BATCH_BYTES:
                    return
                left -= 1
                yield columns
                if columns[_SUSPECT] or left == 0:
                    return


def _walk(transaction: Transaction, queue: str, limit: int, *, with_suspects: bool) -> Generator[Columns]:
    """Yield the first due records of a queue in their order."""
    find = partial(transaction.run, "find_due", queue=queue, now=transaction.now)

    def suspects() -> Iterator[Columns]:
        # One after another: the sqlite3 module compiles a statement again while a cursor of it is open.
        for number in count():
            found = find(suspect=True, limit=1, skipped=number).fetchall()
            if not found:
                return
            yield found[0]

    def others() -> Generator[Columns]:
        with closing(find(suspect=False, limit=limit, skipped=0)) as cursor:
            yield from cursor

    with closing(others()) as ordinary:
        yield from merge(suspects(), ordinary, key=itemgetter(1, 2)) if with_suspects else ordinary


def _reserved(columns: Columns, token: int) -> Reserved:
    _, _, record_id, name, queue, suspect, recoveries, attempts, given, meta, policy, _ = columns
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
