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
from flowli_core.drivers.sqlite._lanes import has_turn, leave, note_start, refresh
from flowli_core.drivers.sqlite._transaction import Transaction
from flowli_core.limits import EXPIRE_PER_STEP, MAX_BATCH_BYTES

Columns = tuple[Any, ...]
"""The columns of the statements find_due and find_held; the first three are number, due and id."""

_MOST_IDLE_TURNS = 200
"""A step ends after so many turns of lanes that have none any more, as after the clock was set back."""

_SUSPECT, _INPUT, _META, _POLICY, _CANCEL_AT = 5, 8, 9, 10, 11


def reserve(transaction: Transaction, step: Step) -> tuple[tuple[Reserved, ...], int | None, tuple[Expired, ...]]:
    """Reserve up to `want` records under a new token, and cancel those that have expired instead.

    Return the reserved records, the token if there are any, and the expired records.
    """
    batch = _Batch(transaction, step)
    for queue in dict.fromkeys(step.queues):
        if batch.is_full:
            break
        _fill(batch, queue)
    return batch.finish()


class _Batch:
    """The records that a step reserves, and those that it cancels because they have expired.

    Those of a lane are written one by one, because the next turn of the lane depends on it; the others together.
    """

    def __init__(self, transaction: Transaction, step: Step) -> None:
        self.transaction = transaction
        self.step = step
        self.left = step.want
        self.is_full = step.want <= 0
        self.idle_turns = 0
        self._size = 0
        self._token: int | None = None
        self._found: list[Columns] = []
        self._numbers: list[int] = []
        self._late: list[Columns] = []
        self._late_numbers: list[int] = []

    def is_empty(self) -> bool:
        """Return True if nothing is reserved."""
        return not self._found

    def add(self, columns: Columns, lane: str | None = None) -> None:
        """Reserve a record, or cancel it if it has expired, unless the batch is full."""
        given = columns[_INPUT]
        if 0 < columns[_CANCEL_AT] <= self.transaction.now:
            self._expire(columns, lane)
            return
        if len(given) + len(columns[_META] or b"") + len(columns[_POLICY]) > LONGEST:
            raise DamagedRowError
        self._size += len(given)
        if self._size > MAX_BATCH_BYTES and self._found:
            self.is_full = True
            return
        self._found.append(columns)
        self.left -= 1
        if columns[_SUSPECT] or not self.left:
            self.is_full = True
        if lane is None:
            self._numbers.append(columns[0])
        else:
            self._reserve([columns[0]])
            note_start(self.transaction, lane)
            self._end_turn(columns, lane)

    def _expire(self, columns: Columns, lane: str | None) -> None:
        if len(self._late) == EXPIRE_PER_STEP:
            self.is_full = True
            return
        self._late.append(columns[:5])
        if lane is None:
            self._late_numbers.append(columns[0])
        else:
            self._cancel([columns[0]])
            self._end_turn(columns, lane)

    def finish(self) -> tuple[tuple[Reserved, ...], int | None, tuple[Expired, ...]]:
        """Write the rest, and return what `reserve` returns."""
        self.write()
        expired: list[Expired] = []
        for _, _, record_id, name, queue in self._late:
            if not type(record_id) is type(name) is str:
                raise DamagedRowError
            self.transaction.count(name, queue, "cancelled")
            expired.append(Expired(record_id, name, queue))
        return tuple([_reserved(columns, self._token or 0) for columns in self._found]), self._token, tuple(expired)

    def _reserve(self, numbers: list[int]) -> None:
        transaction, step = self.transaction, self.step
        if self._token is None:
            token = transaction.run("next_token", known=step.last_token, now=transaction.now).fetchone()[0]
            if type(token) is not int:
                raise DamagedRowError
            self._token = token
        transaction.run(
            "reserve",
            token=self._token,
            lease_end=transaction.now + milliseconds(step.lease),
            worker=step.worker,
            now=transaction.now,
            numbers=json.dumps(numbers),
        )

    def write(self) -> None:
        """Write which records in no lane are reserved, and which are cancelled because they had expired."""
        if self._late_numbers:
            self._cancel(self._late_numbers)
            self._late_numbers = []
        if self._numbers:
            self._reserve(self._numbers)
            self._numbers = []

    def _end_turn(self, columns: Columns, lane: str) -> None:
        leave(self.transaction, lane, columns[4])
        refresh(self.transaction, lane, served=columns[4])

    def _cancel(self, numbers: list[int]) -> None:
        self.transaction.run("cancel_expired", numbers=json.dumps(numbers), now=self.transaction.now)


