"""Calls from several threads at once, each with an event loop of its own."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

from tests.support.running import PATIENCE

THREADS = 8


def in_threads(call: Callable[[], Awaitable[object]], *, threads: int = THREADS) -> list[object]:
    """Await a call in several threads at once, and return the results or errors. Fails if one thread hangs."""
    results: list[object] = []
    together = threading.Barrier(threads)

    async def awaited() -> object:
        return await call()

    def one() -> None:
        together.wait()
        try:
            results.append(asyncio.run(awaited()))
        except BaseException as error:
            results.append(error)

    started = [threading.Thread(target=one, daemon=True) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in started), "a thread hangs"
    return results
