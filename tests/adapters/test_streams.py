"""Real servers with an open stream of events: they stop at once, and the client goes on at the next one."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from tests.adapters.servers import FRAMEWORKS, SERVERS, SLOW, Framework, Server, ServerName, serving
from tests.support.figures import note_figures

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal that stops a process")

STREAMS = 10
STOPS_WITHIN = {"uvicorn": 3, "uvicorn-2": 3, "granian": 60, "hypercorn": 10}
"""Seconds within which a server must stop. Others than uvicorn wait for open responses for a time of their own."""


def cases() -> list[Any]:
    quick = ("uvicorn", "fastapi")
    return [
        pytest.param(*one, id="-".join(one), marks=() if one == quick else pytest.mark.faults)
        for one in product(SERVERS, FRAMEWORKS)
    ]


@asynccontextmanager
async def stream(server: Server, path: str, last: str = "") -> AsyncGenerator[AsyncIterator[dict[str, str]]]:
    """Open a stream, and yield its events."""

    async def events(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, str]]:
        fields: dict[str, str] = {}
        async for line in lines:
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                yield fields
                fields = {}

    async with server.client.stream("GET", f"{path}/events", headers={"Last-Event-ID": last}) as response:
        assert response.status_code == 200
        yield events(response.aiter_lines())


@pytest.mark.parametrize(("name", "framework"), cases())
async def test_an_open_stream_does_not_delay_the_end_of_its_server(
    name: ServerName, framework: Framework, tmp_path: Path
) -> None:
    opened = asyncio.Semaphore(0)
    seen: set[str] = set()

    async def follow(server: Server, path: str) -> None:
        async with stream(server, path) as events:
            first = await anext(events)
            opened.release()
            while json.loads(first["data"])["state"] != "active":
                first = await anext(events)
            seen.add(first["id"])
            async for event in events:
                assert event["event"] == "update"

    async with serving(name, framework, tmp_path, redis=None) as server:
        path = (await server.client.post("/jobs", json=SLOW)).headers["location"]
        followers = [asyncio.create_task(follow(server, path)) for _ in range(STREAMS)]
        for _ in followers:
            await opened.acquire()
        began = time.monotonic()
        await server.stop()
        took = time.monotonic() - began
        await asyncio.gather(*followers, return_exceptions=name in {"granian", "hypercorn"})
    assert took < STOPS_WITHIN[name]
    note_figures(f"{name}, {framework}: stopped with {STREAMS} open streams in {took:.2f} s")

    async with serving(name, framework, tmp_path, redis=None) as server:
        async with stream(server, path, seen.pop()) as events:
            (tmp_path / "go").touch()
            names = [event["event"] async for event in events]
        assert names[-1] == "end"
        await server.stop()
