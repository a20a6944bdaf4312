"""Flowli: a context, an input that is validated when it is enqueued and when it is run, and every guarantee."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack

from pydantic import BaseModel

from flowli_core import Jobs, Runner, job
from flowli_core.drivers.redis import RedisDriver

from .child import COUNTER, STANDARD, Counter, Peer, payload, serve

WIDTH = 500
CONCURRENCY_VARIABLE = "FLOWLI_BENCH_CONCURRENCY"


class Email(BaseModel):
    """A payload of four strings."""

    to: str
    subject: str
    template: str
    locale: str


@job(Email)
async def send_email(input: Email, ctx: Counter) -> None:
    """Count an execution."""
    ctx.note(input.subject)


class BenchJobs(Jobs[Counter]):
    """One job."""

    send_email = send_email


async def delay_many(jobs: BenchJobs, count: int) -> None:
    """Store jobs that are due in a day."""

    async def lane(first: int) -> None:
        for _ in range(first, count, WIDTH):
            await jobs.send_email.delay("1d", Email(**payload(STANDARD)))

    await asyncio.gather(*[lane(first) for first in range(WIDTH)])


class Flowli(Peer):
    """The registry, and a runner beside it."""

    many = True

    async def open(self) -> None:
        """Open the registry, which stays open until the process is killed."""
        self.jobs = BenchJobs(context=COUNTER, driver=RedisDriver.from_url(self.url, prefix="bench"))
        self.stack = AsyncExitStack()
        await self.stack.enter_async_context(self.jobs)

    async def enqueue(self, subject: str) -> None:
        """Store a validated input."""
        await self.jobs.send_email.enqueue(Email(**payload(subject)))

    async def enqueue_many(self, subjects: list[str]) -> None:
        """Store validated inputs."""
        await self.jobs.send_email.enqueue_many([Email(**payload(subject)) for subject in subjects])

    async def delay(self, count: int) -> None:
        """Store jobs that are due in a day."""
        await delay_many(self.jobs, count)

    async def work(self) -> None:
        """Run two hundred jobs at a time, unless the environment says another number."""
        async with Runner(self.jobs, concurrency=int(os.environ.get(CONCURRENCY_VARIABLE, "200"))):
            await asyncio.Event().wait()


if __name__ == "__main__":
    serve(Flowli)
