"""Docket, which PyPI has as pydocket."""

import importlib
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

from .child import COUNTER, Peer, payload, serve

docket: Any = importlib.import_module("docket")


async def send_email(to: str, subject: str, template: str, locale: str) -> None:
    """Count an execution."""
    del to, template, locale
    COUNTER.note(subject)


class Docket(Peer):
    """A docket, and a worker beside it."""

    many = True

    async def open(self) -> None:
        """Connect."""
        self.stack = AsyncExitStack()
        made = docket.Docket(name="bench", url=self.url, execution_ttl=timedelta(0))
        self.docket = await self.stack.enter_async_context(made)
        self.docket.register(send_email)

    async def enqueue(self, subject: str) -> None:
        """Schedule a task for now."""
        await self.docket.add(send_email)(**payload(subject))

    async def enqueue_many(self, subjects: list[str]) -> None:
        """Schedule many tasks, by chunks of a thousand."""
        await self.docket.add_many([self.docket.call(send_email)(**payload(subject)) for subject in subjects])

    async def work(self) -> None:
        """Run fifty tasks at a time: a hundred use up the connections of redis-py 8. Look for the next every 10 ms."""
        pause = timedelta(milliseconds=10)
        async with docket.Worker(self.docket, concurrency=50, minimum_check_interval=pause) as worker:
            await worker.run_forever()


if __name__ == "__main__":
    serve(Docket)
