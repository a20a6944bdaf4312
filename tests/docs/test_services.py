"""Run the applications of the documentation, and send them requests."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.docs.pages import BLOCK, PAGES, PROGRAMS
from tests.docs.running import run

STARTED = """
import time
from {client} import TestClient
from {module} import app

with TestClient(app) as client:
    answer = client.post({path!r}, json={body!r})
    assert answer.status_code == 202, answer.text
    id = answer.json()["id"]
    while client.get("/healthz").json()["status"] != "ready":
        time.sleep(0.01)
"""

ENDED = """
    while (shown := client.get(f"{path}/{{id}}").json())["state"] != "completed":
        time.sleep(0.01)
    print(shown[{key!r}])
"""

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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for program in PROGRAMS:
        (tmp_path / program.name).write_text(program.text)
    return tmp_path


@pytest.mark.parametrize(
    ("module", "path", "body", "shown"),
    [
        ("app", "/reports", {"customer": "Ada"}, ("report", "The report of Ada")),
        ("signup_app", "/signups", {"email": "ada@example.com"}, ("result", "sent to ada@example.com")),
    ],
)
def test_a_fastapi_application_shows_the_result_of_its_job(
    folder: Path, module: str, path: str, body: dict[str, str], shown: tuple[str, str]
) -> None:
    started = STARTED.format(client="fastapi.testclient", module=module, path=path, body=body)
    assert run(folder, "-c", started + ENDED.format(path=path, key=shown[0])) == f"{shown[1]}\n"


@pytest.mark.parametrize("client", ["starlette.testclient", "litestar.testing"])
def test_the_other_applications_enqueue_their_job(folder: Path, client: str) -> None:
    module = f"{client.partition('.')[0]}_app"
    program = STARTED.format(client=client, module=module, path="/reports", body={"customer": "Ada"})
    assert run(folder, "-c", program) == ""


def test_a_client_follows_a_job_through_its_routes(folder: Path) -> None:
    assert run(folder, "-c", FOLLOWED) == "event: end The report of Ada\n"


def test_the_dashboard_lets_in_whom_its_application_authorizes(folder: Path) -> None:
    assert run(folder, "-c", SHOWN) == "ada 200 True\neve 200 False\n 403 False\n"


def test_the_calls_of_the_crawler_are_limited_and_debounced(folder: Path) -> None:
    assert run(folder, "-c", CRAWLED) == "crawl a.org 1\n"


def test_each_block_of_yaml_is_valid() -> None:
    texts = [found[2] for text in PAGES.values() for found in BLOCK.finditer(text) if found[1] == "yaml"]
    assert texts
    for text in texts:
        assert yaml.safe_load(text)
