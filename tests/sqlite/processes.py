"""Starting other processes on the same file. What they do is in `programs`."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conformance.builders import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

_ROOT = Path(__file__).parents[2]


class Peer:
    """A process that reads and writes lines."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def send(self, line: str = "") -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()

    async def line(self) -> str:
        """Return its next line. It must not have ended."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        assert line, "the other process has ended"
        return line.decode().strip()

    async def kill(self) -> list[str]:
        """Kill it, and return what it had still written."""
        self._process.kill()
        return await self.rest()

    async def rest(self) -> list[str]:
        """Wait until it ends, and return what it had still written."""
        async with asyncio.timeout(PATIENCE):
            out, _ = await self._process.communicate()
        return out.decode().splitlines()


@asynccontextmanager
async def peer(program: str, path: Path, *arguments: str) -> AsyncGenerator[Peer]:
    """Start a program, and kill it in the end if it is still running."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "tests.sqlite.programs", program, str(path), *arguments),
        stdin=PIPE,
        stdout=PIPE,
        cwd=_ROOT,
    )
    try:
        yield Peer(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def output(program: str, path: Path) -> str:
    """Return everything that a program writes."""
    async with peer(program, path) as running:
        return "\n".join(await running.rest())
