"""Run the programs of the README, and compare what they print with what the README shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.running import CRAWLED, FOLLOWED, SHOWN, run

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
    assert run(folder, "-c", FOLLOWED) == "event: end The report of Ada\n"


def test_the_dashboard_lets_in_whom_its_application_authorizes(folder: Path) -> None:
    assert run(folder, "-c", SHOWN) == "ada 200 True\neve 200 False\n 403 False\n"


def test_the_calls_of_the_crawler_are_limited_and_debounced(folder: Path) -> None:
    assert run(folder, "-c", CRAWLED) == "crawl a.org 1\n"


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
