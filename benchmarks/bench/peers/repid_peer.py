"""Repid on Redis streams."""

import importlib
from typing import Any

from .child import COUNTER, Peer, payload, serve

repid: Any = importlib.import_module("repid")
router = repid.Router()


async def send_email(to: str, subject: str, template: str, locale: str) -> None:
    """Count an execution."""
    del to, template, locale
    COUNTER.note(subject)


class Repid(Peer):
    """An application with one actor."""

    async def open(self) -> None:
        """Connect."""
        router.actor(send_email)
        self.app = repid.Repid()
        server = importlib.import_module("repid.connections.redis").RedisServer(self.url, batch_size=100)
        self.app.servers.register_server("default", server, is_default=True)
        self.app.include_router(router)
        await server.connect()

    async def enqueue(self, subject: str) -> None:
        """Send a message."""
        await self.app.send_message_json(channel="default", payload=payload(subject), headers={"topic": "send_email"})

    async def work(self) -> None:
        """Run at most a hundred messages at a time."""
        await self.app.run_worker(tasks_limit=100)


if __name__ == "__main__":
    serve(Repid)
