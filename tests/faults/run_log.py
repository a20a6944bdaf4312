"""The log of the runs of limited jobs, and of the signals that were sent to their workers."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal

Event = Literal["begin", "end", "signal"]


class RunLog:
    """A file in which handlers note when they begin and end, and killers when they send a signal to a process."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "leases"

    def note(self, event: Event, *, pid: int, lane: str = "-", record_id: str = "-", token: int = 0) -> None:
        """Append a line, in one write, so that the lines of several processes do not mix."""
        log = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(log, f"{event} {pid} {milliseconds()} {lane} {record_id} {token}\n".encode())
        finally:
            os.close(log)

    def lines(self) -> list[tuple[str, int, int, str, str, int]]:
        """Return the event, process, time in milliseconds, lane, record id and token of each line."""
        if not self._path.exists():
            return []
        found = [line.split(" ") for line in self._path.read_text().splitlines()]
        return [
            (event, int(pid), int(at), lane, record_id, int(token)) for event, pid, at, lane, record_id, token in found
        ]


def milliseconds() -> int:
    """Return the time in whole milliseconds, by the clock that the stores of this machine read."""
    return time.time_ns() // 1_000_000
