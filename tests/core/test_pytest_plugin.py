"""The pytest plugin for users: its fixtures under each way to run async tests, and its guard of the real store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CONFTEST = """
import pytest

pytest_plugins = ["flowli_core.testing.pytest_plugin"]

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""

APP = """
from fastapi import FastAPI
from flowli_core import Jobs, Runner, job
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_fastapi import jobs_lifespan

ran = []

@job(str)
async def send(input: str) -> str:
    ran.append(input)
    return input

class AppJobs(Jobs[None]):
    send = send

def create_app(jobs, runner=None):
    return FastAPI(lifespan=jobs_lifespan(jobs, runner))

real = AppJobs(context=None, driver=SqliteDriver("real.sqlite3"))
app = create_app(real, Runner(real))
"""

TESTS = """
import asyncio
import pytest
from app import AppJobs, app, create_app, ran, real
from fastapi.testclient import TestClient
from flowli_core import StrategyError
from flowli_core.testing import drain
from litestar import Litestar
from litestar.testing import TestClient as LitestarClient
from flowli_litestar import FlowliConfig, FlowliPlugin
from starlette.applications import Starlette
from flowli_starlette import jobs_lifespan

async def sends_later(clock, driver):
    assert ran == []
    jobs = AppJobs(context=None, driver=driver)
    receipt = await jobs.send.delay("10m", "a")
    assert (await drain(jobs)).completed == 0
    clock.advance("10m")
    assert (await drain(jobs)).completed == 1
    assert (await jobs.send.get(receipt)).result == "a"
    ran.clear()

@pytest.mark.asyncio
async def test_with_asyncio(flowli_clock, flowli_driver):
    await sends_later(flowli_clock, flowli_driver)

@pytest.mark.anyio
async def test_with_anyio(flowli_clock, flowli_driver):
    await sends_later(flowli_clock, flowli_driver)

def test_plain(flowli_clock, flowli_driver):
    asyncio.run(sends_later(flowli_clock, flowli_driver))

def test_application(flowli_driver):
    jobs = AppJobs(context=None, driver=flowli_driver)
    with TestClient(create_app(jobs)) as client:
        client.portal.call(jobs.send.enqueue, "b")
        assert client.portal.call(drain, jobs).completed == 1
    ran.clear()

@pytest.fixture(scope="session")
def client():
    with TestClient(app) as client:
        yield client

def test_real_application_is_refused_in_a_fixture(client):
    pass

@pytest.mark.parametrize("start", [
    lambda: TestClient(app),
    lambda: TestClient(create_app(real)),
    lambda: TestClient(Starlette(lifespan=jobs_lifespan(real))),
    lambda: LitestarClient(Litestar([], plugins=[FlowliPlugin(FlowliConfig(jobs=real))])),
], ids=["embedded", "fastapi", "starlette", "litestar"])
def test_real_application_is_refused(start):
    with pytest.RaisesGroup(StrategyError, flatten_subgroups=True, allow_unwrapped=True), start():
        pass
    assert ran == []

@pytest.mark.flowli_real_store
def test_marked_test_may_use_the_real_store():
    with TestClient(app) as client:
        client.portal.call(real.send.enqueue, "c")
"""


def test_the_fixtures_work_in_all_kinds_of_tests_and_no_test_uses_the_real_store(tmp_path: Path) -> None:
    for name, text in (("conftest.py", CONFTEST), ("app.py", APP), ("test_app.py", TESTS)):
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider", "test_app.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "9 passed, 1 error" in done.stdout, done.stdout
    assert "ERROR test_app.py::test_real_application_is_refused_in_a_fixture" in done.stdout
    assert "StrategyError: a test would use the store of SqliteDriver(" in done.stdout
