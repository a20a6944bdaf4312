"""The processes of a measured program, as the benchmark sees them."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import IO, Any

from . import environments
from .subjects import Subject

PATIENCE = 60
"""Seconds that a peer may take for one answer, or without running a job."""


class PeerError(Exception):
    """The failure of a peer, with its reason."""


class Process:
    """A process that answers lines of JSON."""

    def __init__(self, process: asyncio.subprocess.Process, errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors

    async def ask(self, what: str, **words: Any) -> dict[str, Any]:
        """Send a line, and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **words}).encode() + b"\n")
        return await self.read()

    async def read(self) -> dict[str, Any]:
        """Return the next answer."""
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)
        except TimeoutError:
            raise PeerError(f"no answer within {PATIENCE} s; {self._last_words()}") from None
        if not line:
            raise PeerError(f"the process ended: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(str(answer["error"]))
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        return said[-1][:300] if said else "it said nothing"


@asynccontextmanager
async def run(subject: Subject, url: str) -> AsyncGenerator[Process]:
    """Start a process, wait until it is connected, and kill it afterwards."""
    words, folder, variables = environments.command(subject, url)
    with tempfile.TemporaryFile() as errors:
        started = await asyncio.create_subprocess_exec(
            *words,
            cwd=folder,
            env=variables,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            limit=2**24,
        )
        process = Process(started, errors)
        try:
            await process.read()
            yield process
        finally:
            if started.returncode is None:
                started.kill()
            await started.wait()
