"""The command line as a process of its own, and what it says."""

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
    """A running command. What it writes to stderr is kept in `lines`."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def says(self, text: str) -> str:
        """Wait for a line that holds the text, and answer it."""
        return await self.line(lambda line: text in line)

    async def line(self, wanted: Callable[[str], bool]) -> str:
        """Wait for a line."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            async for raw in self.process.stderr:
                line = raw.decode()
                self.lines.append(line)
                if wanted(line):
                    return line
        raise AssertionError("it ended without saying so:\n" + "".join(self.lines))

    async def ends(self) -> int:
        """Wait for its end; answer its exit code."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            self.lines += [raw.decode() async for raw in self.process.stderr]
            return await self.process.wait()

    def term(self) -> None:
        """Tell it to stop."""
        self.process.send_signal(signal.SIGTERM)


@asynccontextmanager
async def flowli(folder: Path, *arguments: str, **environ: str) -> AsyncGenerator[Flowli]:
    """Run a command; at the end it is killed, where it has not ended."""
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
