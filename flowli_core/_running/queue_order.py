"""The order in which a step looks into the queues: that of the runner, or turns by weight."""

from collections import Counter
from collections.abc import Iterable, Mapping


class QueueOrder:
    """The queues of a runner, in the order for the next step.

    Without weights the order is always the same. With weights, the queue that has had the least for its weight comes
    first. So queues that always have jobs share the runner by their weights, and one that has none leaves its share to
    the others. It gets no more than its share afterwards: a queue that was empty begins where the others are.
    """

    def __init__(self, queues: tuple[str, ...], weights: Mapping[str, int] | None = None) -> None:
        self.names = queues
        """All queues, in the order in which they were given."""
        self._weights = weights
        self._had = dict.fromkeys(queues, 0.0)
        """The number of records of each queue, divided by its weight."""
        self._level = 0.0
        """The same for the queue that was served last, before its last records."""

    def next(self) -> tuple[str, ...]:
        """Return the queues in the order for the next step."""
        if self._weights is None:
            return self.names
        return tuple(sorted(self.names, key=lambda queue: max(self._had[queue], self._level)))

    def note(self, reserved: Iterable[str]) -> None:
        """Count the records of a step, by the queue of each."""
        if self._weights is None:
            return
        served = Counter(queue for queue in reserved if queue in self._had)
        if not served:
            return
        starts = {queue: max(self._had[queue], self._level) for queue in served}
        for queue, count in served.items():
            self._had[queue] = starts[queue] + count / self._weights[queue]
        self._level = min(starts.values())
