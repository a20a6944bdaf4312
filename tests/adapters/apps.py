"""Small registries, and stores that fail on command."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flowli_core import Jobs, StoreUnavailable, current_job, job
from flowli_core.driver import StepAnswer
from flowli_core.drivers.memory import MemoryDriver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowli_core.driver import AckAnswer, Step
    from flowli_core.new_records import Enqueued, NewRecord
    from flowli_core.stored import Found, RecordQuery

PATIENCE = 20
"""Seconds after which a test that waits for an event fails instead of hanging. No test takes nearly that long."""


@dataclass
class Events:
    """A context that records what jobs do. Its events belong to the event loop of the test."""

    log: list[str] = field(default_factory=list[str])
    started: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)


@job(int)
async def double(input: int, ctx: Events) -> int:
    """Finish at once."""
    ctx.log.append(f"double {input}")
    ctx.done.set()
    return 2 * input


@job()
async def held(ctx: Events) -> str:
    """Finish when the test releases it."""
    ctx.started.set()
    await ctx.release.wait()
    ctx.done.set()
    return "held"


class EventJobs(Jobs[Events]):
    """A registry."""

    double = double
    held = held


class OtherJobs(Jobs[Events]):
    """Another registry."""

    double = double


class WatchedDriver(MemoryDriver):
    """A store that logs when it is opened and closed."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self._log = log

    async def open(self) -> None:
        self._log.append("driver opened")
        await super().open()

    async def close(self) -> None:
        self._log.append("driver closed")
        await super().close()


class UnreachableDriver(MemoryDriver):
    """A store that is unreachable while `is_unreachable` is set."""

    is_unreachable = True

    async def open(self) -> None:
        if self.is_unreachable:
            raise StoreUnavailable("the store is unreachable")
        await super().open()

    async def enqueue(self, records: Sequence[NewRecord]) -> list[Enqueued]:
        if self.is_unreachable:
            raise StoreUnavailable("the store is unreachable")
        return await super().enqueue(records)

    async def step(self, step: Step) -> StepAnswer:
        if self.is_unreachable:
            raise StoreUnavailable("the store is unreachable")
        return await super().step(step)

    async def records(self, query: RecordQuery) -> Found:
        if self.is_unreachable:
            raise StoreUnavailable("the store is unreachable")
        return await super().records(query)


class BuggyDriver(MemoryDriver):
    """A store with a bug that crashes any runner: while `is_buggy`, it answers acks that the runner did not send."""

    def __init__(self) -> None:
        super().__init__()
        self.is_buggy = True
        self.crashes = 0

    async def step(self, step: Step) -> StepAnswer:
        if not self.is_buggy or step.leaving:
            return await super().step(step)
        self.crashes += 1
        self.on_crash()
        acks: list[AckAnswer] = ["ok"] * (len(step.acks) + 1)
        return StepAnswer(now=datetime.now(UTC), acks=tuple(acks))

    def on_crash(self) -> None:
        """Do nothing; a test may override it."""


@job(str)
async def echo(input: str) -> str:
    """Report the input as a note and in the log, and return it."""
    current_job().progress(1, 4, input)
    current_job().log(input)
    return input


@job(str)
async def fail(input: str) -> str:
    """Raise an error that quotes the input."""
    raise ValueError(input)


class SecretJobs(Jobs[Events]):
    """Jobs whose records hold secrets."""

    echo = echo
    fail = fail
