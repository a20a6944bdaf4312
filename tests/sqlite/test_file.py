"""The files that `open` accepts, and the errors for the others."""

# ruff: noqa: ASYNC240 - nothing else runs on the loops of these tests

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import traceback
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flowli_core.drivers import sqlite
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.drivers.sqlite._sql import SQL
from flowli_core.errors import DefinitionError, DriverError, FlowliError, StoreDamaged, StoreUnavailable
from tests.conformance.builders import record
from tests.sqlite.processes import output

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

CODE = Path(sqlite.__file__).parent


async def refusal(path: Path) -> str:
    """Return the error message of `open`."""
    driver = SqliteDriver(path, busy_timeout="50ms")
    with pytest.raises(DriverError) as refused:
        await driver.open()
    await driver.close()
    return str(refused.value)


def write(path: Path, script: str) -> None:
    """Write to a file as another program."""
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


async def make(path: Path, records: int = 0) -> None:
    """Create a file with some records in it."""
    driver = SqliteDriver(path)
    await driver.open()
    await driver.enqueue([record(input=b"x" * 1000) for _ in range(records)])
    await driver.close()


async def test_what_was_stored_is_there_when_the_file_is_opened_again(path: Path) -> None:
    driver = SqliteDriver(path)
    for _ in range(3):
        await driver.open()
        await driver.enqueue([record()])
        await driver.close()
    await driver.open()
    assert (await driver.overview()).counts.queued == 3
    await driver.close()


async def test_opening_again_does_nothing(driver: SqliteDriver) -> None:
    await driver.enqueue([record()])
    await driver.open()
    assert (await driver.overview()).counts.queued == 1


async def test_an_empty_file_is_accepted(path: Path) -> None:
    path.touch()
    await make(path, records=1)


async def test_the_file_has_our_application_id(path: Path) -> None:
    await make(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA application_id").fetchone() == (int.from_bytes(b"FLWL", "big"),)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


async def test_a_newer_layout_is_refused_with_its_number(path: Path) -> None:
    await make(path)
    write(path, "PRAGMA user_version = 99")
    said = await refusal(path)
    assert "layout 99" in said
    assert "upgrade flowli" in said


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE customers (name TEXT); INSERT INTO customers VALUES ('Ann')",
        "PRAGMA user_version = 7",
        "PRAGMA application_id = 7",
    ],
)
async def test_the_file_of_another_application_is_refused_and_left_as_it_is(path: Path, script: str) -> None:
    write(path, script)
    before = path.read_bytes()
    assert "belongs to another application" in await refusal(path)
    assert path.read_bytes() == before


async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_text("secret notes\n" * 200)
    said = await refusal(path)
    assert "is not an SQLite database" in said
    assert "secret" not in said
    assert path.read_text() == "secret notes\n" * 200


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    said = await refusal(tmp_path / "missing" / "jobs.sqlite3")
    assert f"the folder {tmp_path / 'missing'} does not exist; make it first" in said


async def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "is a folder" in await refusal(tmp_path)


async def test_a_file_that_cannot_be_written_is_refused(shared_folder: Path) -> None:
    path = shared_folder / "jobs.sqlite3"
    await make(path)
    path.chmod(0o444)
    shared_folder.chmod(0o555)
    assert "give this user the right to write it" in await output("open-as-nobody", path)


async def test_a_folder_that_cannot_be_written_is_refused(shared_folder: Path) -> None:
    shared_folder.chmod(0o555)
    assert "give this user the right to read and write it" in await output("open-as-nobody", shared_folder / "new")


async def test_a_folder_that_cannot_be_entered_is_refused(shared_folder: Path) -> None:
    """Also if the folder is inside of one that cannot be entered."""
    folder = shared_folder / "closed"
    (folder / "inner").mkdir(parents=True)
    for mode in (0o700, 0o644, 0o000):
        folder.chmod(mode)
        for path in (folder / "jobs.sqlite3", folder / "inner" / "jobs.sqlite3"):
            assert "give this user the right to read and write it and its folder" in await output(
                "open-as-nobody", path
            )


def test_a_relative_path_in_a_removed_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(DefinitionError, match="give an absolute path"):
        SqliteDriver("jobs.sqlite3")


