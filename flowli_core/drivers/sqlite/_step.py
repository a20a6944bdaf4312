"""A step: settle, recover, reserve, trim; in this order, so that late acks count and recovered records can be taken."""

from __future__ import annotations

from collections import OrderedDict
from datetime import timedelta
from typing import NamedTuple

from flowli_core.driver import WORKER_HEARD, WORKER_MEMORY, AckAnswer, Recovered, Step, StepAnswer
from flowli_core.drivers._times import duration, milliseconds, moment
from flowli_core.drivers.sqlite import _statements as sql
from flowli_core.drivers.sqlite._reserve import Due, answer, reserve, reserve_again
from flowli_core.drivers.sqlite._settle import recover, settle, trim
from flowli_core.drivers.sqlite._transaction import (
    Heads,
    News,
    Transaction,
    first_after,
    first_lease,
    first_tick,
    heads,
)
from flowli_core.durations import ZERO

_MEMORY = milliseconds(WORKER_MEMORY)
_HEARD = milliseconds(WORKER_HEARD)
_LOST: AckAnswer = "lost"
_LETTERS: dict[AckAnswer, str] = {"ok": "o", "duplicate": "d", "lost": "l"}
_ANSWERS: dict[str, AckAnswer] = {letter: ack for ack, letter in _LETTERS.items()}


class _Last(NamedTuple):
    """The last step of a worker: what to answer if it is sent again. `token` is that of its batch."""

    sequence: int
    acks: tuple[AckAnswer, ...]
    token: int | None = None


class IdleSteps:
    """The sequences of steps that changed nothing, which the file does not remember: an idle worker writes nothing.

    But for a sign of life when it begins, and then now and again. Only the driver object that sent a step can send it
    again, so it is enough that the object remembers. Not safe against threads: only the lane that writes may use it.
    """

    def __init__(self) -> None:
        self._last: OrderedDict[str, tuple[int, _Last]] = OrderedDict()
        self._heard: OrderedDict[str, int] = OrderedDict()

    def owes_sign(self, worker: str, now: int) -> bool:
        """Whether the file has not heard of a worker for so long that others might take it for gone."""
        heard = self._heard.get(worker)
        return heard is None or not heard <= now < heard + _HEARD

    def note_sign(self, worker: str, now: int) -> None:
        """Remember that the file is told of a worker now."""
        self._heard[worker] = now
        self._heard.move_to_end(worker)
        while next(iter(self._heard.values())) <= now - _MEMORY:
            self._heard.popitem(last=False)

    def get(self, worker: str, now: int) -> _Last | None:
        """Answer the last step of a worker that changed nothing."""
        heard, last = self._last.get(worker, (0, None))
        return last if last is not None and heard > now - _MEMORY else None

    def put(self, worker: str, last: _Last, now: int) -> None:
        """Remember a step, and forget those that were remembered for long enough."""
        self._last[worker] = now, last
        self._last.move_to_end(worker)
        while next(iter(self._last.values()))[0] <= now - _MEMORY:
            self._last.popitem(last=False)


def take_step(transaction: Transaction, step: Step, idle: IdleSteps) -> StepAnswer:
    """Do a new step, answer one that was sent before, or refuse one from before that."""
    now = transaction.now
    last = _last(transaction, step.worker, idle)
    recovered: tuple[Recovered, ...] = ()
    acks: tuple[AckAnswer, ...]
    batch: list[Due] = []
    token: int | None = None
    if last is None or step.sequence > last.sequence:
        acks = settle(transaction, step.acks)
        recovered = recover(transaction)
        batch, token = reserve(transaction, step)
        if step.acks or not batch:
            trim(transaction, step.keep)
        _remember(transaction, step, _Last(step.sequence, acks, token), idle)
    elif step.sequence == last.sequence:
        acks, token = last.acks, last.token
        if token is not None:
            batch = reserve_again(transaction, step, token)
        if last is idle.get(step.worker, now):
            idle.put(step.worker, last, now)
        else:
            transaction.run(sql.HEAR_WORKER, (now, step.worker))
    else:
        acks = (_LOST,) * len(step.acks)
    tick = first_tick(transaction.connection)
    return StepAnswer(
        now=moment(now),
        acks=acks,
        reserved=() if token is None else answer(batch, token),
        recovered=recovered,
        next_due=_look_around(transaction, step, tick, took_suspect=any(due.suspect for due in batch)),
        next_tick=None if tick is None else duration(max(tick - now, 0)),
        forgot=step.sequence > 1 and (last is None or last.sequence < step.sequence - 1),
    )


def _last(transaction: Transaction, worker: str, idle: IdleSteps) -> _Last | None:
    last = idle.get(worker, transaction.now)
    row = transaction.run(sql.FIND_WORKER, (worker, transaction.now - _MEMORY)).fetchone()
    if row is None or (last is not None and last.sequence > row[0]):
        return last
    sequence, token, letters = row
    return _Last(sequence, tuple([_ANSWERS[letter] for letter in letters]), token)


def _remember(transaction: Transaction, step: Step, last: _Last, idle: IdleSteps) -> None:
    now = transaction.now
    if not transaction.has_written() and not idle.owes_sign(step.worker, now):
        idle.put(step.worker, last, now)
        return
    letters = "".join([_LETTERS[ack] for ack in last.acks])
    transaction.run(sql.REMEMBER_STEP, (step.worker, last.sequence, last.token, letters, now))
    transaction.run(sql.FORGET_WORKERS, (now - _MEMORY,))
    idle.note_sign(step.worker, now)


def _look_around(transaction: Transaction, step: Step, tick: int | None, *, took_suspect: bool) -> timedelta | None:
    """Answer when there will be something to do, and leave word of what there is for the waiters.

    A suspect that the step could not take wakes nobody, or an idle runner would run in circles around it.
    """
    now = transaction.now
    lease = first_lease(transaction.connection)
    times = [] if lease is None else [lease[0]]
    times += [] if tick is None or tick <= now else [tick]
    for queue in dict.fromkeys((*step.queues, *transaction.stirred)):
        first = heads(transaction.connection, queue)
        ordinary_due = first.ordinary is not None and first.ordinary.due <= now
        suspect_due = first.suspect is not None and first.suspect.due <= now
        if queue in step.queues:
            times += _times(transaction, step, queue, first, took_suspect=took_suspect)
        wake = ordinary_due or (suspect_due and (step.suspect or queue in transaction.stirred))
        transaction.news.append(News(queue, first, wake))
    if not times:
        return None
    return duration(max(min(times) - now, 0)) or ZERO


def _times(transaction: Transaction, step: Step, queue: str, first: Heads, *, took_suspect: bool) -> list[int]:
    """When there will be something in a queue that the worker might take."""
    times = [] if first.ordinary is None else [first.ordinary.due]
    suspect = first.suspect
    if suspect is not None and step.suspect:
        if took_suspect and suspect.due <= transaction.now:
            suspect = first_after(transaction.connection, queue, suspect=True, after=transaction.now)
        times += [] if suspect is None else [suspect.due]
    return times
