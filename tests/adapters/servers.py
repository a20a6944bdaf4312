"""Real servers in processes of their own, and clients that send requests to them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import httpx2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

Framework = Literal["starlette", "fastapi", "litestar"]
ServerName = Literal["uvicorn", "uvicorn-2", "granian", "hypercorn"]

FRAMEWORKS: tuple[Framework, ...] = ("starlette", "fastapi", "litestar")
SERVERS: tuple[ServerName, ...] = ("uvicorn", "uvicorn-2", "granian", "hypercorn")

PATIENCE = 60.0
SENDERS = 16
SLOW = 50
"""A job that finishes when the test allows it."""
_LOOK_EVERY = 0.02


class Server:
    """A running server and a client for it."""

    def __init__(self, process: asyncio.subprocess.Process, client: httpx2.AsyncClient, log: Path) -> None:
        self.process = process
        self.client = client
        self.log = log

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal, and wait until the server exits; an embedded runner must not delay it beyond its drain."""
        self.process.send_signal(how)
        await asyncio.wait_for(self.process.wait(), PATIENCE)
        assert self.process.returncode in {0, -how}, await asyncio.to_thread(self.log.read_text)

    async def send(self, numbers: Iterable[int], *, on_accepted: Callable[[int], None]) -> None:
        """Post each number, and report those that the server accepted. Return early if the server has stopped."""
        left = iter(numbers)

        async def send_some() -> None:
            for number in left:
                try:
                    response = await self.client.post(f"/work/{number}")
                except httpx2.TransportError:
                    return
                if response.is_success:
                    on_accepted(number)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(SENDERS):
                tasks.create_task(send_some())

    async def until_health(self, status: int) -> dict[str, object]:
        """Request the health until it has this status, and return the body."""
        async with asyncio.timeout(PATIENCE):
            while True:
                response = await self.client.get("/healthz")
                if response.status_code == status:
                    body: dict[str, object] = response.json()
                    return body
                await asyncio.sleep(_LOOK_EVERY)


@asynccontextmanager
async def serving(
    name: ServerName, framework: Framework, folder: Path, *, redis: str | None, app: str | None = None, port: int = 0
) -> AsyncGenerator[Server]:
    """Run a service under a server that answers requests: that of this framework, unless another app is named."""
    port = port or free_port()
    environment = {**os.environ, "SERVED_FOLDER": str(folder)}
    if redis is not None:
        environment["SERVED_REDIS"] = redis
    output, log = tempfile.mkstemp(prefix=f"{name}-", suffix=".log", dir=folder)
    process = await asyncio.create_subprocess_exec(
        *_command(name, app or f"tests.adapters.served.{framework}_app:app", str(port)),
        stdout=output,
        stderr=output,
        env=environment,
        start_new_session=True,
    )
    os.close(output)
    limits = httpx2.Limits(max_connections=SENDERS + 4)
    try:
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, limits=limits, trust_env=False
        ) as client:
            await _wait_for_answer(client, process, Path(log))
            yield Server(process, client, Path(log))
    finally:
        if process.returncode is None:
            # The session holds only the server and its workers.
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def free_port() -> int:
    """Find a port that no server listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _command(name: ServerName, app: str, port: str) -> list[str]:
    bind = ["--host", "127.0.0.1", "--port", port]
    words = {
        "uvicorn": ["uvicorn", app, *bind, "--no-access-log"],
        "uvicorn-2": ["uvicorn", app, *bind, "--no-access-log", "--workers", "2"],
        "granian": ["granian", app, *bind, "--interface", "asgi"],
        "hypercorn": ["hypercorn", app, "--bind", f"127.0.0.1:{port}"],
    }
    return [sys.executable, "-m", *words[name]]


async def _wait_for_answer(client: httpx2.AsyncClient, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await client.get("/ping")
            except httpx2.TransportError:
                assert process.returncode is None, await asyncio.to_thread(log.read_text)
                await asyncio.sleep(_LOOK_EVERY)
            else:
                return
