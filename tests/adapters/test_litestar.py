"""The plugin in a Litestar application, and `litestar jobs`."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from litestar import Litestar, Request, Router, WebSocket, get, post, websocket
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.exceptions import ImproperlyConfiguredException
from litestar.params import FromPath, JSONBody
from litestar.testing import TestClient
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient as StarletteClient

from flowli_core import DefinitionError, Hooks, Runner, StoreUnavailable, StrategyError
from flowli_core.cli._main import flowli
from flowli_core.drivers.memory import MemoryDriver
from flowli_litestar import FlowliConfig, FlowliPlugin
from flowli_litestar._commands import jobs_group
from flowli_starlette import jobs_lifespan
from tests.adapters.apps import PATIENCE, BuggyDriver, EventJobs, Events, OtherJobs, UnreachableDriver, WatchedDriver

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from litestar.types import ControllerRouterHandler


@post("/double/{number:int}")
async def enqueue(number: FromPath[int], jobs: NamedDependency[EventJobs]) -> str:
    return (await jobs.double.enqueue(number)).id


@post("/double")
async def enqueue_body(data: JSONBody[Any], jobs: NamedDependency[EventJobs]) -> str:
    return (await jobs.double.enqueue(data)).id


@get("/job/{job_id:str}")
async def look(job_id: FromPath[str], jobs: NamedDependency[EventJobs]) -> str:
    record = await jobs.inspect.get_job(job_id)
    return record.state if record else "none"


@get("/ping")
async def ping() -> str:
    return "pong"


@websocket("/doubles")
async def doubles(socket: WebSocket[Any, Any, Any], jobs: NamedDependency[EventJobs]) -> None:
    await socket.accept()
    number = int(await socket.receive_text())
    await socket.send_text(str(await jobs.double.run(number)))
    await socket.close()


ROUTES: list[ControllerRouterHandler] = [enqueue, enqueue_body, look, ping, doubles]


def memory_jobs() -> EventJobs:
    return EventJobs(context=Events(), driver=MemoryDriver())


def app_of(jobs: EventJobs, *routes: ControllerRouterHandler, **options: Any) -> Litestar:
    return Litestar([*ROUTES, *routes], plugins=[FlowliPlugin(FlowliConfig(jobs=jobs, **options))])


@get("/other")
async def takes_another(jobs: NamedDependency[OtherJobs]) -> str:
    return type(jobs).__name__


@websocket("/others")
async def takes_another_socket(socket: WebSocket[Any, Any, Any], jobs: NamedDependency[OtherJobs]) -> None: ...


@pytest.mark.parametrize("handler", [takes_another, takes_another_socket])
def test_a_handler_that_declares_another_registry_is_refused_at_the_start(handler: ControllerRouterHandler) -> None:
    with (
        pytest.RaisesGroup(
            pytest.RaisesExc(ImproperlyConfiguredException, match="declares jobs: OtherJobs, but it is a EventJobs")
        ),
        TestClient(app_of(memory_jobs(), handler)),
    ):
        pass


def test_a_handler_may_replace_the_dependency() -> None:
    other = OtherJobs(context=Events(), driver=MemoryDriver())
    replaced = Router(
        "/replaced", route_handlers=[takes_another], dependencies={"jobs": Provide(lambda: other, sync_to_thread=False)}
    )
    with TestClient(app_of(memory_jobs(), replaced)) as client:
        assert client.get("/replaced/other").text == "OtherJobs"


def test_a_request_enqueues_and_the_runner_runs_it() -> None:
    jobs, is_done = memory_jobs(), threading.Event()
    runner = Runner(jobs, hooks=Hooks(on_job_completed=lambda _: is_done.set()))
    with TestClient(app_of(jobs, runner=runner)) as client:
        job_id = client.post("/double/21").text
        assert is_done.wait(PATIENCE)
        assert client.get(f"/job/{job_id}").text == "completed"
    assert not runner.health().is_running


def test_an_application_can_be_started_again() -> None:
    jobs = memory_jobs()
    app = app_of(jobs)
    for _ in range(2):
        with TestClient(app) as client:
            job_id = client.post("/double/1").text
            assert client.get(f"/job/{job_id}").text == "queued"


def test_a_websocket_gets_the_registry() -> None:
    with TestClient(app_of(memory_jobs())) as client, client.websocket_connect("/doubles") as socket:
        socket.send_text("21")
        assert socket.receive_text() == "42"


def test_the_state_holds_the_registry_and_its_runner() -> None:
    jobs = memory_jobs()

    @get("/state")
    async def look_at_state(state: State, request: Request[Any, Any, State]) -> list[bool]:
        app_state = request.app.state
        return [state["work"] is jobs, app_state["work"] is jobs, app_state["work_runner"].health().restarts == 0]

    app = app_of(jobs, look_at_state, state_key="work", runner=Runner(jobs))
    assert app.state["work_runner"] is None
    with TestClient(app) as client:
        assert client.get("/state").json() == [True, True, True]
    assert app.state["work_runner"] is None


def test_the_applications_own_lifespan_is_entered_first_and_left_last() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def own(_: Litestar) -> AsyncGenerator[None]:
        log.append("own entered")
        yield
        log.append("own left")

    jobs = EventJobs(context=Events(log), driver=WatchedDriver(log))
    with TestClient(Litestar([], plugins=[FlowliPlugin(FlowliConfig(jobs=jobs))], lifespan=[own])):
        log.append("served")
    assert log == ["own entered", "driver opened", "served", "driver closed", "own left"]


def test_two_registries_have_two_plugins() -> None:
    first, second = memory_jobs(), OtherJobs(context=Events(), driver=MemoryDriver())

    @get("/")
    async def which(jobs: NamedDependency[EventJobs], others: NamedDependency[OtherJobs]) -> list[bool]:
        return [jobs is first, others is second]

    plugins = [
        FlowliPlugin(FlowliConfig(jobs=first)),
        FlowliPlugin(FlowliConfig(jobs=second, dependency_key="others", state_key="others")),
    ]
    with TestClient(Litestar([which], plugins=plugins)) as client:
        assert client.get("/").json() == [True, True]


@pytest.mark.parametrize("option", ["dependency_key", "state_key"])
def test_a_key_that_is_taken_is_refused(option: str) -> None:
    taken: Any = {"dependencies": {"mine": Provide(memory_jobs, sync_to_thread=False)}, "state": State({"mine": 1})}
    options: Any = {option: "mine"}
    with pytest.raises(ImproperlyConfiguredException, match=f"another {option}"):
        Litestar([], plugins=[FlowliPlugin(FlowliConfig(jobs=memory_jobs(), **options))], **taken)


def test_anything_but_a_registry_is_refused_at_once() -> None:
    not_a_registry: Any = EventJobs
    with pytest.raises(DefinitionError, match="must be an instance of a registry"):
        FlowliPlugin(FlowliConfig(jobs=not_a_registry))


def test_a_runner_of_another_registry_is_refused() -> None:
    with pytest.raises(DefinitionError, match="another registry"):
        app_of(memory_jobs(), runner=Runner(memory_jobs()))


def test_one_registry_is_not_open_in_two_applications_at_once() -> None:
    jobs = memory_jobs()
    refused: Any = pytest.RaisesGroup(pytest.RaisesExc(StrategyError, match="is open already"))
    with StarletteClient(Starlette(lifespan=jobs_lifespan(jobs))), refused, TestClient(app_of(jobs)):
        pass


def test_errors_have_the_format_of_litestars_own() -> None:
    driver = UnreachableDriver()
    with TestClient(app_of(EventJobs(context=Events(), driver=driver))) as client:
        response = client.post("/double/1")
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        assert response.json() == {
            "status_code": 503,
            "detail": "the job store is unreachable, try again in a moment",
        }
        assert client.get("/ping").text == "pong"
        driver.is_unreachable = False
        assert client.post("/double/1").status_code == 201
        response = client.post("/double", json="secret")
        assert (response.status_code, response.json()["status_code"]) == (422, 422)
        assert [issue["key"] for issue in response.json()["extra"]] == [""]
        assert "secret" not in response.text
        assert client.get("/job/%20").status_code == 422


def test_an_applications_own_exception_handlers_come_first() -> None:
    def teapot(_: Request[Any, Any, Any], __: StoreUnavailable) -> Any:
        raise AssertionError

    jobs = EventJobs(context=Events(), driver=UnreachableDriver())
    plugin = FlowliPlugin(FlowliConfig(jobs=jobs))
    app: Any = Litestar([enqueue], plugins=[plugin], exception_handlers={StoreUnavailable: teapot})
    assert app.exception_handlers[StoreUnavailable] is teapot
    without = FlowliPlugin(FlowliConfig(jobs=jobs, exception_handlers=False))
    app = Litestar([enqueue], plugins=[without])
    assert StoreUnavailable not in app.exception_handlers


def test_health_path_serves_the_readiness() -> None:
    driver = BuggyDriver()
    jobs = EventJobs(context=Events(), driver=driver)
    app = app_of(jobs, runner=Runner(jobs), health_path="/healthz")
    with TestClient(app) as client:
        while client.get("/healthz").status_code != 503:
            pass
        assert client.get("/ping").text == "pong"
        driver.is_buggy = False
        while client.get("/healthz").status_code != 200:
            pass
        assert client.get("/healthz").json()["restarts"] == driver.crashes


def test_routers_and_mounted_applications_also_get_the_registry() -> None:
    router = Router("/api", route_handlers=[enqueue])
    jobs = memory_jobs()
    inner: Any = Litestar([router, look], plugins=[FlowliPlugin(FlowliConfig(jobs=jobs))])
    app = Starlette(routes=[Mount("/sub", inner)], lifespan=jobs_lifespan(jobs))
    with StarletteClient(app) as client:
        job_id = client.post("/sub/api/double/1").text
        assert client.get(f"/sub/job/{job_id}").text == "queued"


COMMAND_APP = """
from __future__ import annotations
from contextlib import asynccontextmanager
from pathlib import Path
from litestar import Litestar
from flowli_core import Jobs, Runner, job
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_litestar import FlowliConfig, FlowliPlugin

