"""Finds out which watched records have changed.

The file holds nothing about watchers. A watcher remembers the version of each record that it watches, and compares it
with the file after each commit. So watching costs other calls nothing, and nothing is left behind by a process that
dies.
"""

import json
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from flowli_core.drivers._times import milliseconds
from flowli_core.drivers.sqlite._sql import run
from flowli_core.limits import WATCHER_MEMORY
from flowli_core.stored import Watch

_Version = tuple[object, ...]
"""The values of a record that differ after each change; empty if it is not stored."""


@dataclass(slots=True, eq=False)
class _Watcher:
    """A watcher: when it last called, and the records that it watches, as it has last seen them."""

    seen: int
    versions: dict[str, _Version] = field(default_factory=dict[str, _Version])


class Changes:
    """The watchers of a process. All calls are made by one thread."""

    def __init__(self) -> None:
        self._watchers: OrderedDict[str, _Watcher] = OrderedDict()

    def find(self, connection: sqlite3.Connection, watch: Watch, now: int) -> list[str]:
        """Change what a watcher watches. Return the ids of the records that have changed since the last call."""
        watcher = self._watchers.setdefault(watch.watcher, _Watcher(now))
        watcher.seen = now
        self._watchers.move_to_end(watch.watcher)
        while next(iter(self._watchers.values())).seen <= now - milliseconds(WATCHER_MEMORY):
            self._watchers.popitem(last=False)
        for record_id in watch.remove:
            watcher.versions.pop(record_id, None)
        seen, current = watcher.versions, _read(connection, [*watcher.versions, *watch.add])
        watcher.versions = current
        return [record_id for record_id, version in seen.items() if current[record_id] != version]


def _read(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, _Version]:
    versions: dict[str, _Version] = dict.fromkeys(ids, ())
    if versions:
        for record_id, *version in run(connection, "find_versions", ids=json.dumps(list(versions))):
            versions[record_id] = tuple(version)
    return versions
