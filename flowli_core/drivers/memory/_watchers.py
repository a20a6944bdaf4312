"""The watchers of records, and the changes that they have not seen yet."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from flowli_core.drivers._times import milliseconds
from flowli_core.drivers._wakeups import Waiter
from flowli_core.limits import WATCHER_MEMORY
from flowli_core.stored import Watch


@dataclass(slots=True, eq=False)
class _Watcher:
    """A watcher: when it last called, the ids that it watches, those that have changed since, and its waiting call."""

    seen: int
    ids: set[str] = field(default_factory=set[str])
    changed: dict[str, None] = field(default_factory=dict[str, None])
    waiter: Waiter | None = None


class Watchers:
    """The watchers of all records. The driver holds its lock around each call."""

    def __init__(self) -> None:
        self._watchers: OrderedDict[str, _Watcher] = OrderedDict()

    def call(self, watch: Watch, now: int) -> list[str]:
        """Change what a watcher watches. Return the ids of the records that have changed, and forget the changes."""
        watcher = self._watchers.setdefault(watch.watcher, _Watcher(now))
        watcher.seen = now
        self._watchers.move_to_end(watch.watcher)
        while next(iter(self._watchers.values())).seen <= now - milliseconds(WATCHER_MEMORY):
            self._watchers.popitem(last=False)
        watcher.ids.update(watch.add)
        watcher.ids.difference_update(watch.remove)
        changed, watcher.changed = list(watcher.changed), {}
        return [record_id for record_id in changed if record_id in watcher.ids]

    def join(self, name: str, waiter: Waiter) -> None:
        """Let a waiting call be woken by the next change."""
        self._watchers[name].waiter = waiter

    def notify(self, ids: Iterable[str]) -> None:
        """Note that records have changed, and wake the watchers that wait for them."""
        changed = dict.fromkeys(ids)
        for watcher in self._watchers.values() if changed else ():
            seen = [record_id for record_id in changed if record_id in watcher.ids]
            watcher.changed.update(dict.fromkeys(seen))
            if seen and watcher.waiter is not None:
                watcher.waiter.wake()

    def wake_all(self) -> None:
        """Wake every waiting call."""
        for watcher in self._watchers.values():
            if watcher.waiter is not None:
                watcher.waiter.wake()
