"""Run the programs of the README, and compare what they print with what the README shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SNIPPETS = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", README, re.DOTALL))
PRINTING = (
    "hello.py",
    "in_a_function.py",
    "pages.py",
    "results.py",
    "import_pages.py",
    "sessions.py",
    "orders.py",
    "timed.py",
    "scheduled.py",
)
CACHE = ROOT / ".mypy_cache" / "readme"
TESTS = ("conftest.py", "test_jobs.py", "test_app.py")

FASTAPI_CLIENT = """
import time
from fastapi.testclient import TestClient
from app import app

with TestClient(app) as client:
    receipt = client.post("/reports", json={"customer": "Ada"}).json()
    while (answer := client.get(f"/reports/{receipt['id']}").json())["state"] != "completed":
        time.sleep(0.01)
    assert client.get("/reports/none").status_code == 404
    assert client.get("/healthz").json()["status"] == "ready"
    print(answer["report"])
"""

LIVE_CLIENT = """
from fastapi.testclient import TestClient
from live import app

with TestClient(app, headers={"X-Forwarded-User": "ada"}) as client:
    path = client.post("/reports", json={"customer": "Ada"}).headers["Location"]
    with client.stream("GET", f"{path}/events") as response:
        names = [line for line in response.iter_lines() if line.startswith("event")]
    assert client.get(path, headers={"X-Forwarded-User": "eve"}).status_code == 404
    print(names[-1], client.get(path).json()["result"])
"""

ADMIN_CLIENT = """
from fastapi.testclient import TestClient
from admin import app

with TestClient(app) as client:
    id = client.post("/reports", json={"customer": "Ada"}).json()["id"]
    for user in ("ada", "eve", ""):
        response = client.get("/jobs/job", params={"id": id}, headers={"X-Forwarded-User": user})
        print(user, response.status_code, "customer" in response.text)
"""

CRAWLER = """
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

OTHER_CLIENT = """
import time
from {framework}.{module} import TestClient
from {framework}_app import app, jobs

with TestClient(app) as client:
    answer = client.post("/reports", json={{"customer": "Ada"}})
    assert answer.status_code == 202, answer.text
    while client.get("/healthz").json()["status"] != "ready":
        time.sleep(0.01)
    print(bool(answer.json()["id"]))
"""


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, body in SNIPPETS.items():
        (tmp_path / name).write_text(body)
    return tmp_path


def test_every_python_snippet_has_a_name_and_is_run_here() -> None:
    assert README.count("```python") == len(SNIPPETS)
    assert set(SNIPPETS) == {
        "reports.py",
        "app.py",
        "starlette_app.py",
        "litestar_app.py",
        "live.py",
        "admin.py",
        "crawler.py",
        *PRINTING,
        *TESTS,
    }


def test_the_programs_print_what_is_shown(folder: Path) -> None:
    shown = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    assert [run(folder, name) for name in PRINTING] == shown


def test_the_fastapi_application_answers_with_the_result_of_its_job(folder: Path) -> None:
    assert run(folder, "-c", FASTAPI_CLIENT) == "The report of Ada\n"


def test_a_client_follows_a_job_through_its_routes(folder: Path) -> None:
    assert run(folder, "-c", LIVE_CLIENT) == "event: end The report of Ada\n"


def test_the_dashboard_lets_in_whom_its_application_authorizes(folder: Path) -> None:
    assert run(folder, "-c", ADMIN_CLIENT) == "ada 200 True\neve 200 False\n 403 False\n"


def test_the_calls_of_the_crawler_are_limited_and_debounced(folder: Path) -> None:
    assert run(folder, "-c", CRAWLER) == "crawl a.org 1\n"


@pytest.mark.parametrize(("framework", "module"), [("starlette", "testclient"), ("litestar", "testing")])
def test_the_other_applications_enqueue_their_job(folder: Path, framework: str, module: str) -> None:
    assert run(folder, "-c", OTHER_CLIENT.format(framework=framework, module=module)) == "True\n"


def test_the_examples_of_tests_pass(folder: Path) -> None:
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    assert "2 passed" in run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")


def test_mypy_accepts_every_program(folder: Path) -> None:
    assert run(folder, "-m", "mypy", "--strict", "--cache-dir", str(CACHE), *SNIPPETS).startswith("Success")


def test_the_commands_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([\w-]+)", README, re.MULTILINE):
        assert re.search(rf"^(?:[\w-]+ )*{target}(?: [\w-]+)*:", makefile, re.MULTILINE), target
