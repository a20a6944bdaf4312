"""The result of an action, as the page after it says it.

It is passed in the address of that page, as a code and numbers, so that a forged link cannot say anything else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Tone = Literal["good", "bad"]

_TEXTS: Mapping[str, tuple[Tone, str]] = {
    "cancelled": ("good", "The job is cancelled."),
    "requested": ("good", "The job is running. Its worker cancels it at the next heartbeat."),
    "finished": ("bad", "The job had finished already. Nothing was done."),
    "requeued": ("good", "The job is queued again."),
    "unfinished": ("bad", "The job is queued or running already. Nothing was done."),
    "key_taken": ("bad", "Another unfinished job has the same idempotency key. Nothing was done."),
    "damaged": ("bad", "The data of this job cannot be read. Nothing was done."),
    "changed": ("bad", "The job has changed meanwhile. Nothing was done."),
    "purged": ("good", "The job is removed."),
    "queue_paused": ("good", "The queue is paused. Running jobs go on."),
    "queue_resumed": ("good", "The queue is resumed."),
    "paused": ("good", "The schedule is paused."),
    "resumed": ("good", "The schedule is resumed. Runs that it missed are not made up."),
    "triggered": ("good", "A job of the schedule is queued now."),
    "overlapping": ("bad", "The job of an earlier run is unfinished, so no other was queued."),
    "removed": ("good", "The schedule is removed. Its jobs stay. If code declares it, the next worker start adds it."),
    "unknown": ("bad", "It does not exist any more. Nothing was done."),
    "unchanged": ("bad", "It is in this state already. Nothing was done."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A sentence about an action, and if it has succeeded."""

    tone: Tone
    text: str


def read_notice(query: Mapping[str, str]) -> Notice | None:
    """Return the notice in the parameters of a page, if there is a valid one."""
    found = _TEXTS.get(query.get("notice", ""))
    return None if found is None else Notice(tone=found[0], text=found[1])