opened: list[str] = []

@job(int)
async def double(input: int) -> int:
    print("double", input, opened, flush=True)
    return 2 * input

class AppJobs(Jobs[None]):
    double = double

@asynccontextmanager
async def own(_: Litestar):
    opened.append("database")
    yield

jobs = AppJobs(context=None, driver=SqliteDriver(Path(__file__).parent / "jobs.sqlite3"))
plugin = FlowliPlugin(FlowliConfig(jobs=jobs, runner=Runner(jobs, lease="1h")))
app = Litestar([], plugins=[plugin], lifespan=[own])
"""


@pytest.fixture
def command_app(tmp_path: Path) -> Path:
    (tmp_path / "command_app.py").write_text(COMMAND_APP)
    return tmp_path


def test_a_command_runs_the_jobs_inside_the_applications_lifespan(command_app: Path) -> None:
    enqueue_one = "import asyncio; from command_app import jobs; asyncio.run(jobs.double.enqueue(21)); "
    enqueue_one += "asyncio.run(jobs.aclose())"
    subprocess.run([sys.executable, "-c", enqueue_one], cwd=command_app, check=True, timeout=PATIENCE)
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error::DeprecationWarning",
            "-m",
            "litestar",
            "--app",
            "command_app:app",
            "jobs",
            "run",
            "--burst",
        ],
        cwd=command_app,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "double 21 ['database']\n"
    assert "AppJobs" in done.stderr
    assert "1 completed" in done.stderr


@pytest.fixture
def two_registries() -> Any:
    others = OtherJobs(context=Events(), driver=MemoryDriver())
    first = FlowliPlugin(FlowliConfig(jobs=memory_jobs()))
    second = FlowliPlugin(FlowliConfig(jobs=others, dependency_key="others", state_key="others"))
    return SimpleNamespace(app=Litestar([], plugins=[first, second]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--burst"], "name the registry with --key: jobs, others"),
        (["status"], "name the registry with --key: jobs, others"),
        (["--key", "nobody", "run"], "name the registry with --key: jobs, others"),
        (["--key", "jobs", "run", "-c", "0"], "concurrency must be a whole number"),
        (["--key", "jobs", "run", "--drain", "5"], "drain"),
    ],
)
def test_wrong_usage_of_a_command_is_refused(two_registries: Any, words: list[str], message: str) -> None:
    done = CliRunner().invoke(jobs_group, words, obj=two_registries)
    assert done.exit_code == 2
    assert message in done.output


def test_key_chooses_one_of_two_registries(two_registries: Any) -> None:
    done = CliRunner().invoke(jobs_group, ["--key", "others", "run", "--burst"], obj=two_registries)
    assert done.exit_code == 0
    assert "OtherJobs" in done.output


def test_status_shows_the_registry(two_registries: Any) -> None:
    done = CliRunner().invoke(jobs_group, ["--key", "jobs", "status"], obj=two_registries)
    assert done.exit_code == 0
    assert "MemoryDriver" in done.output
    done = CliRunner().invoke(jobs_group, ["--key", "others", "status", "--json"], obj=two_registries)
    assert json.loads(done.output)["counts"]["queued"] == 0


def test_litestar_jobs_shows_the_history(two_registries: Any) -> None:
    done = CliRunner().invoke(jobs_group, ["--key", "jobs", "history", "--json"], obj=two_registries)
    assert (done.exit_code, json.loads(done.output)["total"]["enqueued"]) == (0, 0)


def test_litestar_jobs_lists_the_lanes(two_registries: Any) -> None:
    done = CliRunner().invoke(jobs_group, ["--key", "jobs", "lanes", "--json"], obj=two_registries)
    assert (done.exit_code, json.loads(done.output)) == (0, {"lanes": [], "lane_count": 0})


def test_schedules_shows_and_changes_the_registry(two_registries: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWLI_APP", "nowhere:jobs")  # only for `flowli`, which has no application
    done = CliRunner().invoke(jobs_group, ["--key", "jobs", "schedules", "list"], obj=two_registries)
    assert (done.exit_code, done.output) == (0, "schedule\tjob\tqueue\trecurs\tnext\n")
    done = CliRunner().invoke(jobs_group, ["--key", "others", "schedules", "pause", "nobody"], obj=two_registries)
    assert done.exit_code == 1
    assert "there is no schedule with the key nobody" in done.output


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["list", "queued", "--name", "double"], 0, "no queued jobs of double\n"),
        (["requeue", "--all", "--error", "ValueError", "--yes"], 0, "0 requeued\n"),
        (["cancel", "--all", "--dry-run"], 0, "no queued jobs; nothing was changed\n"),
        (["check", "--workers", "0"], 0, "ok"),
        (["doctor"], 1, "MemoryDriver"),
        (["relay", "--once"], 1, "this registry has no outbox"),
    ],
)
def test_litestar_jobs_runs_the_commands_of_flowli(two_registries: Any, words: list[str], code: int, says: str) -> None:
    done = CliRunner().invoke(jobs_group, ["--key", "jobs", *words], obj=two_registries)
    assert done.exit_code == code
    assert says in done.output


def test_litestar_jobs_has_every_command_of_flowli_for_a_registry() -> None:
    ours: Any = flowli.commands
    assert {*ours, *ours["jobs"].commands} - {"init", "jobs", "worker"} == set(jobs_group.commands)


def test_jobs_are_enqueued_and_watched(two_registries: Any) -> None:
    words = ["--key", "jobs", "enqueue", "double", "21", "--json"]
    done = CliRunner().invoke(jobs_group, words, obj=two_registries)
    assert json.loads(done.stdout)["state"] == "queued"
    done = CliRunner().invoke(jobs_group, ["--key", "others", "watch", "nobody"], obj=two_registries)
    assert done.exit_code == 2
    assert "there is no job with the id nobody" in done.output
