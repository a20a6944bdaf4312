"""Programs for other processes: `python -m tests.sqlite.programs NAME PATH ...`. They write to stdout."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
import warnings
from pathlib import Path

from flowli_core.driver import Ack, Completed, Lease, Retried
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.errors import DriverError, StoreUnavailable
from flowli_core.new_records import NewRecord
from tests.conformance.builders import DONE, HOUR, LEASE, Worker, waiting_step

_NOBODY = 65534
_MIB = 1024 * 1024


def write_line(*words: object) -> None:
    """Write a line."""
    print(*words, flush=True)  # noqa: T201 - it is how a program answers


async def read_line() -> bool:
    """Wait for a line. Return False at the end of the input."""
    return bool(await asyncio.to_thread(sys.stdin.readline))


def new(number: int | str) -> NewRecord:
    """Make a record whose id no other process uses."""
    return NewRecord(id=f"{os.getpid()}-{number}", name="n", queue="q", input=b"x" * 100, keep_completed=HOUR)


async def open_as_nobody(path: Path) -> None:
    """Open the file with the rights of any user."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    driver = SqliteDriver(path, busy_timeout="50ms")
    try:
        await driver.open()
    except DriverError as error:
        write_line(error)
    await driver.close()


async def open_together(path: Path) -> None:
    """Wait for a line, then open the file and store a record."""
    write_line("ready")
    await read_line()
    driver = SqliteDriver(path)
    await driver.open()
    await driver.enqueue([new(0)])
    await driver.close()
    write_line("done")


async def enqueue_on_demand(path: Path) -> None:
    """Store a record for each line of input."""
    driver = SqliteDriver(path)
    await driver.open()
    write_line("ready")
    number = 0
    while await read_line():
        number += 1
        await driver.enqueue([new(number)])
        write_line("enqueued")
    await driver.close()


async def work(path: Path) -> None:
    """Reserve and settle due records forever; write the id and the token of each."""
    driver = SqliteDriver(path)
    await driver.open()
    worker = Worker(driver, f"w{os.getpid()}")
    write_line("ready")
    while True:
        answer = await worker.step(want=5)
        if not answer.reserved:
            await driver.step(waiting_step(want=0))
            continue
        settled = await worker.step(*[Ack(held.id, held.token, DONE) for held in answer.reserved])
        for held, ack in zip(answer.reserved, settled.acks, strict=True):
            write_line(held.id, held.token, ack)


async def churn(path: Path) -> None:
    """Store, reserve, settle and retry forever; write the ids of the records that are stored."""
    driver = SqliteDriver(path)
    await driver.open()
    worker = Worker(driver, f"w{os.getpid()}")
    number = 0
    while True:
        batch = [new(number + i) for i in range(1 + number % 7)]
        number += len(batch)
        await driver.enqueue(batch)
        write_line(*[record.id for record in batch])
        held = (await worker.step(want=4)).reserved
        acks = [Ack(one.id, one.token, Retried(LEASE, b"{}") if i % 3 else DONE) for i, one in enumerate(held)]
        await worker.step(*acks)


async def fork(path: Path) -> None:
    """Fork with an open driver; write the error of the child, and check that both can use drivers of their own."""
    driver = SqliteDriver(path)
    await driver.open()
    await driver.enqueue([new("before")])
    inherits, tells = os.pipe()
    with warnings.catch_warnings():
        # From 3.12 on Python warns about a fork with threads, which is the point here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        # The loop of the parent cannot run here; pretend that there is none.
        os.write(tells, _in_the_child(driver, path).encode())
        os._exit(0)
    os.close(tells)
    with os.fdopen(inherits) as pipe:
        write_line(pipe.read())
    os.waitpid(child, 0)  # noqa: ASYNC222 - it has ended
    await driver.enqueue([new("after")])
    write_line((await driver.overview()).counts.queued)
    await driver.close()


def _in_the_child(driver: SqliteDriver, path: Path) -> str:
    said: list[str] = []
    asyncio._set_running_loop(None)

    async def use() -> None:
        try:
            await driver.enqueue([new("refused")])
        except DriverError as error:
            said.append(str(error))
        await driver.close()
        for own in (driver, SqliteDriver(path)):
            await own.open()
            await own.enqueue([new(f"child {id(own)}")])
            await own.close()

    asyncio.run(use())
    return said[0]


async def fill_the_disk(path: Path) -> None:
    """Store records until files may not grow any more, then allow them to grow."""
    driver = SqliteDriver(path)
    await driver.open()
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * _MIB, resource.RLIM_INFINITY))
    stored = 0
    try:
        while stored < 100:
            await driver.enqueue([NewRecord(id=f"big-{stored}", name="n", queue="q", input=b"x" * 256 * 1024)])
            stored += 1
    except StoreUnavailable as error:
        write_line(error)
    write_line(stored, (await driver.overview()).counts.queued)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await driver.enqueue([new("more")])
    write_line((await driver.overview()).counts.queued - stored)
    await driver.close()


async def use_a_full_disk(path: Path) -> None:
    """Store records on a small disk until no more are accepted, then run and purge them, and store another."""
    driver = SqliteDriver(path)
    await driver.open()
    try:
        for number in range(1_000):
            await driver.enqueue([NewRecord(id=f"big-{number}", name="n", queue="q", input=b"x" * 64 * 1024)])
    except StoreUnavailable as error:
        write_line(error)
    later = SqliteDriver(path)
    await later.open()
    worker = Worker(later, "later")
    done = 0
    while held := (await worker.step(want=10)).reserved:
        await later.heartbeat("later", [Lease(one.id, one.token) for one in held], LEASE)
        settled = await worker.step(*[Ack(one.id, one.token, Completed(b"y" * 16 * 1024)) for one in held])
        done += settled.acks.count("ok")
    checks = {check.name: check.verdict for check in await later.diagnose()}
    write_line(done, checks["disk"], checks["file"])
    purged = 0
    while removed := await later.purge("completed", older_than=-HOUR, limit=1_000):
        purged += removed
    write_line(purged)
    await driver.enqueue([new("more")])
    write_line((await driver.overview()).counts.queued)
    await later.close()
    await driver.close()


async def open_on_a_full_disk(path: Path) -> None:
    """Open a file on a disk that another program has filled."""
    driver = SqliteDriver(path)
    await driver.open()
    await driver.close()
    with path.with_name("other").open("wb", buffering=0) as other, contextlib.suppress(OSError):
        while other.write(bytes(4096)):
            pass
    try:
        await driver.open()
    except StoreUnavailable as error:
        write_line(error)


PROGRAMS = {
    "open-as-nobody": open_as_nobody,
    "open-together": open_together,
    "enqueue-on-demand": enqueue_on_demand,
    "work": work,
    "churn": churn,
    "fork": fork,
    "fill-the-disk": fill_the_disk,
    "use-a-full-disk": use_a_full_disk,
    "open-on-a-full-disk": open_on_a_full_disk,
}

if __name__ == "__main__":
    asyncio.run(PROGRAMS[sys.argv[1]](Path(sys.argv[2])))
