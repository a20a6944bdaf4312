"""A server whose memory fills up under load, with workers that are killed and started while it is full."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from flowli_core import FlowliError, StoreUnavailable
from tests.faults.scene import Scene, scene, stopped
from tests.redis.server import Server
from tests.support.figures import note_figures
from tests.support.running import soon

ROOM = 32 * 1024 * 1024
SIZE, BATCH, SLOTS = 10_000, 20, 20
RESTARTS = 3
COMMANDS = (("status", "--json"), ("doctor",), ("jobs", "list", "completed"))
"""The commands of an operator. `doctor` exits with 1, because the memory is full."""


async def fill(place: Scene) -> list[str]:
    """Enqueue jobs until the server refuses them, and return the ids of those that it accepted."""
    accepted: list[str] = []
    while True:
        try:
            accepted += [receipt.id for receipt in await place.jobs.carry.enqueue_many(["x" * SIZE] * BATCH)]
        except StoreUnavailable:
            return accepted


@pytest.mark.faults
async def test_workers_start_and_operators_make_room_while_the_memory_of_the_server_is_full(tmp_path: Path) -> None:
    """No accepted job is lost. A new worker drains the queue, and after a purge jobs are accepted again."""
    with Server() as server:
        async with scene(tmp_path, server.url, "full") as place:
            server.call("CONFIG", "SET", "maxmemory", server.call("INFO", "memory")["used_memory"] + ROOM)
            async with place.worker(concurrency=SLOTS) as first:
                await place.jobs.quick.enqueue(1)
                await place.started(1)
                accepted = await fill(place)
                first.kill()
                await first.wait()
            killed = 1
            for _ in range(RESTARTS):
                server.call("SCRIPT", "FLUSH")
                begun = len(place.folder.runs())
                async with place.worker(concurrency=SLOTS) as next_one:
                    await place.started(begun + SLOTS)
                    next_one.kill()
                    assert await soon(next_one.wait()) == -signal.SIGKILL
                killed += 1
            async with place.worker(concurrency=SLOTS) as last:
                counts = await place.until_finished()
                assert await stopped(last) == 0
            assert (counts.completed, counts.failed) == (len(accepted) + 1, 0)
            starts = Counter(record_id for _, record_id, _ in place.folder.runs())
            twice = sum(count > 1 for count in starts.values())
            assert twice <= killed * SLOTS
            with pytest.raises(FlowliError, match="out of memory"):
                await place.jobs.carry.enqueue_many(["x" * SIZE] * BATCH * 10)
            server.call("SCRIPT", "FLUSH")
            commands = {words: await place.command(*words) for words in COMMANDS}
            assert [(one.code, "Traceback" in one.err) for one in commands.values()] == [
                (0, False),
                (1, False),
                (0, False),
            ]
            assert commands["status", "--json"].json["counts"]["completed"] == len(accepted) + 1
            purged = await place.command("jobs", "purge", "completed", "--yes")
            assert (purged.code, purged.err) == (0, "")
            async with place.worker() as worker:
                receipts = await place.jobs.carry.enqueue_many(["x" * SIZE] * BATCH)
                await place.until_finished()
                assert await stopped(worker) == 0
            await place.all_completed(receipt.id for receipt in receipts)
    note_figures(
        f"full server: {len(accepted)} jobs accepted before it was full, {killed} workers killed and {killed} started "
        f"while it was full: 0 lost, {twice} started twice; {purged.out.strip()}, then {BATCH} more accepted"
    )
