"""The drivers that the suite runs against, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flowli_core.clock import Clock
from flowli_core.driver import Driver
from flowli_core.drivers.memory import MemoryDriver


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A driver under test.

    `make` is given an empty directory and the clock to use, and skips the test where the driver cannot run here.
    `skips` names the cases that do not apply to the driver, each with its reason.
    """

    make: Callable[[Path, Clock], Driver]
    skips: Mapping[str, str] = field(default_factory=dict[str, str])


def _memory(directory: Path, clock: Clock) -> Driver:
    return MemoryDriver(clock=clock)


def _sqlite(directory: Path, clock: Clock) -> Driver:
    from flowli_core.drivers.sqlite import SqliteDriver  # noqa: PLC0415 - the other drivers do without it

    return SqliteDriver(directory / "jobs.sqlite3", clock=clock)


CANDIDATES: Mapping[str, Candidate] = {
    "memory": Candidate(make=_memory),
    "sqlite": Candidate(make=_sqlite),
}
