"""A call that was not awaited: nothing is stored, and Python says so."""

import gc
import inspect
import subprocess
import sys
import warnings
from pathlib import Path

from fastapi import BackgroundTasks, FastAPI
from fastapi.testclient import TestClient

from flowli_core import Jobs, Receipt, job, run_sync
from flowli_core.drivers.memory import MemoryDriver


@job(str)
async def greet(input: str) -> None: ...


class AppJobs(Jobs[None]):
    greet = greet


jobs = AppJobs(context=None, driver=MemoryDriver())


def forget() -> None:
    jobs.greet.enqueue("Ada")  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]


ASSIGNED = """
import tracemalloc

from flowli_core import Jobs, job
from flowli_core.drivers.memory import MemoryDriver

@job(str)
async def greet(input: str) -> None: ...

class AppJobs(Jobs[None]):
    greet = greet

def route(jobs):
    receipt = jobs.greet.enqueue("Ada")
    return "done"

tracemalloc.start(1)
route(AppJobs(context=None, driver=MemoryDriver()))
"""


def test_the_warning_names_the_line_of_a_call_whose_result_is_not_used() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        forget()
    (warning,) = caught
    assert "'BoundJob.enqueue' was never awaited" in str(warning.message)
    assert (warning.filename, warning.lineno) == (__file__, inspect.getsourcelines(forget)[1] + 1)
    assert run_sync(jobs.inspect.get_overview()).counts.queued == 0


def test_with_tracemalloc_the_warning_names_the_line_of_every_call(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(ASSIGNED)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
    line = ASSIGNED[: ASSIGNED.index("receipt =")].count("\n") + 1
    assert f'File "{program}", lineno {line}' in done.stderr


def test_a_route_that_returns_the_call_fails() -> None:
    app = FastAPI()

    @app.get("/")
    def route() -> Receipt[None]:
        return jobs.greet.enqueue("Ada")  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert TestClient(app, raise_server_exceptions=False).get("/").status_code == 500
        gc.collect()


def test_frameworks_see_that_a_call_is_async() -> None:
    """FastAPI calls any other function in a thread, and drops the coroutine that it returns."""
    app = FastAPI()
    registry = AppJobs(context=None, driver=MemoryDriver())

    @app.get("/")
    def route(tasks: BackgroundTasks) -> None:
        tasks.add_task(registry.greet.enqueue, "Ada")

    with TestClient(app) as client:
        assert client.get("/").status_code == 200
    assert run_sync(registry.inspect.get_overview()).counts.queued == 1
