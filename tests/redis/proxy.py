"""A proxy in front of a server that breaks connections on command."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FaultKind = Literal["drop", "lose", "swallow"]


@dataclass
class Fault:
    """A fault for the next `times` requests that contain `match`.

    drop: the connection is reset before the request reaches the server. lose: the server executes the request, and the
    connection is reset instead of its reply. swallow: the request is dropped, and the connection stays open, silent.
    """

    kind: FaultKind
    match: bytes
    times: int = 1


class Proxy:
    """A proxy between clients and the Unix socket of a server. `seen` counts the faults that happened.

    `rewrite` changes the bytes that the server sends. `partition` holds back the bytes of both directions until `heal`;
    then they arrive late, as over a network that retransmits. `shut` resets all connections until `heal`, new ones too.
    `delay` applies to each direction, in seconds, and `rate` to all connections together, in bytes per second.
    `carried` counts the bytes of both directions.
    """

    def __init__(self, upstream: Path, folder: Path, *, rewrite: Callable[[bytes], bytes] = bytes) -> None:
        self._rewrite = rewrite
        self._upstream = upstream
        self._socket = folder / "proxy"
        self._faults: list[Fault] = []
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._is_shut = False
        self._passable = asyncio.Event()
        self._passable.set()
        self._free_at = 0.0
        self.delay = 0.0
        self.rate = math.inf
        self.carried = 0
        self.seen: Counter[FaultKind] = Counter()

    def partition(self) -> None:
        """Hold back all bytes."""
        self._passable.clear()

    def shut(self) -> None:
        """Reset all connections, and each new one."""
        self._is_shut = True
        for link in self._links:
            link.cancel()

    def heal(self) -> None:
        """End `partition` and `shut`."""
        self._is_shut = False
        self._passable.set()

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"unix://{self._socket}"

    def fault(self, kind: FaultKind, match: bytes, *, times: int = 1) -> None:
        """Add a fault for coming requests."""
        self._faults.append(Fault(kind, match, times))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, str(self._socket))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for link in self._links:
            link.cancel()
        if self._links:
            await asyncio.wait(self._links)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._is_shut:
            to_client.transport.abort()
            return
        self._links.add(task)
        server, to_server = await asyncio.open_unix_connection(str(self._upstream))
        replies = asyncio.create_task(self._copy(server, to_client))
        try:
            while request := await client.read(2**16):
                fault = self._fault_of(request)
                if fault is None:
                    await self._travel(request)
                    to_server.write(request)
                    continue
                self.seen[fault] += 1
                replies.cancel()
                await asyncio.wait((replies,))
                if fault == "lose":
                    to_server.write(request)
                    await server.read(2**16)
                if fault == "swallow":
                    await asyncio.Event().wait()
                return
        except (OSError, asyncio.CancelledError):
            return
        finally:
            self._links.discard(task)
            replies.cancel()
            to_client.transport.abort()
            to_server.transport.abort()

    def _fault_of(self, request: bytes) -> FaultKind | None:
        for fault in self._faults:
            if fault.times and fault.match in request:
                fault.times -= 1
                return fault.kind
        return None

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(2**16):
            await self._travel(data)
            sink.write(self._rewrite(data))
        sink.transport.abort()

    async def _travel(self, data: bytes) -> None:
        await self._passable.wait()
        self.carried += len(data)
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + len(data) / self.rate
        if self._free_at + self.delay > now:
            await asyncio.sleep(self._free_at + self.delay - now)
