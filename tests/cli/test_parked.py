"""Jobs that no worker can run so far are named by `flowli status` and `flowli doctor`."""

from __future__ import annotations

import asyncio
import importlib
import re
from datetime import timedelta
from typing import TYPE_CHECKING

from tests.conformance.builders import record
from tests.support.store import requeue_one

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.operated import Output

POLICY = b'{"v":1,"max_attempts":1,"backoff":{"delay":"PT5S"}}'
LATER = "written by a later release (its layout is 9)"
REASONS = {
    "renamed": "this worker knows no job 'renamed'",
    "send_email": f"the record's policy was {LATER}",
    "nightly": f"the attempts were {LATER}",
}


def store_parked_jobs() -> None:
    """Store two jobs with an unknown name, one with a policy and one with the attempts of a later release."""

    async def store() -> None:
        driver = importlib.import_module("operated").driver()
        await driver.open()
        await driver.enqueue([record(name="renamed", queue="mail", policy=POLICY) for _ in range(2)])
        await driver.enqueue([record(name="send_email", queue="mail", policy=b'{"v":9}')])
        await driver.enqueue([record("n", name="nightly", queue="default", policy=POLICY, due=timedelta(hours=1))])
        await requeue_one(driver, "n", attempts=b'{"v":9}')
        await driver.close()

    asyncio.run(store())


def test_status_and_doctor_name_the_jobs_that_no_worker_can_run(flowli: Callable[..., Output]) -> None:
    """They say how many there are, and why."""
    flowli("enqueue", "send_email", '{"to": "ada"}', "--delay", "1h")
    assert flowli("status", "--json").json["parked"] == []
    assert "ok\tparked jobs\tnone\t" in flowli("doctor").lines
    store_parked_jobs()
    flowli("worker", "--burst")
    found = {one["name"]: (one["count"], one["reason"]) for one in flowli("status", "--json").json["parked"]}
    assert found == {name: (2 if name == "renamed" else 1, reason) for name, reason in REASONS.items()}
    (line,) = [line for line in flowli("status").lines if line.startswith("parked\t")]
    assert f"2 renamed: {REASONS['renamed']}" in line
    output = flowli("check", "--workers", "0")
    assert output.code == 1
    assert f"parked: 2 renamed: {REASONS['renamed']}" in output.err
    check = next(one for one in flowli("doctor", "--json").json if one["name"] == "parked jobs")
    assert (check["verdict"], flowli("doctor").code) == ("bad", 1)
    assert "(oldest enqueued " in line
    lines = {re.sub(r" \(oldest enqueued (\d+ s ago|now)\)$", "", line) for line in check["value"].splitlines()[1:]}
    assert lines == {f"1 {name}: {REASONS[name]}" for name in ("send_email", "nightly")}


def test_a_job_that_was_parked_is_shown_with_the_reason(flowli: Callable[..., Output]) -> None:
    """Also if a later release wrote its attempts, where reasons are stored."""
    flowli("status")
    store_parked_jobs()
    flowli("worker", "--burst")
    shown = flowli("jobs", "show", "n", "--json").json
    assert (shown["state"], shown["attempts_made"]) == ("scheduled", 0)
    assert shown["last_error"]["message"] == REASONS["nightly"]