@pytest.mark.parametrize("umask", [0o000, 0o022])
async def test_only_its_user_may_read_a_new_file(path: Path, umask: int) -> None:
    """Nor may others read the two files beside it. This does not depend on the umask, nor on a symbolic link."""
    target = path.with_name("target.sqlite3")
    path.symlink_to(target)
    earlier = os.umask(umask)
    try:
        async with opened(path):
            modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(earlier)
    assert modes.pop(path.name) == 0o600
    assert modes == {f"target.sqlite3{suffix}": 0o600 for suffix in ("", "-wal", "-shm")}


async def test_an_existing_file_keeps_its_mode(path: Path) -> None:
    """A file that was created empty for several users is shared by them, with the two files beside it."""
    path.touch()
    path.chmod(0o660)
    for _ in range(2):
        async with opened(path):
            assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o660}


@asynccontextmanager
async def opened(path: Path) -> AsyncGenerator[None]:
    """Open a driver and store a record."""
    driver = SqliteDriver(path)
    await driver.open()
    await driver.enqueue([record()])
    yield
    await driver.close()


async def test_an_old_sqlite_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    assert "SQLite 3.34.1 is too old; use a Python that was built with 3.35 or newer" in await refusal(path)


@pytest.mark.parametrize("path", ["", ":memory:", b"jobs.sqlite3", "a\0b"])
def test_an_invalid_path_is_refused_at_once(path: object) -> None:
    with pytest.raises(DefinitionError, match="path must be the path of a file"):
        SqliteDriver(path)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("url", "cure"),
    [
        ("sqlite:///jobs.db", ": SqliteDriver('jobs.db')"),
        (Path("sqlite:///jobs.db"), ": SqliteDriver('jobs.db')"),
        ("sqlite+aiosqlite:////var/jobs.db", ": SqliteDriver('/var/jobs.db')"),
        ("file:jobs.db?mode=rwc", ": SqliteDriver('jobs.db')"),
        ("file:///var/jobs.db", ": SqliteDriver('/var/jobs.db')"),
        ("sqlite://", '; to keep records in memory use MemoryDriver, and for a file SqliteDriver("jobs.db")'),
        ("sqlite:///:memory:", '; to keep records in memory use MemoryDriver, and for a file SqliteDriver("jobs.db")'),
        ("memory:", '; to keep records in memory use MemoryDriver, and for a file SqliteDriver("jobs.db")'),
        ("redis://:hunter2@host/0", "; for a server use RedisDriver.from_url(...)"),
        ("postgresql://u:hunter2@host/jobs", ': SqliteDriver("jobs.db")'),
    ],
)
def test_a_url_in_place_of_a_path_is_refused_with_what_to_write(url: str | Path, cure: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        SqliteDriver(url)
    assert str(caught.value) == f"path must be the path of a file, not a URL{cure}"


@pytest.mark.parametrize("path", ["jobs:1.db", "C:/jobs.db", "a/b:c/jobs.db"])
def test_a_path_may_have_a_colon(path: str) -> None:
    assert repr(SqliteDriver(path)) == f"SqliteDriver({str(Path(path).absolute())!r})"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: SqliteDriver("jobs", synchronous="off"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        lambda: SqliteDriver("jobs", busy_timeout="soon"),
    ],
)
def test_wrong_options_are_refused_at_once(wrong: Callable[[], SqliteDriver]) -> None:
    with pytest.raises(FlowliError):
        wrong()


