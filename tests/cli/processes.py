"""The command line in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncGenerator, Callable

ROOT = Path(__file__).parents[2]
PATIENCE = 30


class Flowli:
    """A running command. `lines` collects what it writes to stderr."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def wait_for(self, text: str) -> str:
        """Wait for a line that contains the text, and return it."""
        return await self.wait_for_line(lambda line: text in line)

    async def wait_for_line(self, matches: Callable[[str], bool]) -> str:
        """Wait for a line that matches, and return it."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            async for raw in self.process.stderr:
                line = raw.decode()
                self.lines.append(line)
                if matches(line):
                    return line
        raise AssertionError("the command ended without this line:\n" + "".join(self.lines))

    async def wait_for_exit(self) -> int:
        """Wait until the command ends, and return its exit code."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            self.lines += [raw.decode() async for raw in self.process.stderr]
            return await self.process.wait()

    def send_sigterm(self) -> None:
        """Ask the command to stop."""
        self.process.send_signal(signal.SIGTERM)


@asynccontextmanager
async def flowli(folder: Path, *arguments: str, **environ: str) -> AsyncGenerator[Flowli]:
    """Run a command, and kill it at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "flowli_core.cli", *arguments),
        env=os.environ | {"FLOWLI_TEST_FOLDER": str(folder), "PYTHONWARNINGS": "error", "NO_COLOR": "1"} | environ,
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Flowli(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
