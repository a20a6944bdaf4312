"""Several processes on one file, also if one of them is killed."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import sys
import time
from asyncio.subprocess import PIPE
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from flowli_core.drivers.sqlite import SqliteDriver
from tests.conformance.builders import PATIENCE, Worker, assert_consistent, record, soon, waiting_step
from tests.sqlite.processes import output, peer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sqlite.processes import Peer

Q = ("q",)


async def test_processes_may_create_the_file_at_the_same_time(path: Path) -> None:
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(peer("open-together", path)) for _ in range(5)]
        for each in peers:
            assert await each.line() == "ready"
        for each in peers:
            await each.send()
        for each in peers:
            assert await each.line() == "done"
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM record").fetchone() == (5,)
    connection.close()


async def test_no_record_is_reserved_by_two_workers_and_none_is_lost(path: Path, driver: SqliteDriver) -> None:
    """Two workers drain what this process enqueues at the same time."""
    enqueued = [record() for _ in range(400)]
    said: dict[int, list[str]] = {0: [], 1: []}
    all_settled = asyncio.Event()

    async def listen(worker: Peer, lines: list[str]) -> None:
        while True:
            lines.append(await worker.line())
            if len(said[0]) + len(said[1]) >= len(enqueued):
                all_settled.set()

    async with peer("work", path) as one, peer("work", path) as other:
        assert [await one.line(), await other.line()] == ["ready", "ready"]
        listening = [asyncio.create_task(listen(one, said[0])), asyncio.create_task(listen(other, said[1]))]
        for i in range(0, len(enqueued), 10):
            await driver.enqueue(enqueued[i : i + 10])
        async with asyncio.timeout(PATIENCE):
            await all_settled.wait()
        for task in listening:
            task.cancel()
        await asyncio.wait(listening)
    ids, tokens, acks = zip(*[line.split() for line in said[0] + said[1]], strict=True)
    assert sorted(ids) == sorted(one.id for one in enqueued)
    assert set(acks) == {"ok"}
    assert set(tokens[: len(said[0])]).isdisjoint(tokens[len(said[0]) :])
    assert (await driver.overview()).counts.completed == len(enqueued)


async def test_a_process_killed_at_any_moment_leaves_whole_transitions(path: Path) -> None:
    """Every answered transition is stored, no transition is stored in part, and the next process can continue."""
    moments = random.Random(20260101)  # noqa: S311 - not a secret
    stored: list[str] = []
    for _ in range(8):
        async with peer("churn", path) as victim:
            for _ in range(moments.randrange(1, 40)):
                stored += (await victim.line()).split()
            # The process goes on meanwhile, so it is killed at a random moment.
            busy_for(moments.random() / 200)
            stored += [record_id for line in await victim.kill() for record_id in line.split()]
        check_file(path, stored)
    survivor = SqliteDriver(path)
    await survivor.open()
    await survivor.enqueue([record()])
    await Worker(survivor, "survivor").step(want=100)
    await assert_consistent(survivor)
    await survivor.close()


def busy_for(seconds: float) -> None:
    """Spin, because a sleep would run in phase with the scheduler."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def check_file(path: Path, stored: list[str]) -> None:
    """Check a file with nothing but SQLite."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        counted = connection.execute("SELECT queue, state, count(*) FROM record GROUP BY 1, 2 ORDER BY 1, 2").fetchall()
        assert connection.execute("SELECT * FROM counts WHERE n <> 0 ORDER BY 1, 2").fetchall() == counted
        numbers = connection.execute("SELECT number FROM record ORDER BY 1").fetchall()
        assert connection.execute("SELECT number FROM payload ORDER BY 1").fetchall() == numbers
        completed = sum(n for _, state, n in counted if state == "completed")
        for metric, n in (("enqueued*", len(numbers)), ("completed*", completed)):
            query = "SELECT ifnull(sum(n), 0) FROM history WHERE kind IN ('recent', 'total') AND metric GLOB ?"
            assert connection.execute(query, (metric,)).fetchone() == (n,)
        there = {row[0] for row in connection.execute("SELECT id FROM record")}
        assert set(stored) <= there
    finally:
        connection.close()


async def test_another_process_wakes_a_waiter(path: Path, driver: SqliteDriver) -> None:
    worker = Worker(driver)
    async with peer("enqueue-on-demand", path) as enqueuer:
        assert await enqueuer.line() == "ready"
        for _ in range(3):
            assert await worker.take() == ()
            waiting = asyncio.create_task(driver.step(waiting_step()))
            await enqueuer.send()
            assert len((await soon(waiting)).reserved) == 1


async def test_a_forked_process_must_open_a_driver_of_its_own(path: Path) -> None:
    error, queued = (await output("fork", path)).splitlines()
    assert "open a driver in each process, after the fork" in error
    # One was stored before the fork, one by each driver of the child, and one by the parent afterwards.
    assert queued == "4"


async def output_on_a_small_disk(program: str, folder: Path) -> list[str]:
    """Run a program on a file that has a disk of its own, of 20 MiB. Return the lines that it writes."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare to make a disk with")
    command = f"mount -t tmpfs -o size=20m none {folder} && exec {sys.executable} -m tests.sqlite.programs"
    process = await asyncio.create_subprocess_exec(
        *("unshare", "-rm", "sh", "-c", f"{command} {program} {folder}/jobs.sqlite3"), stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(PATIENCE):
        out, complaints = await process.communicate()
    if b"unshare" in complaints or b"mount" in complaints:
        pytest.skip("this user may not mount a disk")
    return out.decode().splitlines()


async def test_a_file_on_a_disk_that_others_have_filled_says_so(tmp_path: Path) -> None:
    (said,) = await output_on_a_small_disk("open-on-a-full-disk", tmp_path)
    assert "has no room left on its disk; make room and repeat the call" in said


async def test_a_full_disk_refuses_new_jobs_and_nothing_else(tmp_path: Path) -> None:
    """Those that are stored run and are purged, also by a worker that starts when the disk is full."""
    refusal, ran, purged, queued = await output_on_a_small_disk("use-a-full-disk", tmp_path)
    assert "less than 8 MiB left on its disk, and these are kept for settling and purging jobs" in refusal
    done, disk, file = ran.split()
    assert int(done) > 100
    assert (disk, file) == ("bad", "ok")
    assert purged == done
    assert queued == "1"


async def test_a_file_that_may_not_grow_is_unavailable_until_the_limit_is_raised(path: Path) -> None:
    said, stored, more = (await output("fill-the-disk", path)).splitlines()
    assert str(path) in said
    assert "at most 4194304 bytes; raise that limit (ulimit -f)" in said
    stored_before, counted = stored.split()
    assert 0 < int(stored_before) < 100
    assert counted == stored_before
    assert more == "1"
