"""A server that loses its last writes again and again, while worker processes hold jobs that it no longer knows of."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.faults.scene import Scene, scene, stopped
from tests.redis.server import Server
from tests.support.figures import note_figures

ROUNDS = int(os.environ.get("FLOWLI_LOSSES", "10"))
JOBS, HELD = 20, 10


async def lose_writes(place: Scene, server: Server) -> tuple[set[int], set[int]]:
    """Let the server forget what it gave to a worker that stands still, and return the tokens of the two workers.

    The first worker then continues, and returns the jobs that it holds. The other one must keep them.
    """
    ids = [(await place.jobs.token.enqueue()).id for _ in range(JOBS)]
    server.call("SAVE")
    async with place.worker(concurrency=HELD, lease="60s", drain="50ms") as early:
        await place.started(HELD)
        early.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        async with place.worker(concurrency=JOBS, lease="60s") as late:
            await place.started(HELD + JOBS)
            early.terminate()
            early.send_signal(signal.SIGCONT)
            assert await early.wait() == 0
            later = await place.jobs.token.enqueue()
            async with place.worker(concurrency=JOBS, lease="60s") as idle:
                await place.started(HELD + JOBS + 1)
                place.folder.gate.touch()
                await place.until_finished()
                assert (await stopped(late), await stopped(idle)) == (0, 0)
    runs = place.folder.runs()
    assert {record_id for _, record_id, process in runs if process == late.pid} == set(ids)
    assert [record_id for _, record_id, process in runs if process == idle.pid] == [later.id]
    for record_id in ids:
        *earlier, last = [token for token, one, _ in runs if one == record_id]
        assert all(token < last for token in earlier)
        record = await place.job(record_id)
        assert (record.state, record.result) == ("completed", last)
    tokens_of_early, tokens_of_late = ({one for one, _, pid in runs if pid == which.pid} for which in (early, late))
    return tokens_of_early, tokens_of_late


@pytest.mark.faults
async def test_no_token_is_used_again_however_often_the_server_loses_its_last_writes(tmp_path: Path) -> None:
    """Late outcomes of jobs that another worker runs are refused."""
    used: set[int] = set()
    with Server("--dbfilename", "dump.rdb") as server:
        for number in range(ROUNDS):
            folder = tmp_path / str(number)
            folder.mkdir()
            async with scene(folder, server.url, f"lost-{number}") as place:
                for tokens in await lose_writes(place, server):
                    assert used.isdisjoint(tokens)
                    used |= tokens
    note_figures(
        f"writes lost {ROUNDS} times, {ROUNDS * HELD} jobs held by two workers: {len(used)} tokens, none used twice, "
        "no late outcome accepted"
    )
