"""The health endpoint of a worker, over real HTTP."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import httpx2

from flowli_core import Runner
from flowli_core.cli._worker.health_server import HealthServer
from flowli_core.durations import duration
from tests.cli.processes import flowli
from tests.support.running import Work, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.app import WorkerJobs


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_worker_is_live_and_ready_and_counts(jobs: WorkerJobs, tmp_path: Path) -> None:
    port = free_port()
    await jobs.count.enqueue_many(range(3))
    await jobs.count.options(queue="unserved").enqueue(4)
    async with flowli(tmp_path, "worker", "tests.cli.app:jobs", "--health-port", str(port)) as worker:
        for _ in range(3):
            await worker.wait_for("completed")
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/live")).status_code == 200
            assert (await client.get("/ready")).json()["status"] == "ready"
            metrics = (await client.get("/metrics")).text
            assert (await client.get("/")).status_code == 404
        head = await send_raw(port, b"HEAD /live HTTP/1.0\r\n\r\n")
        worker.send_sigterm()
        assert await worker.wait_for_exit() == 0
    assert 'flowli_attempts_total{job="count",outcome="completed",queue="default"} 3.0' in metrics
    assert 'flowli_attempt_seconds_count{job="count",queue="default"} 3.0' in metrics
    assert 'flowli_jobs{queue="unserved",state="queued"} 1.0' in metrics
    assert 'flowli_lag_seconds{queue="unserved"}' in metrics
    assert "flowli_workers 1.0" in metrics
    assert head.startswith(b"HTTP/1.0 200 ")
    assert b"Content-Length: 5\r\n" in head
    assert head.endswith(b"\r\n\r\n")


async def test_a_port_that_is_taken_is_reported_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with flowli(tmp_path, "worker", "tests.cli.app:jobs", "--health-port", str(port)) as worker:
            assert await worker.wait_for_exit() == 2
    assert worker.lines == [f"flowli worker: cannot listen on 127.0.0.1:{port}: Address already in use\n"]


async def send_raw(port: int, request: bytes) -> bytes:
    """Return the whole response: an HTTP client drops a body that must not be there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def get(port: int, path: str) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        return await client.get(path)


async def test_a_worker_whose_store_fails_is_live_but_not_ready() -> None:
    work = Work()
    server = HealthServer("127.0.0.1", 0, stall_limit=duration("5m", argument="limit"), metrics=None)
    runner = Runner(work.jobs)
    with server.serve(asyncio.get_running_loop(), runner):
        assert (await get(server.port, "/ready")).status_code == 503
        work.driver.fail("step")
        async with runner:
            await until(lambda: runner.health().last_error is not None)
            ready, live = await get(server.port, "/ready"), await get(server.port, "/live")
            work.driver.mend()
    assert ready.status_code == 503
    assert (ready.json()["status"], ready.json()["reason"]) == ("not ready", "the last call to the store failed")
    assert live.status_code == 200
