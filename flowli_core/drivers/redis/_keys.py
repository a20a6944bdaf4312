"""The names of all keys, in one place. Those of a prefix share one hash tag, so that a cluster keeps them together."""

from __future__ import annotations

LAYOUT = 1

COLUMNS = (
    "record",
    "shape",
    "token",
    "progress",
    "outcome",
    "recoveries",
    "lease",
    "completed",
    "failed",
    "cancelled",
    "expiry",
    "holder",
    "cancelling",
    "counts",
    "queues",
    "serial",
    "workers",
    "tick",
)
"""In the order in which every script expects them: see lua/columns.lua."""


class Keys:
    """The keys of one prefix."""

    def __init__(self, prefix: str) -> None:
        self._root = f"{{{prefix}}}:{LAYOUT}:"
        self.columns = tuple(self._root + column for column in COLUMNS)
        self.queues = self._root + "queues"
        self.shape = self._root + "shape"
        self.schedules = (self._root + "schedule", self._root + "schedules")
        """What only the scripts for schedules take: each by its key, and the keys in order."""
        self.scratch = self._root + "scratch"

    def of_queue(self, queue: str) -> tuple[str, str, str]:
        """Due, suspect and wake of a queue."""
        return self._root + "due:" + queue, self._root + "suspect:" + queue, self.wake(queue)

    def named(self, name: str) -> str:
        """The key of a column, or of a queue, by the name that the scripts have for it."""
        return self._root + name

    def wake(self, queue: str) -> str:
        """The wake marker of a queue."""
        return self._root + "wake:" + queue

    def worker(self, worker: str) -> str:
        """What a worker was last told."""
        return self._root + "worker:" + worker

    def ahead(self, worker: str) -> str:
        """What a worker was last told by a step that came with a wait."""
        return self._root + "ahead:" + worker
