"""The least that a job queue on Redis can do, over two clients: redis-py, and a bare protocol on asyncio.

It stores the body of a job in one hash, and its id in a sorted set. A step acknowledges a hundred jobs and takes the
next hundred, with a lease for each, while the hundred before run, one task for each job. It has no retries, no names,
no recovery, no wake-up: nothing but at-least-once delivery.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections import deque
from collections.abc import Awaitable
from typing import Any

from pydantic import BaseModel, TypeAdapter

from .child import COUNTER, Peer, payload, serve

BATCH = 100
ENQUEUE = """
for i = 1, #ARGV, 2 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
  redis.call('ZADD', KEYS[1], 0, ARGV[i])
end
"""
STEP = """
if #ARGV > 1 then
  redis.call('ZREM', KEYS[2], unpack(ARGV, 2))
  redis.call('HDEL', KEYS[3], unpack(ARGV, 2))
end
local taken = redis.call('ZPOPMIN', KEYS[1], ARGV[1])
if #taken == 0 then return {} end
local leases, ids = {}, {}
for i = 1, #taken, 2 do
  leases[i], leases[i + 1], ids[#ids + 1] = 1, taken[i], taken[i]
end
redis.call('ZADD', KEYS[2], unpack(leases))
return { ids, redis.call('HMGET', KEYS[3], unpack(ids)) }
"""
KEYS = (b"3", b"{ideal}:due", b"{ideal}:lease", b"{ideal}:body")


class Email(BaseModel):
    """A payload of four strings."""

    to: str
    subject: str
    template: str
    locale: str


ADAPTER = TypeAdapter(Email)


class Ideal(Peer):
    """The loops. A subclass adds the client."""

    many = True
    made = 0
    add_digest: bytes
    step_digest: bytes

    def call(self, *words: bytes) -> Awaitable[Any]:
        """Send a command."""
        raise NotImplementedError

    async def open(self) -> None:
        """Load the scripts."""
        self.add_digest = await self.call(b"SCRIPT", b"LOAD", ENQUEUE.encode())
        self.step_digest = await self.call(b"SCRIPT", b"LOAD", STEP.encode())

    def _body(self, subject: str) -> tuple[bytes, bytes]:
        self.made += 1
        return b"%036d" % self.made, ADAPTER.dump_json(Email(**payload(subject)))

    async def enqueue(self, subject: str) -> None:
        """Validate an input, and store it in one call."""
        await self.call(b"EVALSHA", self.add_digest, *KEYS, *self._body(subject))

    async def enqueue_many(self, subjects: list[str]) -> None:
        """Validate inputs, and store a hundred in each call."""
        for first in range(0, len(subjects), BATCH):
            words = [word for subject in subjects[first : first + BATCH] for word in self._body(subject)]
            await self.call(b"EVALSHA", self.add_digest, *KEYS, *words)

    async def _step(self, done: list[bytes]) -> list[Any]:
        found: list[Any] = await self.call(b"EVALSHA", self.step_digest, *KEYS, b"%d" % BATCH, *done)
        return found

    async def work(self) -> None:
        """Run a hundred jobs while the next hundred travel. It looks once a second if it found none."""
        while True:
            await self._drain()
            await asyncio.sleep(1)

    async def _drain(self) -> None:
        async def run(wire: bytes) -> None:
            COUNTER.note(ADAPTER.validate_json(wire).subject)

        done: list[bytes] = []
        batch = await self._step(done)
        while batch:
            following = asyncio.create_task(self._step(done))
            await asyncio.gather(*[asyncio.create_task(run(wire)) for wire in batch[1]])
            done = batch[0]
            batch = await following
        await self._step(done)


class OverRedisPy(Ideal):
    """The loops over redis-py with hiredis."""

    async def open(self) -> None:
        """Connect, and load the scripts."""
        self.client: Any = importlib.import_module("redis.asyncio").Redis.from_url(self.url)
        await super().open()

    def call(self, *words: bytes) -> Awaitable[Any]:
        """Send a command over a connection of the pool."""
        sent: Awaitable[Any] = self.client.execute_command(*words)
        return sent


class Wire(asyncio.Protocol):
    """A connection whose replies are parsed by hiredis. Commands are written at once, one after the other."""

    def __init__(self) -> None:
        self.reader: Any = importlib.import_module("hiredis").Reader()
        self.waiting: deque[asyncio.Future[Any]] = deque()
        self.transport: Any = None
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Set the results of the futures, in order."""
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            future = self.waiting.popleft()
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    def call(self, *words: bytes) -> asyncio.Future[Any]:
        """Write a command, and return the future of its reply."""
        parts = [b"*%d\r\n" % len(words), *[b"$%d\r\n%b\r\n" % (len(word), word) for word in words]]
        self.transport.write(b"".join(parts))
        future: asyncio.Future[Any] = self.loop.create_future()
        self.waiting.append(future)
        return future


class OverBareProtocol(Ideal):
    """The loops over a bare protocol, which sends all commands over one connection."""

    async def open(self) -> None:
        """Connect, and load the scripts."""
        host, port = self.url.removeprefix("redis://").split("/")[0].split(":")
        _, self.wire = await asyncio.get_running_loop().create_connection(Wire, host, int(port))
        await super().open()

    def call(self, *words: bytes) -> Awaitable[Any]:
        """Write a command."""
        return self.wire.call(*words)


class BarePop(OverRedisPy):
    """A blocking pop, which stores nothing but the time: a popped job is lost if its worker dies."""

    async def enqueue(self, subject: str) -> None:
        """Add the time to a sorted set."""
        await self.call(b"ZADD", b"{ideal}:pop", b"0", subject.encode())

    async def work(self) -> None:
        """Pop one after the other."""
        while True:
            popped = await self.client.bzpopmin("{ideal}:pop", 60)
            if popped is not None:
                COUNTER.note(popped[1].decode())


if __name__ == "__main__":
    serve({"redis-py": OverRedisPy, "bare": OverBareProtocol, "pop": BarePop}[sys.argv[2]])
