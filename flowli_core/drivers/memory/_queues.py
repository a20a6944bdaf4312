"""The order in which the waiting records of each queue have their turns, and the paused queues."""

from flowli_core.drivers._paused import too_many_paused
from flowli_core.drivers.memory._index import Entry, Index
from flowli_core.limits import MOST_PAUSED


class Queues:
    """The orders of all queues. An entry is a waiting record that is in no lane, or a lane with waiting records.

    `changed` names the queues whose waiters must be woken.
    """

    def __init__(self) -> None:
        self.now = 0
        self.orders: dict[tuple[str, bool], Index] = {}
        """The entries of each queue by time, its suspects apart."""
        self.paused: dict[str, int] = {}
        """The paused queues, and when each was paused."""
        self.changed: set[str] = set()

    def add(self, queue: str, key: str, time: int, *, suspect: bool) -> None:
        """Add an entry, and wake a waiter for it, or to wait for less long."""
        order = self.orders.setdefault((queue, suspect), Index())
        order.add(time, key)
        if queue not in self.paused and (time <= self.now or order.entries[0] == (time, key)):
            self.changed.add(queue)

    def remove(self, queue: str, key: str, time: int, *, suspect: bool) -> None:
        """Remove an entry that was added with this time."""
        order = self.orders[queue, suspect]
        order.remove(time, key)
        if not order.entries:
            del self.orders[queue, suspect]

    def due(self, queue: str, limit: int, *, suspect: bool = False) -> list[Entry]:
        """Return the first due entries of a queue: its suspects, or the others. None of a paused queue is due."""
        order = self.orders.get((queue, suspect))
        return [] if order is None or queue in self.paused else order.until(self.now, limit)

    def has_due(self, queue: str) -> bool:
        """Return True if an entry of a queue is due, also one of a suspect."""
        return bool(self.due(queue, 1) or self.due(queue, 1, suspect=True))

    def pause(self, queue: str) -> bool:
        """Pause a queue. Return False if it was paused already."""
        if queue in self.paused:
            return False
        if len(self.paused) >= MOST_PAUSED:
            raise too_many_paused()
        self.paused[queue] = self.now
        return True

    def resume(self, queue: str) -> bool:
        """Resume a queue. Return False if it was not paused."""
        if self.paused.pop(queue, None) is None:
            return False
        if (queue, False) in self.orders or (queue, True) in self.orders:
            self.changed.add(queue)  # wake a waiter for what is due, or to wait for less long
        return True
