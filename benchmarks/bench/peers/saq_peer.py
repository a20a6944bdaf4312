"""SAQ on Redis."""

import importlib
from typing import Any

from .child import COUNTER, Peer, payload, serve

saq: Any = importlib.import_module("saq")


async def send_email(ctx: Any, *, to: str, subject: str, template: str, locale: str) -> None:
    """Count an execution."""
    del ctx, to, template, locale
    COUNTER.note(subject)


class Saq(Peer):
    """A queue, and a worker beside it."""

    async def open(self) -> None:
        """Connect."""
        self.queue = saq.Queue.from_url(self.url)
        await self.queue.connect()

    async def enqueue(self, subject: str) -> None:
        """Store a job without a result."""
        await self.queue.enqueue("send_email", ttl=-1, **payload(subject))

    async def work(self) -> None:
        """Run ten jobs at a time: more make it slower."""
        await saq.Worker(self.queue, [send_email], concurrency=10).start()


if __name__ == "__main__":
    serve(Saq)
