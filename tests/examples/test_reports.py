"""The reports of the service, in each framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from examples.records_service.domain import service
from examples.records_service.domain.store import RecordStore
from flowli_core import RunCounts
from tests.examples.frameworks import FRAMEWORKS, Framework, post


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> Framework:
    """Each framework in turn."""
    return FRAMEWORKS[request.param]


def test_a_report_is_ordered_and_waited_for(
    client: Any, run_due: Callable[[], RunCounts], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "REPORT_WITHIN", "10ms")
    post(client, email="zoe@example.com")
    ordered = client.post("/reports", json={"currency": "EUR"})
    path = ordered.headers["Location"]
    assert (ordered.status_code, path) == (202, f"/reports/{ordered.json()['id']}")
    early = client.get(path)
    assert (early.status_code, early.headers["Retry-After"]) == (202, "1")
    assert run_due().completed == 2
    done = client.get(path)
    assert (done.status_code, done.json()) == (200, {"currency": "EUR", "records": 1, "total": "12.50"})
    progress = client.get(f"/jobs/{ordered.json()['id']}").json()["progress"]
    assert (progress["done"], progress["total"], progress["note"]) == (1, 1, "1 in EUR")


def test_the_progress_of_a_report_is_sent_as_events(client: Any, run_due: Callable[[], RunCounts]) -> None:
    post(client, email="zoe@example.com")
    path = client.post("/reports", json={"currency": "EUR"}).headers["Location"]
    run_due()
    answer = client.get(f"{path}/events")
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert '"note":"1 in EUR"' in answer.text
    assert "event: end" in answer.text
    assert client.get("/reports/none/events").status_code == 404


def test_a_report_that_failed_or_does_not_exist_is_refused(
    client: Any, store: RecordStore, run_due: Callable[[], RunCounts]
) -> None:
    made = post(client, email="zoe@example.com")
    path = client.post("/reports", json={"currency": "EUR"}).headers["Location"]
    store.__exit__()
    run_due()
    assert [client.get(one).status_code for one in (path, "/reports/none")] == [409, 404]
    assert client.get(f"/reports/{made['jobs']['notification']}").status_code == 422
