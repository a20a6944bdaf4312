"""The service in FastAPI. A service's own tests can look like this: send requests, advance the clock, run due jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from examples.records_service.domain.context import make_context
from examples.records_service.domain.database import OUTBOX
from examples.records_service.domain.jobs import AppJobs, Notification
from examples.records_service.domain.mailer import PretendedMailer, ServerBusyError
from examples.records_service.domain.service import Parts
from examples.records_service.on_fastapi.app import create_app
from flowli_core import Hooks, RunCounts, Runner, StoreUnavailable
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.new_records import Enqueued, NewRecord
from flowli_core.sqlalchemy import SqlOutbox
from flowli_core.testing import ManualClock, drain

PATIENCE = 20
"""Seconds after which a test that waits for an event fails."""


@pytest.fixture
def client(parts: Parts) -> Iterator[TestClient]:
    """A client of the service without a runner, which enqueues jobs and runs none."""
    with TestClient(create_app(parts)) as client:
        yield client


@pytest.fixture
def run_due(client: TestClient, parts: Parts) -> Callable[[], RunCounts]:
    """Run the jobs that are due, on the service's event loop."""
    portal = client.portal
    assert portal is not None
    return lambda: portal.call(drain, parts.jobs)


def payment(**changes: object) -> dict[str, object]:
    return {
        "reference": "INV-2025-0001",
        "name": "Zoë Ångström",
        "email": "zoe@example.com",
        "amount": "12.50",
        "currency": "EUR",
        "booked_on": "2025-02-28",
        **changes,
    }


