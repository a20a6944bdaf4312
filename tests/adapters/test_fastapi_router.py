"""`jobs_router`: the jobs and schedules that it shows, and the payloads that it hides."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import pytest
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.testclient import TestClient

from flowli_core import AllMissed, DefinitionError
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain
from flowli_fastapi import JobsMiddleware, jobs_lifespan, jobs_of, jobs_router
from tests.adapters.apps import EventJobs, Events, OtherJobs, SecretJobs, UnreachableDriver

if TYPE_CHECKING:
    from collections.abc import Iterator

CARRIED = "42424242"


async def require_password(x_password: Annotated[str, Header()]) -> None:
    if x_password != "open sesame":  # noqa: S105 - a test
        raise HTTPException(401)


@pytest.fixture
def jobs() -> SecretJobs:
    return SecretJobs(context=Events(), driver=MemoryDriver())


def client_of(jobs: Any, **options: Any) -> TestClient:
    app = FastAPI(lifespan=jobs_lifespan(jobs))
    app.include_router(jobs_router(**options), prefix="/admin")
    return TestClient(app)


@pytest.fixture
def client(jobs: SecretJobs) -> Iterator[TestClient]:
    with client_of(jobs, allow_anonymous=True) as client:
        yield client


def portal(client: TestClient) -> Any:
    assert client.portal is not None
    return client.portal


def fill(client: TestClient, jobs: SecretJobs) -> None:
    async def enqueue_and_run() -> None:
        await jobs.echo.options(id="job-1", key=CARRIED).enqueue(CARRIED)
        await jobs.fail.options(id="failed").enqueue(CARRIED)
        await drain(jobs)

    portal(client).call(enqueue_and_run)


def plan(client: TestClient, jobs: SecretJobs) -> None:
    async def schedule_two() -> None:
        missed = AllMissed(limit=3)
        await jobs.echo.schedule(
            "daily", cron="0 8 * * *", timezone="Europe/Paris", input=CARRIED, missed=missed, overlap="skip"
        )
        await jobs.fail.schedule("often", every="15m", input=CARRIED, start=datetime(2030, 1, 1, tzinfo=UTC))
        await jobs.control.pause("often")

    portal(client).call(schedule_two)


def test_a_router_that_anybody_may_read_must_be_asked_for() -> None:
    with pytest.raises(DefinitionError, match="allow_anonymous=True"):
        jobs_router()
    with pytest.raises(DefinitionError, match="dependencies"):
        jobs_router(dependencies=[])


@pytest.mark.parametrize("path", ["/counts", "?state=failed", "/schedules", "/job-1"])
def test_a_client_that_the_dependencies_refuse_sees_nothing(jobs: SecretJobs, path: str) -> None:
    with client_of(jobs, dependencies=[Depends(require_password)]) as client:
        fill(client, jobs)
        assert client.get(f"/admin/jobs{path}").status_code == 422
        assert client.get(f"/admin/jobs{path}", headers={"X-Password": "hello"}).status_code == 401
        assert client.get(f"/admin/jobs{path}", headers={"X-Password": "open sesame"}).status_code == 200


def test_the_router_counts_lists_and_shows_jobs(client: TestClient, jobs: SecretJobs) -> None:
    fill(client, jobs)
    counts = client.get("/admin/jobs/counts").json()
    assert (counts["completed"], counts["failed"]) == (1, 1)
    assert counts["by_queue"]["default"]["failed"] == 1
    (failed,) = client.get("/admin/jobs", params={"state": "failed"}).json()["items"]
    assert (failed["id"], failed["name"], failed["attempts_made"]) == ("failed", "fail", 1)
    assert failed == client.get("/admin/jobs/failed").json()
    assert failed["last_error"] == {"type": "ValueError"}
    assert [(one["number"], one["error"]) for one in failed["attempts"]] == [(1, {"type": "ValueError"})]


def test_the_router_shows_a_job_whose_id_holds_a_slash(client: TestClient, jobs: SecretJobs) -> None:
    portal(client).call(jobs.echo.options(id="orders/7").enqueue, CARRIED)
    assert client.get("/admin/jobs/orders/7").json()["id"] == "orders/7"


@pytest.mark.parametrize("record_id", ["counts", "schedules", "by-id", "by-id/7", "orders/7", "job-1"])
def test_the_router_shows_every_job_by_its_id(client: TestClient, jobs: SecretJobs, record_id: str) -> None:
    portal(client).call(jobs.echo.options(id=record_id).enqueue, CARRIED)
    assert client.get(f"/admin/jobs/by-id/{record_id}").json()["id"] == record_id


@pytest.mark.parametrize("path", ["/counts", "?state=failed", "/schedules", "/job-1", "/nobody", "/by-id/job-1"])
def test_no_response_of_the_router_may_be_cached(client: TestClient, jobs: SecretJobs, path: str) -> None:
    fill(client, jobs)
    assert client.get(f"/admin/jobs{path}").headers["Cache-Control"] == "no-store"


def test_the_responses_to_strangers_and_those_without_a_store_may_not_be_cached(jobs: SecretJobs) -> None:
    with client_of(jobs, dependencies=[Depends(require_password)]) as client:
        response = client.get("/admin/jobs/counts", headers={"X-Password": "hello"})
        assert (response.status_code, response.headers["Cache-Control"]) == (401, "no-store")
    with client_of(EventJobs(context=Events(), driver=UnreachableDriver()), allow_anonymous=True) as client:
        response = client.get("/admin/jobs/nobody")
        assert (response.status_code, response.headers["Cache-Control"]) == (503, "no-store")


def test_the_router_lists_schedules(client: TestClient, jobs: SecretJobs) -> None:
    assert client.get("/admin/jobs/schedules").json() == {"items": [], "cursor": None}
    plan(client, jobs)
    query: dict[str, str] = {"limit": "1"}
    first = client.get("/admin/jobs/schedules", params=query).json()
    second = client.get("/admin/jobs/schedules", params=query | {"cursor": first["cursor"]}).json()
    assert second["cursor"] is None
    (daily,), (often,) = first["items"], second["items"]
    assert (daily["key"], daily["name"], daily["queue"]) == ("daily", "echo", "default")
    assert (daily["cron"], daily["timezone"], daily["every"]) == ("0 8 * * *", "Europe/Paris", None)
    assert (daily["missed"], daily["overlap"], daily["readable"]) == ({"limit": 3}, "skip", True)
    assert (daily["paused"], daily["last_tick"]) == (False, None)
    assert datetime.fromisoformat(daily["next_tick"]).astimezone(ZoneInfo("Europe/Paris")).hour == 8
    assert (often["key"], often["every"], often["cron"]) == ("often", "PT15M", None)
    assert (often["missed"], often["paused"], often["next_tick"]) == ("once", True, None)
    assert datetime.fromisoformat(often["start"]) == datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("is_shown", [False, True])
def test_the_payloads_of_schedules_are_hidden_by_default(jobs: SecretJobs, *, is_shown: bool) -> None:
    with client_of(jobs, allow_anonymous=True, show_payloads=is_shown) as client:
        plan(client, jobs)
        response = client.get("/admin/jobs/schedules")
        assert (CARRIED in response.text) is is_shown
        assert [one.get("input") for one in response.json()["items"]] == ([CARRIED] * 2 if is_shown else [None] * 2)


def test_pages_of_jobs_follow_each_other(client: TestClient, jobs: SecretJobs) -> None:
    portal(client).call(jobs.echo.enqueue_many, ["a", "b", "c"])
    query: dict[str, str | None] = {"state": "queued", "limit": "2"}
    seen: list[str] = []
    for size in (2, 1):
        page: dict[str, Any] = client.get("/admin/jobs", params=query).json()
        assert len(page["items"]) == size
        seen += [job["id"] for job in page["items"]]
        query["cursor"] = page["cursor"]
    assert query["cursor"] is None
    assert len(set(seen)) == 3


@pytest.mark.parametrize("is_shown", [False, True])
def test_the_payloads_of_jobs_are_hidden_by_default(jobs: SecretJobs, *, is_shown: bool) -> None:
    with client_of(jobs, allow_anonymous=True, show_payloads=is_shown) as client:
        fill(client, jobs)
        for path in ("?state=completed", "?state=failed", "/failed", "/job-1"):
            response = client.get(f"/admin/jobs{path}")
            assert response.status_code == 200
            assert (CARRIED in response.text) is is_shown
        shown = client.get("/admin/jobs/job-1").json()
        assert (shown["progress"]["done"], shown["progress"]["fraction"]) == (1, 0.25)
        assert ("note" in shown["progress"], "log" in shown) == (is_shown, is_shown)
        if is_shown:
            assert (shown["progress"]["note"], shown["log"][0]["text"]) == (CARRIED, CARRIED)
        schema = client.get("/openapi.json").json()["components"]["schemas"]
        properties = schema["FullJobOut" if is_shown else "JobOut"]["properties"]
        assert ("input" in properties, "lane" in properties, "limit" in properties) == (is_shown, is_shown, True)


def test_the_schema_describes_the_responses(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        f"/admin/jobs{path}" for path in ("", "/counts", "/schedules", "/by-id/{job_id}", "/{job_id}")
    }
    assert {method for path in schema["paths"].values() for method in path} == {"get"}
    response = schema["paths"]["/admin/jobs/{job_id}"]["get"]["responses"]
    assert response["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/JobOut"}
    assert set(response) == {"200", "404", "422", "503"}
    assert "input" not in schema["components"]["schemas"]["JobOut"]["properties"]
    assert "FullJobOut" not in json.dumps(schema)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/none", 404),
        ("/%20", 422),
        ("?state=lost", 422),
        ("", 422),
        ("?state=failed&limit=0", 422),
        ("?state=failed&limit=1001", 422),
        ("?state=failed&cursor=x", 422),
        ("/schedules?limit=0", 422),
    ],
)
def test_unknown_jobs_and_invalid_parameters_are_refused(client: TestClient, path: str, status: int) -> None:
    response = client.get(f"/admin/jobs{path}")
    assert response.status_code == status
    assert response.json()["detail"]


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("?state=failed&cursor=x", ["query", "cursor"]),
        ("/schedules?cursor=x", ["query", "cursor"]),
        ("/%20", ["path", "job_id"]),
        ("/by-id/%20", ["path", "job_id"]),
        ("?state=failed&limit=0", ["query", "limit"]),
    ],
)
def test_a_refusal_names_the_parameter(client: TestClient, path: str, location: list[str]) -> None:
    (problem,) = client.get(f"/admin/jobs{path}").json()["detail"]
    assert problem["loc"] == location


def test_an_unreachable_store_is_a_503() -> None:
    with client_of(EventJobs(context=Events(), driver=UnreachableDriver()), allow_anonymous=True) as client:
        for path in ("/counts", "?state=failed", "/schedules", "/job-1"):
            response = client.get(f"/admin/jobs{path}")
            assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
            assert "the store is unreachable" not in response.text


def test_a_router_can_show_one_of_several_registries(jobs: SecretJobs) -> None:
    app = FastAPI(lifespan=jobs_lifespan(jobs, inner=jobs_lifespan(OtherJobs(context=Events(), driver=MemoryDriver()))))
    app.include_router(jobs_router(allow_anonymous=True, jobs=jobs_of(SecretJobs), prefix="/secret"))
    app.include_router(jobs_router(allow_anonymous=True, jobs=jobs_of(OtherJobs), prefix="/other"))
    with TestClient(app) as client:
        fill(client, jobs)
        assert client.get("/secret/counts").json()["failed"] == 1
        assert client.get("/other/counts").json()["failed"] == 0


async def test_the_router_works_behind_the_middleware(jobs: SecretJobs) -> None:
    app = FastAPI()
    app.add_middleware(JobsMiddleware, jobs=jobs)
    app.include_router(jobs_router(allow_anonymous=True))
    with TestClient(app) as client:
        assert client.get("/jobs/counts").json()["queued"] == 0
    await jobs.aclose()
