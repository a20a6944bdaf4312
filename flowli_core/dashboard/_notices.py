"""The result of an action, as the page after it says it.

It is passed in the address of that page, as a code and numbers, so that a forged link cannot say anything else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Tone = Literal["good", "bad"]

_MOST_DIGITS = 12

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
    "cancelled_all": ("good", "Jobs cancelled, or to be cancelled by their workers: {changed}."),
    "requeued_all": ("good", "Jobs queued again: {changed}."),
    "purged_all": ("good", "Jobs removed: {changed}."),
    "unchanged": ("bad", "It is in this state already. Nothing was done."),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an action: the code of a sentence, and for a change of many jobs their numbers.

    A partial one has stopped because it took too long.
    """

    code: str
    changed: int | None = None
    skipped: int = 0
    is_partial: bool = False

    def __str__(self) -> str:
        """Return it for the log."""
        if self.changed is None:
            return self.code
        more = ", stopped because it took too long" if self.is_partial else ""
        return f"{self.code}: {self.changed} changed, {self.skipped} skipped{more}"

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the page after the action."""
        query = {"notice": self.code}
        if self.changed is not None:
            query |= {"notice_changed": str(self.changed), "notice_skipped": str(self.skipped)}
        return query | ({"notice_partial": "1"} if self.is_partial else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A sentence about an action, and if it has succeeded."""

    tone: Tone
    text: str


def read_notice(query: Mapping[str, str]) -> Notice | None:
    """Return the notice in the parameters of a page, if there is a valid one."""
    found = _TEXTS.get(query.get("notice", ""))
    if found is None:
        return None
    tone, text = found
    text = text.format(changed=_number(query, "notice_changed"))
    if (skipped := _number(query, "notice_skipped")) != "0":
        text += f" Skipped, because they had changed or could not be changed: {skipped}."
    if query.get("notice_partial"):
        text += " This took long, so it was stopped. Repeat it to go on."
    return Notice(tone=tone, text=text)


def _number(query: Mapping[str, str], name: str) -> str:
    text = query.get(name, "")
    return f"{int(text):,}" if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else "0"