def post(client: TestClient, **changes: object) -> dict[str, Any]:
    answer = client.post("/records", json=payment(**changes), headers={"X-Request-ID": "req_1"})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def details(client: TestClient, made: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/records/{made['record']['id']}").json()
    return found


def job_of(client: TestClient, made: dict[str, Any], what: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/jobs/{made['jobs'][what]}").json()
    return found


def test_a_record_is_stored_and_audited_before_the_answer(client: TestClient) -> None:
    made = post(client)
    found = details(client, made)
    assert {name: found[name] for name in payment()} == payment()
    assert found["audit"] == [{"action": "created", "request_id": "req_1"}]
    assert found["deliveries"] == []
    assert client.get("/records").json() == [made["record"]]


def test_the_payer_is_notified_by_a_job(
    client: TestClient, run_due: Callable[[], RunCounts], mailer: PretendedMailer
) -> None:
    made = post(client)
    assert job_of(client, made, "notification")["state"] == "queued"
    assert run_due() == RunCounts(completed=1)
    job = job_of(client, made, "notification")
    assert (job["state"], job["queue"], job["meta"]) == ("completed", "mail", {"request_id": "req_1"})
    assert details(client, made)["deliveries"] == [job["id"]]
    assert "Dear Zoë Ångström" in mailer.sent[job["id"]]


def test_a_message_to_a_busy_server_is_retried(
    client: TestClient, run_due: Callable[[], RunCounts], clock: ManualClock
) -> None:
    made = post(client, email="zoe@example.org")
    assert run_due() == RunCounts(retried=1)
    job = job_of(client, made, "notification")
    assert (job["state"], job["failure_count"], job["last_error"]["message"]) == (
        "scheduled",
        1,
        "451 greylisted, try again later",
    )
    clock.advance("1s")
    assert run_due() == RunCounts(completed=1)
    assert job_of(client, made, "notification")["attempts_made"] == 2


def test_a_message_to_an_unknown_mailbox_is_not_retried(client: TestClient, run_due: Callable[[], RunCounts]) -> None:
    made = post(client, email="nobody@example.net")
    assert run_due() == RunCounts(failed=1)
    (failed,) = client.get("/jobs", params={"state": "failed"}).json()["items"]
    assert failed["id"] == made["jobs"]["notification"]
    assert failed["attempts_made"] == 1
    assert failed["last_error"]["type"].endswith("NoSuchMailboxError")


@pytest.mark.parametrize(
    ("email", "finding"), [("zoe@example.com", "notified"), ("no@example.net", "not notified yet")]
)
def test_the_follow_up_runs_two_seconds_later(
    client: TestClient, run_due: Callable[[], RunCounts], clock: ManualClock, email: str, finding: str
) -> None:
    made = post(client, email=email)
    run_due()
    clock.advance("1999ms")
    assert run_due() == RunCounts()
    clock.advance("1ms")
    assert run_due() == RunCounts(completed=1)
    assert details(client, made)["follow_ups"] == [finding]
    assert job_of(client, made, "follow_up")["result"] == finding


def test_a_record_that_is_sent_again_is_processed_once(
    client: TestClient, run_due: Callable[[], RunCounts], clock: ManualClock
) -> None:
    made = post(client)
    assert post(client) == made
    clock.advance("2s")
    assert run_due() == RunCounts(completed=2)
    assert post(client) == made
    assert run_due() == RunCounts()
    found = details(client, made)
    assert [len(found[what]) for what in ("audit", "deliveries", "follow_ups")] == [1, 1, 1]


def test_a_reference_belongs_to_one_record(client: TestClient) -> None:
    made = post(client)
    assert client.post("/records", json=payment(amount="13.00")).status_code == 409
    assert client.get("/records").json() == [made["record"]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reference", "invoice 1"),
        ("name", "  "),
        ("name", "x" * 121),
        ("email", "zoe.example.com"),
        ("email", "zoe@localhost"),
        ("amount", "-1"),
        ("amount", "0.001"),
        ("amount", "1000000.01"),
        ("currency", "XXX"),
        ("booked_on", "2025-02-30"),
        ("booked_on", "1066-10-14"),
        ("booked_on", "3025-01-01"),
        ("note", "x" * 501),
        ("surprise", 1),
    ],
)
def test_an_invalid_record_is_refused_and_enqueues_nothing(client: TestClient, name: str, value: object) -> None:
    answer = client.post("/records", json=payment(**{name: value}))
    assert answer.status_code == 422
    assert [place["loc"] for place in answer.json()["detail"]] == [["body", name]]
    assert client.get("/records").json() == []
    assert client.get("/jobs/counts").json()["queued"] == 0


@pytest.mark.parametrize("name", ["reference", "name", "email", "amount", "currency", "booked_on"])
def test_a_record_without_a_required_field_is_refused(client: TestClient, name: str) -> None:
    answer = client.post("/records", json={key: value for key, value in payment().items() if key != name})
    assert answer.status_code == 422
    assert ["body", name] in [place["loc"] for place in answer.json()["detail"]]


def test_a_yen_has_no_cents(client: TestClient) -> None:
    assert client.post("/records", json=payment(currency="JPY")).status_code == 422
    assert post(client, currency="JPY", amount="1200")["record"]["amount"] == "1200"


def test_jobs_are_counted_and_listed_page_by_page(client: TestClient, run_due: Callable[[], RunCounts]) -> None:
    made = [post(client, reference=f"INV-2025-000{number}") for number in range(5)]
    run_due()
    counts = client.get("/jobs/counts").json()
    assert (counts["completed"], counts["scheduled"]) == (5, 5)
    assert counts["by_queue"]["mail"]["completed"] == 5
    query, listed = {"state": "completed", "limit": "2"}, list[str]()
    while True:
        page = client.get("/jobs", params=query).json()
        listed += [job["id"] for job in page["items"]]
        if page["cursor"] is None:
            break
        query["cursor"] = page["cursor"]
    assert sorted(listed) == sorted(one["jobs"]["notification"] for one in made)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/records/none", 404), ("/jobs/none", 404), ("/jobs?state=lost", 422), ("/jobs?state=failed&cursor=x", 422)],
)
def test_an_unknown_id_or_invalid_argument_is_refused(client: TestClient, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.json()["detail"]


class BreakingDriver(MemoryDriver):
    """A driver whose store is unreachable while `is_broken`."""

    is_broken = False

    async def enqueue(self, records: Sequence[NewRecord]) -> list[Enqueued]:
        if self.is_broken:
            raise StoreUnavailable("the store is unreachable")
        return await super().enqueue(records)


def with_driver(parts: Parts, mailer: PretendedMailer, driver: MemoryDriver) -> Parts:
    context, outbox = make_context(parts.store, mailer), SqlOutbox(parts.store.engine, OUTBOX)
    return replace(parts, jobs=AppJobs(context=context, driver=driver, outbox=outbox))


def test_a_record_is_accepted_while_the_store_of_jobs_is_unreachable(parts: Parts, mailer: PretendedMailer) -> None:
    """Its jobs wait in the outbox. If the client sends it again, nothing is done twice."""
    driver = BreakingDriver()
    with TestClient(create_app(with_driver(parts, mailer, driver))) as client:
        driver.is_broken = True
        first = post(client)
        driver.is_broken = False
        made = post(client)
        assert made == first
        counts = client.get("/jobs/counts").json()
        assert (counts["queued"], counts["scheduled"]) == (1, 1)
        assert len(details(client, made)["audit"]) == 1


def test_an_embedded_runner_runs_the_jobs(parts: Parts, mailer: PretendedMailer) -> None:
    is_done = threading.Event()
    runner = Runner(parts.jobs, hooks=Hooks(on_job_completed=lambda _: is_done.set()))
    with TestClient(create_app(replace(parts, runner=runner))) as client:
        made = post(client)
        assert is_done.wait(PATIENCE)
        assert list(mailer.sent) == [made["jobs"]["notification"]]
        assert client.get("/health", follow_redirects=False).json()["status"] == "ready"


def test_a_refund_is_committed_in_the_request_and_by_a_worker(
    client: TestClient, run_due: Callable[[], RunCounts]
) -> None:
    """Both run the same handler, each time with a new database session."""
    path = f"/records/{post(client)['record']['id']}"
    answer = client.post(f"{path}/refunds/now", json={"id": "a", "amount": "2.50"})
    assert (answer.status_code, answer.json()) == (201, "10.00")
    assert client.get(path).json()["refunds"] == ["a"]
    job = client.post(f"{path}/refunds", json={"id": "b", "amount": "4"}).json()
    assert client.get(path).json()["refunds"] == ["a"]
    assert run_due().completed == 4, "the notification, the refund, and the audit of both refunds"
    assert client.get(f"/jobs/{job['id']}").json()["result"] == "6.00"
    found = client.get(path).json()
    assert found["refunds"] == ["a", "b"]
    assert {line["action"] for line in found["audit"]} == {"created", "refunded 2.50", "refunded 4"}


def test_a_refund_that_is_refused_is_rolled_back(client: TestClient, run_due: Callable[[], RunCounts]) -> None:
    """Its row was written before it was refused, and its audit enqueued."""
    path = f"/records/{post(client)['record']['id']}"
    too_much = {"id": "a", "amount": "12.51"}
    answer = client.post(f"{path}/refunds/now", json=too_much)
    assert (answer.status_code, answer.json()["detail"]) == (409, "that is more than was paid")
    assert client.get(path).json()["refunds"] == []
    job = client.post(f"{path}/refunds", json=too_much).json()
    assert run_due().failed == 1
    failed = client.get(f"/jobs/{job['id']}").json()
    assert (failed["state"], failed["attempts_made"]) == ("failed", 1)
    found = client.get(path).json()
    assert (found["refunds"], [line["action"] for line in found["audit"]]) == ([], ["created"])


async def test_run_calls_the_handler_directly(parts: Parts) -> None:
    async with parts:
        message = Notification(record_id="r", to="zoe@example.org", subject="Hi", text="...")
        with pytest.raises(ServerBusyError):
            await parts.jobs.send_notification.run(message)
        assert await parts.jobs.send_notification.run(message) == "run"
        await parts.jobs.aclose()
