"""Records that an operator cancels or requeues, and the answers for them. See `flowli_core/driver.py`."""

from collections.abc import Sized
from dataclasses import dataclass
from typing import Literal

from flowli_core.errors import DriverError
from flowli_core.stored import State

MOST_TARGETS = 100
"""The most records of one call of `cancel` or `requeue`, and the most ids of a `purge`. A driver refuses more."""


def check_number(targets: Sized) -> None:
    """Raise DriverError if there are more than MOST_TARGETS."""
    if len(targets) > MOST_TARGETS:
        raise DriverError(f"a call changes at most {MOST_TARGETS} records, got {len(targets)}; make several calls")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A record to cancel or to requeue: only if it is in `state`, unless that is None.

    A requeued record has these `attempts`; a cancelled one keeps its own.
    """

    id: str
    state: State | None = None
    attempts: bytes | None = None


CancelAnswer = Literal["cancelled", "requested", "finished", "changed", "unknown"]
"""cancelled: it had not started and never will. requested: it is active; the next heartbeat of its worker returns it.
finished: it had finished, or it was a damaged record that waited, which is now set aside. changed: it is in another
state than the caller named, and nothing was done."""

RequeueAnswer = Literal["requeued", "unfinished", "key_taken", "damaged", "changed", "unknown"]
"""requeued: it is due now. unfinished: it is queued or active. key_taken: another record holds its key. damaged: it
cannot be read. changed: it is in another state than the caller named. Only requeued changes anything."""
