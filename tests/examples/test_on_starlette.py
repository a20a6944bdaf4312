"""How a Starlette service's own tests can look: requests go in, due jobs are run, time passes on command."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient

from examples.records_service.on_starlette.app import create_app
from flowli_core import Hooks, RunCounts, Runner
from flowli_core.testing import drain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from examples.records_service.domain.mailer import PretendedMailer
    from examples.records_service.domain.service import Parts
    from flowli_core.testing import ManualClock

PATIENCE = 20
"""Seconds after which a test that waits for an event fails, instead of hanging."""

PAYMENT = {
    "reference": "INV-2025-0001",
    "name": "Zoë Ångström",
    "email": "zoe@example.org",
    "amount": "12.50",
    "currency": "EUR",
    "booked_on": "2025-02-28",
}


@pytest.fixture
def client(parts: Parts) -> Iterator[TestClient]:
    """A client of the service, which enqueues and runs nothing by itself."""
    with TestClient(create_app(parts)) as client:
        yield client


@pytest.fixture
def run_due(client: TestClient, parts: Parts) -> Callable[[], RunCounts]:
    """Run the jobs that are due, on the service's event loop."""
    portal = client.portal
    assert portal is not None
    return lambda: portal.call(drain, parts.jobs)


def post(client: TestClient, **changes: str) -> dict[str, Any]:
    answer = client.post("/records", json={**PAYMENT, **changes}, headers={"X-Request-ID": "req_1"})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_the_payer_is_told_by_a_job_that_is_tried_again(
    client: TestClient, run_due: Callable[[], RunCounts], clock: ManualClock, mailer: PretendedMailer
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


def test_two_seconds_later_somebody_looks_again(
    client: TestClient, run_due: Callable[[], RunCounts], clock: ManualClock
) -> None:
    made = post(client)
    clock.advance("2s")
    run_due()
    job = client.get(f"/jobs/{made['jobs']['follow_up']}").json()
    assert (job["state"], job["result"]) == ("completed", "not notified yet")


def test_a_refund_is_committed_here_and_now_and_by_a_runner(
    client: TestClient, run_due: Callable[[], RunCounts]
) -> None:
    """The same handler, each time with a database session of its own."""
    path = f"/records/{post(client)['record']['id']}"
    answer = client.post(f"{path}/refunds/now", json={"id": "a", "amount": "2.50"})
    assert (answer.status_code, answer.text.strip('"')) == (201, "10.00")
    assert client.get(path).json()["refunds"] == ["a"]
    job = client.post(f"{path}/refunds", json={"id": "b", "amount": "4"}).json()
    assert client.get(path).json()["refunds"] == ["a"]
    assert run_due().completed == 1
    assert client.get(f"/jobs/{job['id']}").json()["result"] == "6.00"
    assert client.get(path).json()["refunds"] == ["a", "b"]


def test_a_refund_that_is_refused_is_rolled_back(client: TestClient, run_due: Callable[[], RunCounts]) -> None:
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


@pytest.mark.parametrize(
    ("changes", "status"), [({"amount": "-1"}, 422), ({"currency": "XXX"}, 422), ({"amount": "13"}, 409)]
)
def test_what_is_refused_leads_to_nothing(client: TestClient, changes: dict[str, str], status: int) -> None:
    post(client)
    assert client.post("/records", json={**PAYMENT, **changes}).status_code == status
    counts = client.get("/jobs/counts").json()
    assert (counts["queued"], counts["scheduled"]) == (1, 1)


def test_what_is_not_there_is_said_so(client: TestClient) -> None:
    assert [client.get(path).status_code for path in ("/records/none", "/jobs/none", "/jobs/%20")] == [404, 404, 422]


def test_with_a_runner_nobody_has_to_ask(parts: Parts, mailer: PretendedMailer) -> None:
    is_told = threading.Event()
    runner = Runner(parts.jobs, hooks=Hooks(on_job_completed=lambda _: is_told.set()))
    with TestClient(create_app(replace(parts, runner=runner))) as client:
        made = post(client, email="zoe@example.com")
        assert is_told.wait(PATIENCE)
        assert list(mailer.sent) == [made["jobs"]["notification"]]
        assert client.get("/health", follow_redirects=False).json()["status"] == "ready"
