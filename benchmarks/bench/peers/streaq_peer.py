"""Streaq."""

import importlib
from contextlib import AsyncExitStack
from typing import Any

from .child import COUNTER, Peer, payload, serve

streaq: Any = importlib.import_module("streaq")


async def send_email(to: str, subject: str, template: str, locale: str) -> None:
    """Count an execution."""
    del to, template, locale
    COUNTER.note(subject)


class Streaq(Peer):
    """A worker, which is what enqueues, too."""

    many = True

    async def open(self) -> None:
        """Connect."""
        self.worker = streaq.Worker(self.url, concurrency=32, handle_signals=False)
        self.task = self.worker.task(ttl=0)(send_email)
        self.stack = AsyncExitStack()
        await self.stack.enter_async_context(self.worker)

    async def enqueue(self, subject: str) -> None:
        """Store a task."""
        await self.task.enqueue(**payload(subject))

    async def enqueue_many(self, subjects: list[str]) -> None:
        """Store a thousand tasks in each pipeline."""
        for first in range(0, len(subjects), 1000):
            await self.worker.enqueue_many(
                [self.task.enqueue(**payload(subject)) for subject in subjects[first : first + 1000]]
            )

    async def work(self) -> None:
        """Run 32 tasks at a time: more make it slower."""
        worker = streaq.Worker(self.url, concurrency=32, handle_signals=False)
        worker.task(ttl=0)(send_email)
        await worker.run_async()


if __name__ == "__main__":
    serve(Streaq)
