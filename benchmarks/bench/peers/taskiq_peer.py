"""Taskiq on the streams of taskiq-redis."""

import importlib
from typing import Any

from .child import COUNTER, Peer, payload, serve


async def send_email(to: str, subject: str, template: str, locale: str) -> None:
    """Count an execution."""
    del to, template, locale
    COUNTER.note(subject)


class Taskiq(Peer):
    """A broker with one task."""

    async def open(self) -> None:
        """Connect. The timeout of redis-py 8 would end the blocking read of an idle worker."""
        make: Any = importlib.import_module("taskiq_redis").RedisStreamBroker
        self.broker = make(
            self.url, max_connection_pool_size=200, consumer_id="0", unacknowledged_batch_size=100, socket_timeout=None
        )
        self.task = self.broker.task(send_email)
        await self.broker.startup()

    async def enqueue(self, subject: str) -> None:
        """Send a message."""
        await self.task.kiq(**payload(subject))

    async def work(self) -> None:
        """Run a hundred tasks at a time."""
        receive: Any = importlib.import_module("taskiq.api.receiver").run_receiver_task
        await receive(self.broker, max_async_tasks=100, max_prefetch=100)


if __name__ == "__main__":
    serve(Taskiq)