def _fill(batch: _Batch, queue: str) -> None:
    """Reserve the due records of a queue in the order of their turns, in rounds.

    In the first round, all records without a lane have their turn. In each of the others, every lane has one.
    """
    while (has_lanes := _take_all(batch, queue)) is None:
        pass
    while has_lanes:
        turns = [] if batch.is_full else _find_turns(batch, queue, with_suspects=_may_be_suspect(batch))
        has_lanes = bool(turns)
        for columns in turns:
            if not columns[_SUSPECT] or batch.is_empty():
                _add_first(batch, columns)
            if batch.is_full:
                return
            if columns[_SUSPECT]:
                break  # it had expired, so another suspect may be the next one now


def _take_all(batch: _Batch, queue: str) -> bool | None:
    """Begin with the first round. Return True if lanes had turns, or None if it must begin again.

    It must after a suspect that had expired, because another suspect may be the next one now; and if there are lanes,
    after as many turns as the batch has room for, because some of the records had expired.
    """
    with_suspects, room = _may_be_suspect(batch), batch.left
    turns = _find_turns(batch, queue, with_suspects=with_suspects)
    # Records are read one by one: `want` of the longest inputs would not fit into memory.
    walk = _walk(batch.transaction, queue, batch.left + EXPIRE_PER_STEP + 1, with_suspects=with_suspects)
    with closing(walk) as records:
        number = 0
        for columns in merge(turns, records, key=itemgetter(1, 2)) if turns else records:
            is_first = batch.is_empty()
            if columns[_SUSPECT] and not is_first:
                continue  # it runs alone
            number += 1
            if columns[0] is None:
                _add_first(batch, columns)
            else:
                batch.add(columns)
            if batch.is_full:
                break
            if turns and (number == room or (columns[_SUSPECT] and is_first)):
                batch.write()
                return None
    return bool(turns)


def _may_be_suspect(batch: _Batch) -> bool:
    return batch.step.suspect and batch.step.wait is None and batch.is_empty()


def _find_turns(batch: _Batch, queue: str, *, with_suspects: bool) -> list[Columns]:
    """Return the lanes that have their turn: None, the time, the lane, None, the queue, and 1 for a suspect."""
    limits = {"now": batch.transaction.now, "limit": batch.left}
    return batch.transaction.run("find_turns", queue=queue, suspects=with_suspects, **limits).fetchall()


def _add_first(batch: _Batch, turn: Columns) -> None:
    """Add the first record of a lane to a batch, if the lane has its turn."""
    _, _, lane, _, queue, is_suspect = turn
    if not has_turn(batch.transaction, lane, queue):
        batch.idle_turns += 1
        batch.is_full = batch.is_full or batch.idle_turns >= _MOST_IDLE_TURNS
        return
    now = batch.transaction.now
    first = batch.transaction.run("find_first_due_of_lane", lane=lane, queue=queue, now=now).fetchone()
    if first is None:
        raise DamagedRowError
    if first[_SUSPECT] == is_suspect:
        batch.add(first, lane)


def reserve_again(transaction: Transaction, step: Step, token: int) -> tuple[Reserved, ...]:
    """Return those records of the batch of a step sent before that are still held, with their leases renewed."""
    held: list[Columns] = transaction.run("find_held", token=token, worker=step.worker).fetchall()
    if held:
        lease_end = transaction.now + milliseconds(step.lease)
        transaction.run("renew_batch", lease_end=lease_end, token=token, worker=step.worker)
    order = {queue: index for index, queue in enumerate(step.queues)}
    held.sort(key=lambda columns: (order.get(columns[4], len(order)), columns[1:3]))
    return tuple([_reserved(columns, token) for columns in held])


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
