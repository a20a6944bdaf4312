"""The size of a step: the records that it asks for, and the outcomes that it carries."""

from __future__ import annotations

from flowli_core.limits import MAX_BATCH_BYTES

_QUICK_SECONDS = 1.0
"""A step that is answered within this time may be followed by a larger one."""

_MAX_DIVISOR = 1024


class Batches:
    """The limits of the next step. They halve if a step fails, so that a batch fits a slow network at last.

    `records` is how many records a step may ask for, `ack_bytes` the size of the outcomes that it may carry.
    """

    def __init__(self, max_records: int) -> None:
        self._max_records = max_records
        self._divisor = 1

    @property
    def records(self) -> int:
        """The most records that a step may ask for."""
        return max(self._max_records // self._divisor, 1)

    @property
    def ack_bytes(self) -> int:
        """The most bytes of outcomes that a step may carry, unless there is only one."""
        return MAX_BATCH_BYTES // self._divisor

    def note_failure(self) -> None:
        """Halve the limits."""
        self._divisor = min(self._divisor * 2, _MAX_DIVISOR)

    def note_answer(self, seconds: float) -> None:
        """Double the limits if the step was answered quickly."""
        if seconds < _QUICK_SECONDS:
            self._divisor = max(self._divisor // 2, 1)
