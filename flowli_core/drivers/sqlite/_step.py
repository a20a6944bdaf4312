"""A step with its stages: settle, recover, reserve, trim, next."""

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import timedelta

from flowli_core.driver import AckAnswer, Damaged, Expired, Recovered, Reserved, Step, StepAnswer
from flowli_core.drivers._times import duration, milliseconds, moment
from flowli_core.drivers.sqlite._damage import Repairer
from flowli_core.drivers.sqlite._records import take_back_recovery
from flowli_core.drivers.sqlite._reports import store_reports
from flowli_core.drivers.sqlite._reserve import reserve, reserve_again
from flowli_core.drivers.sqlite._settle import recover, settle, trim
from flowli_core.drivers.sqlite._transaction import Transaction, first_due, first_lease, first_tick
from flowli_core.limits import LAST_SEEN_PRECISION, WORKER_MEMORY

_MEMORY = milliseconds(WORKER_MEMORY)
_PRECISION = milliseconds(LAST_SEEN_PRECISION)
_LETTERS: dict[AckAnswer, str] = {"ok": "o", "duplicate": "d", "lost": "l"}
_ANSWERS: dict[str, AckAnswer] = {letter: ack for ack, letter in _LETTERS.items()}


@dataclass(frozen=True, slots=True)
class LastStep:
    """The last step of a sequence: its answer if it is sent again. `token` is that of its batch, if it has one."""

    sequence: int
    acks: tuple[AckAnswer, ...]
    token: int | None


@dataclass(slots=True)
class _Idle:
    """The last steps of a worker that changed nothing, when it was last seen, and when that was written to the file.

    `sequences` are the numbers of its last steps, also of those that changed something.
    """

    seen: int
    written: int | None = None
    steps: dict[bool, LastStep] = field(default_factory=dict[bool, LastStep])
    sequences: dict[bool, int] = field(default_factory=dict[bool, int])


class IdleSteps:
    """The steps that changed nothing. They are not in the file, because an idle worker writes nothing to it.

    It only writes that it is alive, at its first step and then at most every LAST_SEEN_PRECISION. Only the driver
    object that has sent a step can send it again, so it is enough that this object remembers it. Not thread-safe: used
    only on the thread that writes.
    """

    def __init__(self) -> None:
        self._workers: OrderedDict[str, _Idle] = OrderedDict()

    def note_seen(self, worker: str, now: int) -> None:
        """Note that a worker is alive, and forget those that were not seen for too long."""
        self._workers.setdefault(worker, _Idle(now)).seen = now
        self._workers.move_to_end(worker)
        while next(iter(self._workers.values())).seen <= now - _MEMORY:
            self._workers.popitem(last=False)

    def get(self, step: Step) -> LastStep | None:
        """Return the last idle step of a sequence of a worker."""
        return self._workers[step.worker].steps.get(step.wait is not None)

    def put(self, step: Step, last: LastStep) -> None:
        """Remember an idle step."""
        self._workers[step.worker].steps[step.wait is not None] = last

    def was_not_sent(self, step: Step, stored: int) -> bool:
        """Return True if this driver has not sent a step with the stored number, which is therefore damaged."""
        known = self._workers[step.worker].sequences.get(step.wait is not None)
        return known is not None and known < stored and step.sequence <= stored

    def forget(self, worker: str) -> None:
        """Forget a worker that has left."""
        self._workers.pop(worker, None)

    def note_sequence(self, step: Step) -> None:
        """Note the number of a step that this driver has sent."""
        sequences, kind = self._workers[step.worker].sequences, step.wait is not None
        sequences[kind] = max(sequences.get(kind, 0), step.sequence)

    def must_write_seen(self, worker: str, now: int) -> bool:
        """Return True if it is time to write again when the worker was last seen."""
        written = self._workers[worker].written
        return written is None or not written <= now < written + _PRECISION

    def note_written(self, worker: str, now: int) -> None:
        """Note that the transaction writes when the worker was last seen."""
        self._workers[worker].written = now


