"""Dramatiq, whose calls block and whose workers are threads."""

import asyncio
import importlib
from typing import Any

from .child import COUNTER, Peer, payload, serve

dramatiq: Any = importlib.import_module("dramatiq")


def send_email(to: str, subject: str, template: str, locale: str) -> None:
    """Count an execution."""
    del to, template, locale
    COUNTER.note(subject)


class Dramatiq(Peer):
    """A broker with one actor."""

    concurrent = False

    async def open(self) -> None:
        """Connect, and leave away what counts for Prometheus."""
        make: Any = importlib.import_module("dramatiq.brokers.redis").RedisBroker
        self.broker = make(url=self.url)
        dramatiq.set_broker(self.broker)
        self.actor = dramatiq.actor(send_email)

    async def enqueue(self, subject: str) -> None:
        """Send a message. The call blocks."""
        self.actor.send(**payload(subject))

    async def work(self) -> None:
        """Run four threads: more make it slower, because they take turns in one interpreter."""
        dramatiq.Worker(self.broker, worker_threads=4).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    serve(Dramatiq)
