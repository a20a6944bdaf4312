"""The side of a measured program that speaks to the benchmark: a JSON object a line, in and out.

It imports nothing but the standard library, because each program runs in its own environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import json
import os
import sys
import time
from typing import Any, TextIO

STANDARD = "Welcome aboard"
"""The subject of a payload whose pickup is not timed."""


def payload(subject: str) -> dict[str, str]:
    """Return a payload of four strings, about a hundred bytes of JSON."""
    return {"to": "someone@example.com", "subject": subject, "template": "welcome-2026", "locale": "en-GB"}


class Counter:
    """The executions of the handler in this process: their number, the first and last time, and the pickup times."""

    def __init__(self) -> None:
        self.ran = 0
        self.first = 0.0
        self.last = 0.0
        self.times: list[float] = []

    def note(self, subject: str) -> None:
        """Count an execution. Each handler calls this once. Any other subject than the usual one is a time."""
        self.last = time.perf_counter()
        if not self.ran:
            self.first = self.last
        self.ran += 1
        if subject != STANDARD:
            self.times.append(self.last - float(subject))


COUNTER = Counter()


class Peer:
    """A program that enqueues jobs and works them off. `many` is False if it has no call that stores many jobs."""

    many = False
    concurrent = True
    """False if its calls block the thread, so that no two of them can be in flight."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def open(self) -> None:
        """Connect. Both the enqueuing and the working process do this."""

    async def enqueue(self, subject: str) -> None:
        """Store one job."""
        raise NotImplementedError

    async def enqueue_many(self, subjects: list[str]) -> None:
        """Store many jobs, in the way that its documentation advises."""
        raise NotImplementedError

    async def delay(self, count: int) -> None:
        """Store jobs that are due in a day."""
        raise NotImplementedError

    async def work(self) -> None:
        """Run jobs until the process is killed."""
        raise NotImplementedError


class Served:
    """A peer that does what the lines on its standard input say."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.working: asyncio.Task[None] | None = None

    async def answer(self, words: dict[str, Any]) -> dict[str, Any]:
        """Do one thing, and return what to answer."""
        what: str = words["do"]
        if what == "work":
            self.working = asyncio.create_task(self.peer.work())
        elif what == "count":
            if self.working is not None and self.working.done():
                self.working.result()
                raise RuntimeError("the worker has stopped")
            return {"ran": COUNTER.ran, "first": COUNTER.first, "last": COUNTER.last, "cpu": time.process_time()}
        elif what == "times":
            return {"times": COUNTER.times}
        elif what == "delay":
            await self.peer.delay(words["count"])
        elif what == "pickups":
            await _pickups(self.peer, words["count"], words["pause"])
        else:
            return await _enqueue(self.peer, words["how"], words["count"])
        return {}


async def _pickups(peer: Peer, count: int, pause: float) -> None:
    for _ in range(count):
        await asyncio.sleep(pause)
        await peer.enqueue(repr(time.perf_counter()))


async def _enqueue(peer: Peer, how: str, count: int) -> dict[str, Any]:
    width = {"one": 1, "flight": 100, "many": 0}[how]
    if not (peer.many if width == 0 else width == 1 or peer.concurrent):
        return {"seconds": None}
    subjects = [STANDARD] * count

    async def lane(first: int) -> None:
        for _ in range(first, count, width):
            await peer.enqueue(STANDARD)

    start, used = time.perf_counter(), time.process_time()
    if width:
        await asyncio.gather(*[lane(first) for first in range(width)])
    else:
        await peer.enqueue_many(subjects)
    return {"seconds": time.perf_counter() - start, "cpu": time.process_time() - used}


async def _serve(peer: Peer, out: TextIO) -> None:
    served = Served(peer)
    await peer.open()
    print(json.dumps({"ready": True}), file=out, flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            answer = await served.answer(json.loads(line))
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is reported, and ends only its own row
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=out, flush=True)


def serve(make: type[Peer]) -> None:
    """Serve the benchmark until it ends this process. What a peer prints goes to the standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    factory: Any = None
    if importlib.util.find_spec("uvloop") is not None:
        factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner, contextlib.suppress(KeyboardInterrupt):
        runner.run(_serve(make(sys.argv[1]), out))
        os._exit(0)