async def test_a_relative_path_is_resolved_at_once(
    path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    driver = SqliteDriver(path.name)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    await driver.open()
    await driver.close()
    assert path.exists()


@pytest.mark.parametrize("attempt", range(5))
async def test_many_drivers_may_create_the_file_at_the_same_time(path: Path, attempt: int) -> None:
    drivers = [SqliteDriver(path) for _ in range(8)]
    await asyncio.gather(*[driver.open() for driver in drivers])
    await asyncio.gather(*[driver.enqueue([record()]) for driver in drivers])
    assert (await drivers[0].overview()).counts.queued == 8
    await asyncio.gather(*[driver.close() for driver in drivers])


async def test_full_synchronous_is_accepted(path: Path) -> None:
    driver = SqliteDriver(path, synchronous="full")
    await driver.open()
    await driver.enqueue([record()])
    await driver.close()


async def test_a_file_that_was_replaced_is_noticed(path: Path, driver: SqliteDriver) -> None:
    """Writes to the old file would be lost with it."""
    await driver.enqueue([record()])
    path.rename(path.with_suffix(".old"))
    with pytest.raises(DriverError, match="was removed or replaced while it was open"):
        await driver.enqueue([record()])


@pytest.mark.parametrize("suffixes", [("-wal",), ("-shm",), ("-wal", "-shm")])
async def test_no_job_is_lost_if_a_file_beside_the_open_one_is_removed(
    path: Path, driver: SqliteDriver, suffixes: tuple[str, ...]
) -> None:
    """Every later call says so. What the driver had stored is in the file, for the processes that start afterwards."""
    await driver.enqueue([record("a"), record("b")])
    for suffix in suffixes:
        Path(f"{path}{suffix}").unlink()
    for _ in range(2):
        with pytest.raises(
            StoreDamaged, match=f"{path}{suffixes[0]} was removed or replaced.*no job was lost; end all"
        ):
            await driver.enqueue([record("c")])
    later = SqliteDriver(path)
    await later.open()
    assert (await later.overview()).counts.queued == 2
    await later.enqueue([record("c")])
    await later.close()


async def test_a_log_that_another_process_has_begun_anew_is_left_to_it(path: Path, driver: SqliteDriver) -> None:
    """To write the old log to the file would undo what the other process has stored."""
    await driver.enqueue([record("a")])
    log = Path(f"{path}-wal")
    log.unlink()
    log.write_bytes(b"of another process")
    before = path.read_bytes()
    with pytest.raises(StoreDamaged, match=r"was removed or replaced.*jobs that were stored before may be lost"):
        await driver.enqueue([record("b")])
    assert path.read_bytes() == before
    log.unlink()


async def test_damaged_pages_raise_a_driver_error(path: Path) -> None:
    await make(path, records=200)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (os.path.getsize(path) - 4096))  # noqa: PTH202 - the path is open
    driver = SqliteDriver(path)
    with pytest.raises(DriverError, match="is damaged; restore it from a backup"):
        await open_and_enqueue(driver)
    await driver.close()


async def open_and_enqueue(driver: SqliteDriver) -> None:
    """Read the first page, and then some others."""
    await driver.open()
    await driver.enqueue([record()])


async def test_values_that_sqlite_cannot_hold_raise_a_driver_error(driver: SqliteDriver) -> None:
    for bad in (record(queue="secret\ud800"), record(max_recoveries=2**70)):
        with pytest.raises(DriverError, match="cannot hold") as refused:
            await driver.enqueue([record(), bad])
        assert not isinstance(refused.value, StoreUnavailable)
        assert "secret" not in "".join(traceback.format_exception(refused.value))
    assert (await driver.overview()).counts.queued == 0


def test_the_statements_are_those_that_the_code_uses() -> None:
    code = "".join(file.read_text() for file in CODE.glob("*.py"))
    used = set(re.findall(r'"([a-z_]+)"', code))
    assert set(SQL) <= used
    called = set(re.findall(r'(?:run|run_many)\(\s*(?:connection,\s*)?"([a-z_]+)"', code))
    assert called <= set(SQL)
    assert len(called) > len(SQL) / 2


def test_no_statement_reads_all_records() -> None:
    """Each uses an index, except those for `flowli doctor` and for a repair."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(SQL["schema"])
    for name, statement in SQL.items():
        if name in {"schema", "count_wrong_counts", "count_again", "find_set_aside", "repair_store"}:
            continue
        parameters = dict.fromkeys(re.findall(r":([a-z_]+)", statement))
        plan = connection.execute("EXPLAIN QUERY PLAN " + statement, parameters).fetchall()
        scans = [step[3] for step in plan if step[3].startswith(("SCAN record", "SCAN payload", "SCAN stored"))]
        assert scans == [], name
    connection.close()


async def test_a_quick_diagnosis_does_not_read_the_whole_file(driver: SqliteDriver) -> None:
    names = {one.name for one in await driver.diagnose(quick=True)}
    assert names >= {"disk", "clock", "persistence"}
    assert not {"file", "records", "fsck"} & names
