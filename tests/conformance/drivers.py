"""The drivers under test, by name."""

from __future__ import annotations

import contextlib
import gc
import re
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType

from flowli_core.clock import Clock, SystemClock
from flowli_core.driver import Driver
from flowli_core.drivers.memory import MemoryDriver


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A driver under test.

    `make` gets an empty directory and a clock, and skips the test if the driver cannot run here. `skips` names the
    tests that do not apply to the driver, with the reasons. `clean_up` is called after each test, when its drivers are
    closed, and fails if they left something behind. `forget` makes the store forget whatever it may forget at any time.
    `size` returns the size of the store of the last driver that was made, in any unit; idle workers do not count.
    `spoil` makes a record of that store unreadable; it is None if there is nothing to read.
    """

    make: Callable[[Path, Clock], Driver]
    size: Callable[[Driver, Path], int]
    clean_up: Callable[[], None] = lambda: None
    skips: Mapping[str, str] = field(default_factory=dict[str, str])
    forget: Callable[[], None] = lambda: None
    spoil: Callable[[Path, str], None] | None = None


def _memory(directory: Path, clock: Clock) -> Driver:
    return MemoryDriver(clock=clock)


def _sqlite(directory: Path, clock: Clock) -> Driver:
    from flowli_core.drivers.sqlite import SqliteDriver  # noqa: PLC0415 - the other drivers do without it

    return SqliteDriver(directory / "jobs.sqlite3", clock=clock)


def _spoil_sqlite(directory: Path, record_id: str) -> None:
    with closing(sqlite3.connect(directory / "jobs.sqlite3", isolation_level=None)) as connection:
        connection.execute("UPDATE record SET name = CAST(x'ff' AS TEXT) WHERE id = ?", (record_id,))


def _redis(directory: Path, clock: Clock) -> Driver:
    from flowli_core.drivers.redis import RedisDriver  # noqa: PLC0415 - the other drivers do without it
    from tests.redis import server  # noqa: PLC0415

    return RedisDriver.from_url(server.shared_url(), prefix=server.fresh_prefix(), clock=_own_time_or(clock))


def _oldest_redis(directory: Path, clock: Clock) -> Driver:
    from flowli_core.drivers.redis import RedisDriver  # noqa: PLC0415 - the other drivers do without it
    from tests.redis import server  # noqa: PLC0415

    url = server.oldest_url()
    return RedisDriver.from_url(server.as_user(url), prefix=server.fresh_prefix(url), clock=_own_time_or(clock))


def _valkey(directory: Path, clock: Clock) -> Driver:
    from tests.redis import clients, server  # noqa: PLC0415 - the other drivers do without them

    url = server.valkey_url()
    return clients.OwningDriver(
        clients.client_of("valkey", url), prefix=server.fresh_prefix(url), clock=_own_time_or(clock)
    )


def _coredis(directory: Path, clock: Clock) -> Driver:
    from tests.redis import clients, server  # noqa: PLC0415 - the other drivers do without them

    client = clients.client_of("coredis", server.shared_url())
    return clients.OwningDriver(client, prefix=server.fresh_prefix(), clock=_own_time_or(clock))


def _own_time_or(clock: Clock) -> Clock | None:
    """Return None in place of the system clock: a server has the time, and knows it better after a wait."""
    return None if isinstance(clock, SystemClock) else clock


def count_objects(driver: Driver, directory: Path | None = None) -> int:
    """Count the objects that a driver holds, except numbers: CPython shares the small ones."""
    found: dict[int, object] = {}
    rest: list[object] = [driver]
    while rest:
        one = rest.pop()
        if id(one) not in found and not isinstance(one, type | ModuleType | FunctionType | int):
            found[id(one)] = one
            rest += gc.get_referents(one)
    return len(found)


def _size_of_file(driver: Driver, directory: Path) -> int:
    """Return the length of an SQL script that makes the database. Each number counts as one digit."""
    with contextlib.closing(sqlite3.connect(directory / "jobs.sqlite3")) as connection:
        return sum(len(re.sub("[0-9]+", "0", statement)) for statement in connection.iterdump())


def _size_of_keys(driver: Driver, directory: Path) -> int:
    from tests.redis import server  # noqa: PLC0415 - the other drivers do without it

    return server.size()


def _spoil_redis(directory: Path, record_id: str) -> None:
    from tests.redis import server  # noqa: PLC0415 - the other drivers do without it

    server.spoil(record_id)


def _clean_up_redis() -> None:
    from tests.redis import server  # noqa: PLC0415 - the other drivers do without it

    server.clean_up()


def _flush_scripts() -> None:
    from tests.redis import server  # noqa: PLC0415 - the other drivers do without it

    server.forget_scripts(server.shared_url())


def _flush_scripts_of_valkey() -> None:
    from tests.redis import server  # noqa: PLC0415 - the other drivers do without it

    server.forget_scripts(server.valkey_url())


def _on_a_server(make: Callable[[Path, Clock], Driver], forget: Callable[[], None] = lambda: None) -> Candidate:
    return Candidate(make=make, size=_size_of_keys, clean_up=_clean_up_redis, forget=forget, spoil=_spoil_redis)


CANDIDATES: Mapping[str, Candidate] = {
    "memory": Candidate(make=_memory, size=count_objects),
    "sqlite": Candidate(make=_sqlite, size=_size_of_file, spoil=_spoil_sqlite),
    "redis": _on_a_server(_redis, _flush_scripts),
    "redis-6.2-least-rights": _on_a_server(_oldest_redis),
    "valkey": _on_a_server(_valkey, _flush_scripts_of_valkey),
    "coredis": _on_a_server(_coredis, _flush_scripts),
}
