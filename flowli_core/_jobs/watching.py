"""Following stored records: one watcher of the store serves all callers of an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextvars import Context
from datetime import timedelta
from itertools import islice
from typing import TypeVar
from weakref import WeakKeyDictionary

from flowli_core._pauses import pauses
from flowli_core.driver import Driver
from flowli_core.errors import RecordNotFound, StoreUnavailable, StrategyError
from flowli_core.retry import leaf_errors
from flowli_core.stored import RecordsById, StoredRecord, Watch

T = TypeVar("T")

_LONGEST_WAIT = 5.0
"""Seconds after which all followed records are read again: the longest delay of a change whose message was lost."""

_PER_CALL = 250


class Follower:
    """A caller that follows a record. Only the last change is kept for it."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._record: StoredRecord | None = None
        self._version: object = self
        self._error: BaseException | None = None

    async def next(self) -> StoredRecord | None:
        """Return the record after its next change, the first time as it is; or None if it is not stored.

        It has no input, meta and log.
        """
        await self._changed.wait()
        self._changed.clear()
        if self._error is not None:
            raise self._error
        return self._record

    def put(self, record: StoredRecord | None) -> None:
        """Note the record as it was just read."""
        version = record and (
            *(record.state, record.updated_at, record.scheduled_for, record.attempts, record.progress),
            *(record.recoveries, record.damage),
        )
        if version != self._version:
            self._record, self._version = record, version
            self._changed.set()

    def fail(self, error: BaseException) -> None:
        """End the following with an error."""
        self._error = error
        self._changed.set()


class _Watcher:
    """The watcher of an event loop. Its task runs while somebody follows a record, and for one more wait."""

    def __init__(self, store: Callable[[], Awaitable[Driver]]) -> None:
        self._store = store
        self._name = secrets.token_hex(8)
        self._followers: dict[str, set[Follower]] = {}
        self._added: dict[str, None] = {}
        self._removed: dict[str, None] = {}
        self._changed: dict[str, None] = {}
        self._has_work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def follow(self, record_id: str) -> AsyncGenerator[Follower]:
        """Follow a record within the context."""
        follower = Follower()
        self._followers.setdefault(record_id, set()).add(follower)
        self._removed.pop(record_id, None)
        self._add([record_id])
        if self._task is None or self._task.done():
            # It serves all callers, so it takes the context variables of none: those of a request may hold its trace.
            self._task = asyncio.create_task(self._run(), context=Context())
        try:
            yield follower
        finally:
            self._leave(record_id, follower)

    def _leave(self, record_id: str, follower: Follower) -> None:
        followers = self._followers.get(record_id, set())
        followers.discard(follower)
        if followers:
            return
        self._followers.pop(record_id, None)
        self._added.pop(record_id, None)
        self._removed[record_id] = None
        self._has_work.set()

    async def end(self) -> None:
        """End the task, and wait until it has ended."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    def fail(self, error: BaseException) -> None:
        """End everybody's following with an error."""
        for followers in self._followers.values():
            for follower in followers:
                follower.fail(error)

    async def _run(self) -> None:
        try:
            driver = await self._retry(self._store)
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(driver))
                await self._listen(driver)
                reader.cancel()
        except* Exception as group_error:  # noqa: BLE001 - the callers raise it
            for error in leaf_errors(group_error):
                self.fail(error)

    async def _listen(self, driver: Driver) -> None:
        """Wait for changes, and have all records added and read again from time to time, while one is followed.

        Whoever follows a record after that starts another task.
        """
        loop = asyncio.get_running_loop()
        again_at = loop.time() + _LONGEST_WAIT
        while True:
            wait = timedelta(seconds=max(again_at - loop.time(), 0.1))
            watch = Watch(watcher=self._name, wait=wait)
            await self._watch(driver, watch)
            if loop.time() >= again_at:
                again_at = loop.time() + _LONGEST_WAIT
                self._add(self._followers)
                if not (self._followers or self._removed):
                    self._task = None
                    return

    async def _read(self, driver: Driver) -> None:
        """Add, remove and read the records that have been noted for that."""
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            added, removed = list(self._added), list(self._removed)
            self._added, self._removed = {}, {}
            for ids in _slices(removed):
                await self._watch(driver, Watch(watcher=self._name, remove=ids))
            for ids in _slices(added):
                await self._watch(driver, Watch(watcher=self._name, add=ids))
                self._changed.update(dict.fromkeys(ids))
            changed, self._changed = self._changed, {}
            for ids in _slices([one for one in changed if one in self._followers]):
                await self._read_slice(driver, ids)

    async def _read_slice(self, driver: Driver, ids: tuple[str, ...]) -> None:
        found = await self._retry(lambda: _find(driver, ids))
        for record_id in ids:
            for follower in self._followers.get(record_id, ()):
                follower.put(found.get(record_id))

    async def _watch(self, driver: Driver, watch: Watch) -> None:
        """Call the store, and note what has changed: each call may return it."""
        changed = await self._retry(lambda: driver.watch(watch))
        if changed:
            self._changed.update(dict.fromkeys(changed))
            self._has_work.set()

    async def _retry(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call while the store is unreachable. As changes may be lost, add and read all records after that."""
        waits: Iterator[float] | None = None
        while True:
            try:
                result = await call()
            except StoreUnavailable:
                waits = pauses() if waits is None else waits
                await asyncio.sleep(next(waits))
                continue
            if waits is not None:
                self._add(self._followers)
            return result

    def _add(self, ids: Iterable[str]) -> None:
        self._added.update(dict.fromkeys(ids))
        self._has_work.set()


class Watching:
    """Follows records for all callers of a registry, on any event loop."""

    def __init__(self) -> None:
        self._watchers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watcher] = WeakKeyDictionary()

    def follow(
        self, store: Callable[[], Awaitable[Driver]], record_id: str
    ) -> contextlib.AbstractAsyncContextManager[Follower]:
        """Follow a record within the context. `store` opens the store if it is not open."""
        loop = asyncio.get_running_loop()
        watcher = self._watchers.get(loop)
        if watcher is None:
            watcher = self._watchers[loop] = _Watcher(store)
        return watcher.follow(record_id)

    async def close(self) -> None:
        """End all following with StrategyError."""
        error = StrategyError("this registry was closed while a job was awaited")
        here = asyncio.get_running_loop()
        for loop, watcher in list(self._watchers.items()):
            if loop is here:
                watcher.fail(error)
                await watcher.end()
            else:
                with contextlib.suppress(RuntimeError):  # that loop is closed
                    loop.call_soon_threadsafe(watcher.fail, error)


def not_found(id: str) -> RecordNotFound:
    """Return the error for an id without a record."""
    return RecordNotFound(f"there is no record {id}: it was never stored, or its retention time is over")


async def _find(driver: Driver, ids: tuple[str, ...]) -> dict[str, StoredRecord]:
    """Read records by their ids, in as many calls as it takes."""
    found: dict[str, StoredRecord] = {}
    while ids:
        part = (await driver.records(RecordsById(ids=ids))).records
        found |= {record.id: record for record in part}
        ids = ids[ids.index(part[-1].id) + 1 :] if part else ()
    return found


def _slices(ids: Iterable[str]) -> Iterator[tuple[str, ...]]:
    rest = iter(ids)
    while part := tuple(islice(rest, _PER_CALL)):
        yield part
