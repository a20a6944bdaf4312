"""The lanes in the file: their turns, their places and their starts. See flowli_core/lanes.py."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from flowli_core.drivers._times import milliseconds, moment_or_none
from flowli_core.drivers.sqlite._damage import DamagedRowError
from flowli_core.drivers.sqlite._sql import run
from flowli_core.drivers.sqlite._transaction import Transaction
from flowli_core.lanes import MOST_CONCURRENCY, MOST_LISTED_LANES, MOST_RATE, Lane, Rate, StoredLane


@dataclass(frozen=True, slots=True)
class _Limit:
    """The numbers of a limit."""

    concurrency: int | None
    rate: Rate | None


_UNREADABLE = _Limit(1, None)
"""Takes the place of a limit that cannot be read."""
_LONGEST_PERIOD = milliseconds(timedelta(days=1))


def pack(lane: Lane) -> str:
    """Return the text of a lane. It sorts before the id of each record."""
    return f"\n{lane.limit}\n{lane.value}"


def unpack(text: object) -> Lane | None:
    """Read the text of a lane. Return None if there is none, or if it cannot be read."""
    match text.split("\n", 2) if type(text) is str else ():
        case ("", limit, value):
            return Lane(limit, value)
        case _:
            return None


def put_limits(transaction: Transaction, lanes: Iterable[Lane]) -> None:
    """Store the numbers of limits that differ from those that are stored."""
    for limit, lane in {lane.limit: lane for lane in lanes}.items():
        wanted = _Limit(lane.concurrency, lane.rate)
        if _read_limit(transaction.run("find_limit", name=limit).fetchone()) == wanted:
            continue
        count, period = (None, None) if lane.rate is None else (lane.rate.count, milliseconds(lane.rate.period))
        transaction.run("put_limit", name=limit, concurrency=lane.concurrency, count=count, period=period)


def join(transaction: Transaction, lane: str, queue: str, number: int = 1) -> None:
    """Count records that now wait in a lane. `refresh` it when all is written."""
    transaction.run("join_lane", lane=lane, queue=queue, number=number)


def leave(transaction: Transaction, lane: str, queue: str) -> None:
    """Count a record that no longer waits in a lane. `refresh` it when all is written."""
    transaction.run("leave_lane", lane=lane, queue=queue)
    transaction.run("forget_lane", lane=lane, queue=queue)


def refresh(transaction: Transaction, lane: str, *, served: str | None = None) -> None:
    """Compute when a lane has its turn in each queue in which records of it wait.

    A lane that waits for its turn keeps it, except in the queue in which it was `served`.
    """
    lines = transaction.run("find_lines", lane=lane).fetchall()
    if not lines:
        return
    earliest = _find_earliest(transaction, lane)
    for queue, old, was_suspect in lines:
        due, suspect = transaction.run("find_first", lane=lane, queue=queue).fetchone() or (None, 0)
        if type(due) is not int:
            raise DamagedRowError
        new: int | None = None
        if earliest is not None:
            turn = transaction.now if type(old) is not int or queue == served else min(old, transaction.now)
            new = max(turn, due, earliest)
        if (new, suspect) != (old, was_suspect):
            transaction.run("set_turn", lane=lane, queue=queue, at=new, suspect=suspect)
            if queue != served:
                transaction.changed.add(queue)


def has_turn(transaction: Transaction, lane: str, queue: str) -> bool:
    """Return True if a lane has its turn. It may not, if the numbers of its limit have changed."""
    refresh(transaction, lane)
    at = {name: at for name, at, _ in transaction.run("find_lines", lane=lane)}.get(queue)
    return at is not None and at <= transaction.now


def note_start(transaction: Transaction, lane: str) -> None:
    """Note that a record of a lane was reserved, if its limit has a rate."""
    rate = _limit_of(transaction, lane).rate
    if rate is not None:
        transaction.run("add_start", lane=lane, now=transaction.now, period=milliseconds(rate.period))


def list_lanes(connection: sqlite3.Connection, now: int) -> tuple[tuple[StoredLane, ...], int]:
    """Return the lanes with the most waiting records, and the number of all lanes."""
    rows = run(connection, "list_lanes", limit=MOST_LISTED_LANES).fetchall()
    listed: list[StoredLane] = []
    for queue, text, waiting, at, due, active, *numbers in rows:
        lane, limit = unpack(text), _read_limit(tuple(numbers)) or _UNREADABLE
        if lane is None:
            continue  # its records are damaged, and will be set aside
        if not type(waiting) is type(due) is int or type(at) not in {int, type(None)}:
            raise DamagedRowError
        blocked: Literal["concurrency", "rate"] | None = None
        if at is None:
            blocked = "concurrency"
        elif at > max(due, now):
            blocked = "rate"
        listed.append(
            StoredLane(
                queue=queue,
                limit=lane.limit,
                value=lane.value,
                waiting=waiting,
                active=active,
                concurrency=limit.concurrency,
                rate=limit.rate,
                next_turn=moment_or_none(at),
                blocked=blocked,
            )
        )
    return tuple(listed), run(connection, "count_lanes").fetchone()[0]


def _find_earliest(transaction: Transaction, lane: str) -> int | None:
    """Return when the limit of a lane allows a start, 0 for now. Return None if it has no free place."""
    limit = _limit_of(transaction, lane)
    if limit.concurrency is not None:
        taken: int = transaction.run("count_places", lane=lane, most=limit.concurrency).fetchone()[0]
        if taken >= limit.concurrency:
            return None
    if limit.rate is None:
        return 0
    start = transaction.run("find_nth_last_start", lane=lane, count=limit.rate.count).fetchone()
    allowed: int = 0 if start is None else start[0] + milliseconds(limit.rate.period)
    return allowed if allowed > transaction.now else 0


def _limit_of(transaction: Transaction, lane: str) -> _Limit:
    parts = unpack(lane)
    if parts is None:
        return _UNREADABLE
    return _read_limit(transaction.run("find_limit", name=parts.limit).fetchone()) or _UNREADABLE


def _read_limit(numbers: tuple[object, ...] | None) -> _Limit | None:
    """Read the numbers of a limit. Return None if they are missing or cannot be read."""
    match numbers:
        case (int() | None as concurrency, *_) if concurrency is not None and not 0 < concurrency <= MOST_CONCURRENCY:
            return None
        case (int() | None as concurrency, None, None):
            return _Limit(concurrency, None)
        case (int() | None as concurrency, int(count), int(period)) if (
            0 < count <= MOST_RATE and 0 < period <= _LONGEST_PERIOD
        ):
            return _Limit(concurrency, Rate(count, timedelta(milliseconds=period)))
        case _:
            return None
