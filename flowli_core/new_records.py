"""The records that `enqueue` stores, and its answers for them. A page of the contract: see `flowli_core/driver.py`."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from flowli_core.durations import ZERO
from flowli_core.lanes import Lane
from flowli_core.stored import State


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRecord:
    """A record to be stored.

    `key` is unique among the unfinished records: while a record holds it, enqueueing another returns `existing`. A
    record that completes holds its key until `unique_for` after it was created, even if it is removed sooner; one that
    fails or is cancelled does not.

    With `on_conflict="replace"`, another unfinished record that holds the key gives way. If it waits, it becomes this
    one, as if it were stored now, but keeps its id and when it was created: `replaced`. If it is active, this one is
    stored, holds the key from now on, and waits for it to finish, also while that one waits for a retry. Then it is
    due, or at its due time. If this one is cancelled before that, the other holds the key again. With a `max_wait`, a
    record is due at most this long after it was created, also if it has replaced another.

    `lane` names the limit that the record counts for: see `flowli_core/lanes.py`.

    `due` is a duration from the store's now, or a moment; a moment in the past means now. A completed record is removed
    after `keep_completed`, a failed or cancelled one after `keep_failed`.

    A record that has not begun by `expires`, a moment or a duration from its due time, is cancelled by the step that
    would reserve it, which then goes on with the next one. Once it has been reserved or requeued, it does not expire.
    After EXPIRE_PER_STEP of them a step reserves no more. Nothing expires in a paused queue, until it is resumed.

    The id stays taken for `keep_id` after the record has finished, even if the record is removed sooner. Until then,
    another record with this id and a `keep_id` is a duplicate.
    """

    id: str
    name: str
    queue: str
    input: bytes
    meta: bytes | None = None
    key: str | None = None
    due: timedelta | datetime = ZERO
    expires: timedelta | datetime | None = None
    policy: bytes = b"{}"
    max_recoveries: int = 3
    keep_completed: timedelta = timedelta(hours=1)
    keep_failed: timedelta = timedelta(days=14)
    keep_id: timedelta = ZERO
    on_conflict: Literal["keep", "replace"] = "keep"
    max_wait: timedelta | None = None
    unique_for: timedelta = ZERO
    lane: Lane | None = None


Disposition = Literal["accepted", "duplicate", "existing", "replaced"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """The answer for one record of an `enqueue`.

    accepted: it is stored now. duplicate: its id was stored before; if that record was removed since, `state` is the
    one in which it finished, and `scheduled_for` is now. existing: another record holds its key, and the other fields
    describe that record; if it was removed since, it has completed, and `scheduled_for` is now. replaced: the waiting
    record that holds its key has become this one; `id` is its id.
    """

    id: str
    disposition: Disposition
    state: State
    scheduled_for: datetime
    attempts: bytes | None = None
