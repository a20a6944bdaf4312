"""The health endpoint of a worker, over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx2
import pytest
from prometheus_client import CollectorRegistry

from flowli_core import Runner
from flowli_core.cli._worker import health_server
from flowli_core.cli._worker.health_server import MAX_CONNECTIONS, HealthServer
from flowli_core.durations import duration
from flowli_core.metrics import PrometheusMetrics
from tests.cli.processes import flowli
from tests.support.running import PATIENCE, Work, until

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
    async with flowli(tmp_path, "worker", "tests.cli.app:jobs", "-q", "default", "--health-port", str(port)) as worker:
        for _ in range(3):
            await worker.wait_for("completed")
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/live")).status_code == 200
            assert (await client.get("/ready")).json()["status"] == "ready"
            metrics = (await client.get("/metrics")).text
            assert (await client.get("/")).status_code == 404
        head = await send_raw(port, b"HEAD /live HTTP/1.0\r\n\r\n")
        with pytest.raises(OSError, match=r"refused|assign"):  # it listens on 127.0.0.1 only
            socket.create_connection(("127.0.0.2", port))
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


async def test_a_worker_whose_slots_are_all_held_by_handlers_that_never_end_is_neither_live_nor_ready() -> None:
    work, release = Work(), threading.Event()
    work.deeds.toil = lambda _: release.wait(PATIENCE)
    server = HealthServer("127.0.0.1", 0, stall_limit=duration("5m", argument="limit"), metrics=None)
    runner = Runner(work.jobs, concurrency=2, cancel_grace="10ms")
    with server.serve(asyncio.get_running_loop(), runner):
        async with runner:
            (first, second) = await work.jobs.toil.options(timeout="10ms").enqueue_many([1, 2])
            await work.until(first.id, "failed")
            await work.until(second.id, "failed")
            ready, live = await get(server.port, "/ready"), await get(server.port, "/live")
            release.set()
            await until(lambda: runner.health().is_ready)
            assert (await get(server.port, "/live")).status_code == 200
    reason = "every slot is held by a handler that did not end when it was cancelled"
    assert (ready.status_code, ready.json()["reason"]) == (503, reason)
    assert (live.status_code, live.text) == (503, f"{reason}\n")


@asynccontextmanager
async def served(work: Work, metrics: PrometheusMetrics | None = None) -> AsyncGenerator[int]:
    """Serve the health of a runner that runs, and yield the port."""
    server = HealthServer("127.0.0.1", 0, stall_limit=duration("5m", argument="limit"), metrics=metrics)
    runner = Runner(work.jobs)
    with server.serve(asyncio.get_running_loop(), runner):
        async with runner:
            await until(lambda: runner.health().is_ready)
            yield server.port


async def test_slow_clients_take_few_threads_and_delay_no_probe() -> None:
    clients: list[socket.socket] = []
    async with served(Work()) as port:
        before = threading.active_count()
        for _ in range(100):
            client = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", port))
            client.sendall(b"GET /live HTTP/1.1\r\n")
            clients.append(client)
            if len(clients) % 20 == 0:
                async with asyncio.timeout(2):
                    assert (await get(port, "/live")).status_code == 200
        async with asyncio.timeout(2):
            await until(lambda: threading.active_count() <= before + MAX_CONNECTIONS + 2)  # and those of `to_thread`
            await until(lambda: sum(map(is_closed_by_peer, clients)) >= 100 - MAX_CONNECTIONS)
        for client in clients:
            client.close()


def is_closed_by_peer(client: socket.socket) -> bool:
    try:
        return client.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


async def test_a_request_has_one_deadline_however_slowly_its_bytes_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_server, "REQUEST_SECONDS", 0.3)
    async with served(Work()) as port:
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"GET /live HTTP/1.1\r\n")

        async def is_closed() -> bool:
            await asyncio.sleep(0.1)
            with contextlib.suppress(OSError):
                client.sendall(b"X-a: b\r\n")
            return is_closed_by_peer(client)

        started = time.monotonic()
        await until(is_closed)
        assert time.monotonic() - started < 3
        client.close()


async def test_a_client_that_hangs_up_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    async with served(Work()) as port:
        for request in (b"", b"GET /live", b"GET /live HTTP/1.1\r\nX-a", b"GET /live HTTP/1.1\r\n\r\n") * 5:
            client = socket.create_connection(("127.0.0.1", port))
            client.sendall(request)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
            client.close()
        assert (await get(port, "/live")).status_code == 200
        await asyncio.sleep(0.1)
    assert capfd.readouterr().err == ""


async def test_a_response_names_no_versions() -> None:
    async with served(Work()) as port:
        assert (await get(port, "/live")).headers["server"] == "flowli"


async def test_a_long_request_is_cut_off() -> None:
    async with served(Work()) as port:
        answer = await send_raw(port, b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\n\r\n")
        assert not answer.startswith(b"HTTP/1.0 200")
        assert (await get(port, "/live")).status_code == 200


async def test_requests_for_metrics_read_the_store_once_a_second_and_one_at_a_time() -> None:
    work = Work()
    async with served(work, PrometheusMetrics(CollectorRegistry())) as port:
        started = time.monotonic()
        responses = await asyncio.gather(*[get(port, "/metrics") for _ in range(12)])
        took = time.monotonic() - started
    assert {response.status_code for response in responses} == {200}
    assert all("flowli_workers" in response.text for response in responses)
    assert work.driver.calls["overview"] <= 2 * (1 + took)  # a read asks for it twice


async def test_metrics_do_not_wait_long_for_a_store_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The read is cancelled well before the request is over, and the response has the other metrics."""
    assert health_server.STORE_SECONDS <= health_server.REQUEST_SECONDS - 2
    monkeypatch.setattr(health_server, "STORE_SECONDS", 0.05)
    work, cancelled = Work(), asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with served(work, PrometheusMetrics(CollectorRegistry())) as port:
        monkeypatch.setattr(work.driver, "overview", hang)
        response = await get(port, "/metrics")
        await asyncio.wait_for(cancelled.wait(), PATIENCE)
    assert response.status_code == 200
    assert "flowli_hung_slots" in response.text


async def test_liveness_and_readiness_do_not_read_the_store() -> None:
    work = Work()
    async with served(work) as port:
        reads = work.driver.calls["overview"], work.driver.calls["records"], work.driver.calls["schedules"]
        for _ in range(5):
            assert (await get(port, "/ready")).status_code == (await get(port, "/live")).status_code == 200
        assert reads == (work.driver.calls["overview"], work.driver.calls["records"], work.driver.calls["schedules"])
