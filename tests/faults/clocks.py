"""A Redis server whose clock a test sets."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.redis.server import Server

SOURCE = Path(__file__).with_name("clock.c")


class ServerClock:
    """The clock of a server: the time of the machine, and what is added to it."""

    def __init__(self, file: mmap.mmap) -> None:
        self._file = file
        self.added = 0

    def move(self, seconds: int) -> None:
        """Set the clock forward, or back if the number is negative."""
        self.added += seconds
        self._file[:] = struct.pack("l", self.added)


@contextmanager
def server_with_clock(folder: Path, *options: str) -> Generator[tuple[Server, ServerClock]]:
    """Start a server whose clock can be set, also while it restarts. Skips the test without a C compiler on Linux."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("the clock of a server can be set only on Linux, with a C compiler")
    library, path = folder / "clock.so", folder / "clock"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
    path.write_bytes(bytes(struct.calcsize("l")))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        environ = {"LD_PRELOAD": str(library), "FLOWLI_CLOCK": str(path)}
        with Server(*options, environ=environ) as server:
            yield server, ServerClock(mapped)
