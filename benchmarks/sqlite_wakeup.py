"""Measure how long an idle worker on SQLite takes to notice a record enqueued in its own process, and in another one.

    python -m benchmarks.sqlite_wakeup [rounds]

A round starts with the call of `enqueue` and ends when the worker's waiting step returns, so it includes two commits.
Both processes read the machine's clock (CLOCK_MONOTONIC on Linux), and the other process sends its time.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from flowli_core.driver import Ack, Completed, Reserved, Step
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.new_records import NewRecord

_TIMEOUT = timedelta(seconds=30)
_LEASE = timedelta(seconds=30)
_IDLE_SECONDS = 10


def _record(number: int) -> NewRecord:
    return NewRecord(id=f"job-{time.time_ns()}-{number}", name="noop", queue="default", input=b"{}")


def _waiting_step(name: str, number: int, wait: timedelta) -> Step:
    return Step(worker=name, sequence=number + 1, queues=("default",), want=1, lease=_LEASE, wait=wait)


class _Worker:
    """A worker that reserves and settles due records."""

    def __init__(self, driver: SqliteDriver, name: str) -> None:
        self._driver = driver
        self._name = name
        self._sequence = 0
        self._held: tuple[Reserved, ...] = ()

    async def take_all(self) -> list[str]:
        """Reserve and settle all due records, and return their inputs."""
        inputs: list[str] = []
        while True:
            self._sequence += 1
            acks = tuple(Ack(held.id, held.token, Completed(b"null")) for held in self._held)
            step = Step(
                worker=self._name, sequence=self._sequence, queues=("default",), want=10, lease=_LEASE, acks=acks
            )
            self._held = (await self._driver.step(step)).reserved
            inputs += [held.input.decode() for held in self._held]
            if not self._held:
                return inputs


async def _same_process(driver: SqliteDriver, rounds: int) -> list[float]:
    worker = _Worker(driver, "same")
    taken: list[float] = []
    for number in range(rounds):
        await worker.take_all()
        waiting = asyncio.create_task(driver.step(_waiting_step("same", number, _TIMEOUT)))
        await asyncio.sleep(0.005)
        called = time.monotonic()
        await driver.enqueue([_record(number)])
        await waiting
        taken.append(time.monotonic() - called)
    await worker.take_all()
    return taken


async def _other_process(driver: SqliteDriver, path: Path, rounds: int) -> list[float]:
    worker = _Worker(driver, "other")
    taken: list[float] = []
    enqueuer = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--enqueue", str(path), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert enqueuer.stdin is not None
    assert enqueuer.stdout is not None
    for number in range(rounds):
        await worker.take_all()
        waiting = asyncio.create_task(driver.step(_waiting_step("other", number, _TIMEOUT)))
        # Vary the time, so that rounds do not run in phase with the watcher's polling.
        await asyncio.sleep(0.02 + 0.0007 * (number % 23))
        enqueuer.stdin.write(b"\n")
        await waiting
        woken = time.monotonic()
        taken.append(woken - float(await enqueuer.stdout.readline()))
    enqueuer.stdin.close()
    await enqueuer.wait()
    return taken


async def _enqueue_on_demand(path: str) -> None:
    """Enqueue a record for each line read, and print the time of the call. This runs in the other process."""
    driver = SqliteDriver(path)
    await driver.open()
    number = 0
    while await asyncio.to_thread(sys.stdin.readline):
        number += 1
        called = time.monotonic()
        await driver.enqueue([_record(number)])
        print(called, flush=True)
    await driver.close()


async def _idle(driver: SqliteDriver) -> float:
    """Return the share of one CPU that a process uses while it waits for ten seconds."""
    await _Worker(driver, "idle").take_all()
    before = time.process_time()
    await driver.step(_waiting_step("idle", 0, timedelta(seconds=_IDLE_SECONDS)))
    return (time.process_time() - before) / _IDLE_SECONDS


def _print(name: str, taken: list[float]) -> None:
    cuts = statistics.quantiles(taken, n=100)
    print(f"{name:15} p50 {cuts[49] * 1e3:6.2f} ms   p99 {cuts[98] * 1e3:6.2f} ms   worst {max(taken) * 1e3:6.2f} ms")


async def _main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jobs.sqlite3"
        driver = SqliteDriver(path)
        await driver.open()
        _print("same process", await _same_process(driver, rounds))
        _print("other process", await _other_process(driver, path, rounds))
        print(f"idle            {await _idle(driver):.2%} of one CPU")
        await driver.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--enqueue"]:
        asyncio.run(_enqueue_on_demand(sys.argv[2]))
    else:
        asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 300))
