"""A step: settle, recover, reserve, trim; in this order, so that late acks count and recovered records can be taken."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from flowli_core.driver import LAST_SEEN_PRECISION, WORKER_MEMORY, AckAnswer, Recovered, Step, StepAnswer
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
_PRECISION = milliseconds(LAST_SEEN_PRECISION)
_LOST: AckAnswer = "lost"
_LETTERS: dict[AckAnswer, str] = {"ok": "o", "duplicate": "d", "lost": "l"}
_ANSWERS: dict[str, AckAnswer] = {letter: ack for ack, letter in _LETTERS.items()}


class _Last(NamedTuple):
    """The last step of a sequence: its answer if it is sent again. `token` is that of its batch."""

    sequence: int
    acks: tuple[AckAnswer, ...]
    token: int | None = None


@dataclass(slots=True)
class _Idle:
    """The last steps of a worker that changed nothing, when it was last seen, and when the file was told so."""

    seen: int
    written: int | None = None
    steps: dict[bool, _Last] = field(default_factory=dict[bool, _Last])


class IdleSteps:
    """The steps that changed nothing. The file does not remember them: an idle worker writes nothing.

    It only writes that it is alive, at its first step and then at most every LAST_SEEN_PRECISION. Only the driver
    object that sent a step can send it again, so it is enough that the object remembers it. Not thread-safe: used only
    on the thread that writes.
    """

    def __init__(self) -> None:
        self._workers: OrderedDict[str, _Idle] = OrderedDict()

    def see(self, worker: str, now: int) -> None:
        """Note that a worker is alive, and forget those that were not seen for too long."""
        self._workers.setdefault(worker, _Idle(now)).seen = now
        self._workers.move_to_end(worker)
        while next(iter(self._workers.values())).seen <= now - _MEMORY:
            self._workers.popitem(last=False)

    def get(self, step: Step) -> _Last | None:
        """Return the last idle step of a sequence of a worker."""
        return self._workers[step.worker].steps.get(step.wait is not None)

    def put(self, step: Step, last: _Last) -> None:
        """Remember an idle step."""
        self._workers[step.worker].steps[step.wait is not None] = last

    def owes_sign(self, worker: str, now: int) -> bool:
        """Return True if the file must be told again that a worker is alive."""
        written = self._workers[worker].written
        return written is None or not written <= now < written + _PRECISION

    def note_sign(self, worker: str, now: int) -> None:
        """Note that the file is told now that a worker is alive."""
        self._workers[worker].written = now


def take_step(transaction: Transaction, step: Step, idle: IdleSteps) -> StepAnswer:
    """Do a new step, answer one that was sent before, or refuse one from before that."""
    now = transaction.now
    idle.see(step.worker, now)
    last = _last(transaction, step, idle)
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
        if last is not idle.get(step):
            transaction.run(sql.NOTE_SEEN, (now, step.worker))
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
        forgot=step.wait is None and step.sequence > 1 and (last is None or last.sequence < step.sequence - 1),
    )


def _last(transaction: Transaction, step: Step, idle: IdleSteps) -> _Last | None:
    last = idle.get(step)
    statement = sql.FIND_STEP if step.wait is None else sql.FIND_WAITING_STEP
    row = transaction.run(statement, (step.worker, transaction.now - _MEMORY)).fetchone()
    if row is None or (last is not None and last.sequence > row[0]):
        return last
    sequence, token, letters = row
    return _Last(sequence, tuple([_ANSWERS[letter] for letter in letters]), token)


def _remember(transaction: Transaction, step: Step, last: _Last, idle: IdleSteps) -> None:
    now = transaction.now
    if not transaction.has_written() and not idle.owes_sign(step.worker, now):
        idle.put(step, last)
        return
    letters = "".join([_LETTERS[ack] for ack in last.acks])
    if step.wait is None:
        transaction.run(sql.REMEMBER_STEP, (step.worker, last.sequence, last.token, now, letters))
    else:
        transaction.run(sql.REMEMBER_WAITING_STEP, (step.worker, last.sequence, last.token, now))
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
