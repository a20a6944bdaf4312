"""Ardiq, whose core is written in Rust."""

import importlib
from typing import Any

from .child import COUNTER, Peer, payload, serve

ardiq: Any = importlib.import_module("ardiq")


async def send_email(to: str, subject: str, template: str, locale: str) -> None:
    """Count an execution."""
    del to, template, locale
    COUNTER.note(subject)


class Ardiq(Peer):
    """An application with one task."""

    many = True

    async def open(self) -> None:
        """Make the application, which connects at the first call."""
        self.app = ardiq.Ardiq(redis_url=self.url, concurrency=100, prefetch=200)
        self.task = self.app.task(send_email)

    async def enqueue(self, subject: str) -> None:
        """Dispatch the task."""
        await self.task.enqueue(**payload(subject))

    async def enqueue_many(self, subjects: list[str]) -> None:
        """Dispatch a thousand in each call."""
        for first in range(0, len(subjects), 1000):
            await self.app.enqueue_many(
                [self.task.prepare(**payload(subject)) for subject in subjects[first : first + 1000]]
            )

    async def work(self) -> None:
        """Run a hundred tasks at a time."""
        await self.app.run()


if __name__ == "__main__":
    serve(Ardiq)
