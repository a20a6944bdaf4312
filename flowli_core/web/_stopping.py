"""The end of the server, which an open stream must not delay.

A server ends the lifespan after its last response, and uvicorn waits for that response as long as it takes. ASGI has
no message that the server stops. But the handler of signals is a method of uvicorn's server, which knows that it stops.
Other servers cancel open responses after a time of their own.
"""

import asyncio
import signal
from weakref import WeakKeyDictionary

_EVERY = 0.25
"""Seconds between two checks, while a stream is open."""

_waiting: WeakKeyDictionary[asyncio.AbstractEventLoop, set[asyncio.Future[None]]] = WeakKeyDictionary()


def server_stops() -> asyncio.Future[None]:
    """Return a future that is done when the server stops. Cancel it to stop waiting."""
    loop = asyncio.get_running_loop()
    waiting = _waiting.setdefault(loop, set())
    if not waiting:
        loop.call_later(_EVERY, _check, loop, waiting)
    future = loop.create_future()
    waiting.add(future)
    return future


def _check(loop: asyncio.AbstractEventLoop, waiting: set[asyncio.Future[None]]) -> None:
    waiting -= {future for future in waiting if future.done()}
    if _is_stopping():
        while waiting:
            waiting.pop().set_result(None)
    elif waiting:
        loop.call_later(_EVERY, _check, loop, waiting)


def _is_stopping() -> bool:
    server: object = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if getattr(server, "should_exit", False):
        return True
    # After `--limit-max-requests` the server stops without that sign.
    return any(not listener.is_serving() for listener in getattr(server, "servers", ()))
