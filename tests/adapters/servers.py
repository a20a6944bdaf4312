"""Real servers as processes of their own, and clients that send until all is taken."""

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
_LOOK_EVERY = 0.02


class Server:
    """A server that runs, and a client of it."""

    def __init__(self, process: asyncio.subprocess.Process, client: httpx2.AsyncClient, log: Path) -> None:
        self.process = process
        self.client = client
        self.log = log

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal, and wait for its end, which an embedded runner must not delay beyond its drain."""
        self.process.send_signal(how)
        await asyncio.wait_for(self.process.wait(), PATIENCE)
        assert self.process.returncode in {0, -how}, await asyncio.to_thread(self.log.read_text)

    async def send(self, numbers: Iterable[int], *, on_taken: Callable[[int], None]) -> None:
        """Post each number; those that are answered are taken. Ends early where nobody listens any more."""
        left = iter(numbers)

        async def send_some() -> None:
            for number in left:
                try:
                    answer = await self.client.post(f"/work/{number}")
                except httpx2.TransportError:
                    return
                if answer.is_success:
                    on_taken(number)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(SENDERS):
                tasks.create_task(send_some())

    async def until_health(self, status: int) -> dict[str, object]:
        """Ask for its health until it is so."""
        async with asyncio.timeout(PATIENCE):
            while True:
                answer = await self.client.get("/healthz")
                if answer.status_code == status:
                    said: dict[str, object] = answer.json()
                    return said
                await asyncio.sleep(_LOOK_EVERY)


@asynccontextmanager
async def serving(name: ServerName, framework: Framework, folder: Path, *, redis: str | None) -> AsyncGenerator[Server]:
    """Run the service under a server, and wait until it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {**os.environ, "SERVED_FOLDER": str(folder)}
    if redis is not None:
        environment["SERVED_REDIS"] = redis
    output, log = tempfile.mkstemp(prefix=f"{name}-", suffix=".log", dir=folder)
    process = await asyncio.create_subprocess_exec(
        *_command(name, f"tests.adapters.served.{framework}_app:app", port),
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
            await _until_it_answers(client, process, Path(log))
            yield Server(process, client, Path(log))
    finally:
        if process.returncode is None:
            # The session has nothing in it but what was started here: the server and its workers.
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _command(name: ServerName, app: str, port: str) -> list[str]:
    bind = ["--host", "127.0.0.1", "--port", port]
    words = {
        "uvicorn": ["uvicorn", app, *bind, "--no-access-log"],
        "uvicorn-2": ["uvicorn", app, *bind, "--no-access-log", "--workers", "2"],
        "granian": ["granian", app, *bind, "--interface", "asgi"],
        "hypercorn": ["hypercorn", app, "--bind", f"127.0.0.1:{port}"],
    }
    return [sys.executable, "-m", *words[name]]


async def _until_it_answers(client: httpx2.AsyncClient, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await client.get("/ping")
            except httpx2.TransportError:
                assert process.returncode is None, await asyncio.to_thread(log.read_text)
                await asyncio.sleep(_LOOK_EVERY)
            else:
                return
