"""Starts workers in processes of their own; `programs` is what they run."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.sqlite.processes import Peer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

_ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def worker(program: str, url: str, prefix: str) -> AsyncGenerator[Peer]:
    """Start a worker, and wait until it is ready. At the end it is killed, unless it has ended."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "tests.redis.programs", program, url, prefix),
        stdin=PIPE,
        stdout=PIPE,
        cwd=_ROOT,
    )
    try:
        peer = Peer(process)
        assert await peer.line() == "ready"
        yield peer
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
