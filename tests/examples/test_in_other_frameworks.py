"""The service in Starlette and in Litestar: the same tests for both."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from examples.records_service.domain.mailer import PretendedMailer
from examples.records_service.domain.service import Parts
from flowli_core import Hooks, RunCounts, Runner
from flowli_core.dashboard import Dashboard
from flowli_core.testing import ManualClock
from tests.examples.frameworks import FRAMEWORKS, PAYMENT, Framework, post

PATIENCE = 20
"""Seconds after which a test that waits for an event fails."""


@pytest.fixture(params=["starlette", "litestar"])
def framework(request: pytest.FixtureRequest) -> Framework:
    """Each framework in turn."""
    return FRAMEWORKS[request.param]


def test_the_payer_is_notified_by_a_job_that_is_retried(
    client: Any, run_due: Callable[[], RunCounts], clock: ManualClock, mailer: PretendedMailer
) -> None:
    made = post(client)
    path = f"/records/{made['record']['id']}"
    assert client.get(path).json()["audit"] == [{"action": "created", "request_id": "req_1"}]
    assert run_due() == RunCounts(retried=1)
    clock.advance("1s")
    assert run_due() == RunCounts(completed=1)
    job = client.get(f"/jobs/{made['jobs']['notification']}").json()
    assert (job["state"], job["attempts_made"], job["failure_count"]) == ("completed", 2, 1)
    assert client.get(path).json()["deliveries"] == [job["id"]] == list(mailer.sent)


def test_the_follow_up_runs_two_seconds_later(
    client: Any, run_due: Callable[[], RunCounts], clock: ManualClock
) -> None:
    made = post(client)
    clock.advance("2s")
    run_due()
    job = client.get(f"/jobs/{made['jobs']['follow_up']}").json()
    assert (job["state"], job["result"]) == ("completed", "not notified yet")


def test_a_refund_is_committed_in_the_request_and_by_a_worker(client: Any, run_due: Callable[[], RunCounts]) -> None:
    """Both run the same handler, each time with a new database session."""
    path = f"/records/{post(client)['record']['id']}"
    answer = client.post(f"{path}/refunds/now", json={"id": "a", "amount": "2.50"})
    assert (answer.status_code, answer.text.strip('"')) == (201, "10.00")
    assert client.get(path).json()["refunds"] == ["a"]
    job = client.post(f"{path}/refunds", json={"id": "b", "amount": "4"}).json()
    assert client.get(path).json()["refunds"] == ["a"]
    assert run_due().completed == 3, "the refund, and the audit of both refunds"
    assert client.get(f"/jobs/{job['id']}").json()["result"] == "6.00"
    assert client.get(path).json()["refunds"] == ["a", "b"]


def test_a_refund_that_is_refused_is_rolled_back(client: Any, run_due: Callable[[], RunCounts]) -> None:
    """Its row was written before it was refused."""
    path = f"/records/{post(client)['record']['id']}"
    too_much = {"id": "a", "amount": "12.51"}
    answer = client.post(f"{path}/refunds/now", json=too_much)
    assert answer.status_code == 409
    assert "that is more than was paid" in answer.text
    assert client.get(path).json()["refunds"] == []
    job = client.post(f"{path}/refunds", json=too_much).json()
    assert run_due().failed == 1
    assert client.get(f"/jobs/{job['id']}").json()["attempts_made"] == 1
    assert client.get(path).json()["refunds"] == []


@pytest.mark.parametrize("changes", [{"amount": "-1"}, {"currency": "XXX"}, {"amount": "13"}])
def test_a_refused_request_enqueues_nothing(client: Any, framework: Framework, changes: dict[str, str]) -> None:
    """Two bodies are invalid; the third is another payment with the same reference, which is a conflict."""
    post(client)
    status = 409 if changes == {"amount": "13"} else framework.refusal
    assert client.post("/records", json={**PAYMENT, **changes}).status_code == status
    counts = client.get("/jobs/counts").json()
    assert (counts["queued"], counts["scheduled"]) == (1, 1)


def test_an_unknown_record_or_job_is_not_found(client: Any) -> None:
    assert [client.get(path).status_code for path in ("/records/none", "/jobs/none", "/jobs/%20")] == [404, 404, 422]


def test_an_embedded_runner_runs_the_jobs(framework: Framework, parts: Parts, mailer: PretendedMailer) -> None:
    is_done = threading.Event()
    runner = Runner(parts.jobs, hooks=Hooks(on_job_completed=lambda _: is_done.set()))
    with framework.client(framework.create_app(replace(parts, runner=runner))) as client:
        made = post(client, email="zoe@example.com")
        assert is_done.wait(PATIENCE)
        assert list(mailer.sent) == [made["jobs"]["notification"]]
        assert client.get("/health", follow_redirects=False).json()["status"] == "ready"


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_dashboard_is_there_if_the_settings_say_so(name: str, parts: Parts) -> None:
    dashboard = Dashboard(parts.jobs, allow_anonymous=True)
    for given, status in ((None, 404), (dashboard, 200)):
        with FRAMEWORKS[name].client(FRAMEWORKS[name].create_app(replace(parts, dashboard=given))) as client:
            assert client.get("/dashboard/").status_code == status
