"""Arq."""

import importlib
from typing import Any

from .child import COUNTER, Peer, payload, serve

arq: Any = importlib.import_module("arq")


async def send_email(ctx: Any, to: str, subject: str, template: str, locale: str) -> None:
    """Count an execution."""
    del ctx, to, template, locale
    COUNTER.note(subject)


class Arq(Peer):
    """A pool, and a worker beside it."""

    async def open(self) -> None:
        """Connect."""
        self.settings = importlib.import_module("arq.connections").RedisSettings.from_dsn(self.url)
        self.pool = await arq.create_pool(self.settings)

    async def enqueue(self, subject: str) -> None:
        """Store a job."""
        await self.pool.enqueue_job("send_email", **payload(subject))

    async def work(self) -> None:
        """Run a hundred jobs at a time, without results, and look for new ones every half second, as by default."""
        worker = arq.Worker(
            [send_email],
            redis_settings=self.settings,
            max_jobs=100,
            keep_result=0,
            handle_signals=False,
        )
        await worker.async_run()


if __name__ == "__main__":
    serve(Arq)
