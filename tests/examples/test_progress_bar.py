"""The page with a live progress bar."""

from __future__ import annotations

import json

from fastapi.testclient import TestClient

from examples.progress_bar.app import create_app
from flowli_core.drivers.memory import MemoryDriver


def test_a_book_reports_its_pages_until_it_is_printed() -> None:
    with TestClient(create_app(MemoryDriver())) as client:
        assert "new EventSource(`${path}/events`)" in client.get("/").text
        path = client.post("/books", json={"pages": 3, "seconds": 0}).headers["Location"]
        with client.stream("GET", f"{path}/events") as response:
            lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    *updates, end = [json.loads(line) for line in lines]
    assert end == {}
    assert (updates[-1]["progress"]["done"], updates[-1]["result"]) == (3, "3 pages are printed")
