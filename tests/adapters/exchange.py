"""Requests that a test sends to an application without a server, so that it reads a response while it is sent."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.adapters.apps import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping


class Event(NamedTuple):
    """A server-sent event, with its data as JSON. A comment has no name."""

    name: str
    id: str
    data: Any


class Exchange:
    """A request and its response."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.status = 0
        self.headers: dict[str, str] = {}
        self._text = ""

    async def start(self) -> None:
        message = await self.outbox.get()
        self.status = message["status"]
        self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}

    async def body(self) -> bytes:
        """Read the response to its end."""
        parts = [self._text.encode()]
        while message := await self.outbox.get():
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        return b"".join(parts)

    async def event(self) -> Event | None:
        """Read the next event, or None if the response has ended."""
        while "\n\n" not in self._text:
            message = await self.outbox.get()
            self._text += message.get("body", b"").decode().replace("\r\n", "\n")
            if not message.get("more_body") and "\n\n" not in self._text:
                return None
        block, _, self._text = self._text.partition("\n\n")
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        return Event(fields.get("event", ""), fields.get("id", ""), json.loads(fields.get("data", "null")))

    def disconnect(self) -> None:
        """Disconnect as a client does."""
        self.inbox.put_nowait({"type": "http.disconnect"})


@asynccontextmanager
async def request(
    app: Any, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: object = None, root: str = ""
) -> AsyncGenerator[Exchange]:
    """Send a request, and yield its response as soon as that has begun."""
    exchange = Exchange()
    content = b"" if body is None else json.dumps(body).encode()
    given = {"host": "test", "content-type": "application/json", "content-length": str(len(content)), **(headers or {})}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": root,
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "server": ("test", 80),
        "client": ("test", 1),
        "state": {},
    }
    exchange.inbox.put_nowait({"type": "http.request", "body": content, "more_body": False})

    async def serve() -> None:
        try:
            await app(scope, exchange.inbox.get, exchange.outbox.put)
        finally:
            exchange.outbox.put_nowait({"status": 0, "headers": []})  # if the application fails before it responds

    async with asyncio.timeout(PATIENCE):
        serving = asyncio.create_task(serve())
        try:
            await exchange.start()
            yield exchange
        finally:
            exchange.disconnect()
            await asyncio.wait((serving,))
            serving.result()


async def send(
    app: Any, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: object = None, root: str = ""
) -> tuple[int, dict[str, str], Any]:
    """Send a request, and return the status, the headers and the body of its response, read as JSON if it is JSON."""
    async with request(app, method, path, headers=headers, body=body, root=root) as exchange:
        content = await exchange.body()
    is_json = "json" in exchange.headers.get("content-type", "")
    return exchange.status, exchange.headers, json.loads(content) if is_json else content.decode()