def take_step(transaction: Transaction, step: Step, idle: IdleSteps, repairer: Repairer) -> StepAnswer:
    """Do a new step, answer one that is sent again, or refuse an older one."""
    now = transaction.now
    idle.note_seen(step.worker, now)
    last = _last_step(transaction, step, idle)
    acks: tuple[AckAnswer, ...] = tuple(["lost" for _ in step.acks])
    recovered: tuple[Recovered, ...] = ()
    batch: tuple[Reserved, ...] = ()
    expired: tuple[Expired, ...] = ()
    damaged: tuple[Damaged, ...] = ()
    if last is None or step.sequence > last.sequence or not _fits(step, last):
        # In this order, so that late acks count, and recovered records can be reserved at once.
        store_reports(transaction, step.reports, step.worker)
        acks = settle(transaction, step.acks, step.worker)
        recovered, left_own = recover(transaction, step)
        batch, token, expired = ((), None, ()) if left_own else reserve(transaction, step)
        if step.acks or not batch:
            trim(transaction, step.keep)
        if not (step.acks or batch):
            repairer.scan(transaction.connection, now)
        damaged, repairer.unreported = tuple(repairer.unreported), []
        _remember(transaction, step, LastStep(step.sequence, acks, token), idle)
    elif step.sequence == last.sequence:
        acks = last.acks
        batch = () if last.token is None else reserve_again(transaction, step, last.token)
        if last is not idle.get(step):
            transaction.run("note_seen", now=now, worker=step.worker)
    if step.leaving:
        transaction.run("forget_worker", worker=step.worker)
        idle.forget(step.worker)
    # After a step that has reserved a suspect, another worker may reserve the next one.
    (transaction.changed if any(held.suspect for held in batch) else transaction.left).update(step.queues)
    tick = first_tick(transaction.connection)
    answer = StepAnswer(
        now=moment(now),
        acks=acks,
        reserved=batch,
        recovered=recovered,
        expired=expired,
        damaged=damaged,
        next_due=_next_due(transaction, step, tick),
        next_tick=None if tick is None else duration(max(tick - now, 0)),
        suspect_due=_is_suspect_due(transaction, step),
        forgot=step.wait is None and step.sequence > 1 and (last is None or last.sequence < step.sequence - 1),
    )
    for ack, result in zip(step.acks, acks, strict=True):
        if result == "lost":
            take_back_recovery(transaction, ack.id, ack.token)
    return answer


def _last_step(transaction: Transaction, step: Step, idle: IdleSteps) -> LastStep | None:
    last = idle.get(step)
    since = transaction.now - _MEMORY
    row = transaction.run("find_step", worker=step.worker, waits=step.wait is not None, since=since).fetchone()
    is_damaged = row is not None and idle.was_not_sent(step, row[0])
    idle.note_sequence(step)
    if row is None or (last is not None and last.sequence > row[0]) or is_damaged:
        return last
    sequence, token, letters = row
    return LastStep(sequence, tuple([_ANSWERS[letter] for letter in letters]), token)


def _fits(step: Step, last: LastStep) -> bool:
    """Return False if the stored answer has another number of acks than the step that is sent again: it is damaged."""
    return step.sequence < last.sequence or len(step.acks) == len(last.acks)


def _remember(transaction: Transaction, step: Step, last: LastStep, idle: IdleSteps) -> None:
    now = transaction.now
    if not transaction.has_written() and step.about is None and not idle.must_write_seen(step.worker, now):
        idle.put(step, last)
        return
    transaction.run(
        "remember_step",
        worker=step.worker,
        waits=step.wait is not None,
        now=now,
        sequence=last.sequence,
        token=last.token,
        acks="".join([_LETTERS[ack] for ack in last.acks]),
        about=step.about,
    )
    transaction.run("note_seen", now=now, worker=step.worker)
    transaction.run("forget_workers", until=now - _MEMORY)
    idle.note_written(step.worker, now)


def _next_due(transaction: Transaction, step: Step, tick: int | None) -> timedelta | None:
    now, connection = transaction.now, transaction.connection
    times = [first_lease(connection), tick if tick is not None and tick > now else None]
    for queue in dict.fromkeys(step.queues):
        ordinary, suspect = transaction.first_due(queue)
        times.append(ordinary)
        if suspect is not None:
            times.append(suspect if suspect > now else first_due(connection, queue, after=now).suspect)
    known = [time for time in times if time is not None]
    return duration(max(min(known) - now, 0)) if known else None


def _is_suspect_due(transaction: Transaction, step: Step) -> bool:
    for queue in step.queues:
        ordinary, suspect = transaction.first_due(queue)
        if suspect is not None and suspect <= transaction.now and (ordinary is None or suspect < ordinary):
            return True
        if ordinary is not None and ordinary <= transaction.now:
            return False
    return False
