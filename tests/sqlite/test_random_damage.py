"""Random damage to one value of the file: everything that it does not touch goes on."""

from __future__ import annotations

import random
import sqlite3
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.errors import DriverError
from tests.support.damage import Damage, Figures, Scene, outlive

if TYPE_CHECKING:
    from pathlib import Path

    from flowli_core.clock import Clock

_TABLES = ("record",) * 6 + ("payload", "worker", "store", "schedule", "schedule", "counts", "taken_id", "history")
_NAMES = {"record": "id", "schedule": "key", "taken_id": "id"}
_KEYS = {
    "worker": ("id", "waits"),
    "schedule": ("key",),
    "counts": ("queue", "state"),
    "history": ("kind", "start", "name", "queue", "metric"),
}

_VALUES = (
    "NULL",
    "''",
    "'soon'",
    "'q'",
    "-1",
    "0",
    "1",
    "7",
    "1.5",
    "1e300",
    "-9e999",
    "4611686018427387904",
    "9223372036854775807",
    "-9223372036854775808",
    "x''",
    "x'00ff'",
    "x'61'",
    "CAST(x'ff' AS TEXT)",
    "CAST(x'61e900' AS TEXT)",
    "zeroblob(70000)",
    "'waiting'",
    "'active'",
    "'completed'",
    "'{\"attempts_made\":'",
)


class SqliteStore:
    """A file, and another program that changes it as no program may."""

    def __init__(self, path: Path, seed: int) -> None:
        self._path = path
        self._rng = random.Random(seed)  # noqa: S311 - no secret

    def driver(self, clock: Clock) -> SqliteDriver:
        return SqliteDriver(self._path, clock=clock)

    def damage(self) -> Damage:
        """Damage a value, or remove a row."""
        rng, table = self._rng, self._rng.choice(_TABLES)
        self._allow_anything()
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            connection.execute("PRAGMA ignore_check_constraints = on")
            connection.row_factory = sqlite3.Row
            rows = connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - from the list above
            row = rng.choice(rows)
            columns = _KEYS.get(table, ("number" if "number" in row.keys() else "only",))  # noqa: SIM118
            where = " AND ".join(f"{column} = :{column}" for column in columns)
            place = {column: row[column] for column in columns}
            if rng.random() < 0.1:
                what, statement = "removed", f"DELETE FROM {table} WHERE {where}"  # noqa: S608
                connection.execute("DROP TRIGGER record_removed")
            else:
                column, value = rng.choice([name for name in row.keys() if name != "apart"]), rng.choice(_VALUES)  # noqa: SIM118
                what, statement = f"{column} = {value}", f"UPDATE {table} SET {column} = {value} WHERE {where}"  # noqa: S608
            try:
                connection.execute(statement, place)
            except sqlite3.IntegrityError as error:
                what += f" ({error})"
            return Damage(f"{table} {tuple(row)}: {what}", self._victims(connection, table, row))

    def _allow_anything(self) -> None:
        """Remove what SQLite itself checks, as bytes of the file may change in any way."""
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            connection.execute("PRAGMA writable_schema = on")
            connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ' NOT NULL', '') WHERE type = 'table'")

    def _victims(self, connection: sqlite3.Connection, table: str, row: Any) -> frozenset[str]:
        if table == "store":
            return frozenset()
        if table == "payload":
            owner = connection.execute("SELECT id FROM record WHERE number = ?", (row["number"],)).fetchone()
            return frozenset(owner)
        return frozenset({row[_NAMES[table]]} if table in _NAMES else ())


async def damage_at_random(folder: Path, seeds: range) -> Figures:
    figures = Figures()
    for seed in seeds:
        try:
            await outlive(SqliteStore(folder / f"{seed}.sqlite3", seed), figures)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
    return figures


class OverwrittenStore(SqliteStore):
    """A file of which some bytes are others: what the disk of the machine may do."""

    def damage(self) -> Damage:
        """Overwrite some bytes, or a page, of the file or of its log."""
        rng = self._rng
        files = [file for file in self._path.parent.glob(f"{self._path.name}*") if file.suffix != ".sqlite3-shm"]
        data = bytearray((file := rng.choice(sorted(files))).read_bytes())
        for _ in range(rng.choice([1, 1, 4, 64])):
            place, size = rng.randrange(len(data)), rng.choice([1, 1, 4, 300, 4096])
            data[place : place + size] = rng.choice([bytes(size), rng.randbytes(size), b"\xff" * size])
        if rng.random() < 0.1:
            del data[rng.randrange(len(data)) :]
        file.write_bytes(data)
        return Damage(f"bytes of {file.suffix}")


async def use_overwritten(folder: Path, seeds: range) -> str:
    """Use files whose bytes were overwritten. Each call answers, or raises an error of ours that names the cure."""
    refused = 0
    for seed in seeds:
        store = OverwrittenStore(folder / f"{seed}.sqlite3", seed)
        scene = Scene(store)
        await scene.fill()
        store.damage()
        try:
            await scene.commands()
            for use in (scene.read, scene.work_on, scene.read):
                try:
                    await use()
                except DriverError:
                    refused += 1
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
    return f"{len(seeds)} files with overwritten bytes: {refused} of {3 * len(seeds)} uses were refused with our error"


async def test_overwritten_bytes_of_the_file_raise_nothing_but_our_errors(tmp_path: Path) -> None:
    await use_overwritten(tmp_path, range(5, 10))


@pytest.mark.faults
async def test_overwritten_bytes_of_400_files_raise_nothing_but_our_errors(tmp_path: Path) -> None:
    sys.stderr.write(f"{await use_overwritten(tmp_path, range(1_000, 1_400))}\n")


@pytest.mark.parametrize("first", range(0, 60, 10))
async def test_jobs_that_a_damaged_value_does_not_touch_run(tmp_path: Path, first: int) -> None:
    await damage_at_random(tmp_path, range(first, first + 10))


@pytest.mark.faults
async def test_jobs_that_one_of_2_000_damaged_values_does_not_touch_run(tmp_path: Path) -> None:
    sys.stderr.write(f"{await damage_at_random(tmp_path, range(1_000, 3_000))}\n")
