"""Run a program in a process of its own, and the clients of programs that the README and the pages share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLLOWED = """
from fastapi.testclient import TestClient
from live import app

with TestClient(app, headers={"X-Forwarded-User": "ada"}) as client:
    path = client.post("/reports", json={"customer": "Ada"}).headers["Location"]
    with client.stream("GET", f"{path}/events") as response:
        names = [line for line in response.iter_lines() if line.startswith("event")]
    assert client.get(path, headers={"X-Forwarded-User": "eve"}).status_code == 404
    print(names[-1], client.get(path).json()["result"])
"""

SHOWN = """
from fastapi.testclient import TestClient
from admin import app

with TestClient(app) as client:
    id = client.post("/reports", json={"customer": "Ada"}).json()["id"]
    for user in ("ada", "eve", ""):
        response = client.get("/jobs/job", params={"id": id}, headers={"X-Forwarded-User": user})
        print(user, response.status_code, "customer" in response.text)
"""

CRAWLED = """
import asyncio
from crawler import AppJobs, Page, on_edit
from flowli_core.drivers.memory import MemoryDriver

async def main():
    async with AppJobs(context=None, driver=MemoryDriver()) as jobs:
        receipt = await jobs.crawl.enqueue(Page(domain="a.org"))
        await on_edit(jobs, "acme")
        await on_edit(jobs, "acme")
        record = await jobs.inspect.get_job(receipt.id)
        print(record.limit, record.lane, await jobs.inspect.count("scheduled"))

asyncio.run(main())
"""


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout
