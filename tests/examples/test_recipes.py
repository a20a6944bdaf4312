"""The recipes: errors reported to Sentry, and jobs that run for a tenant."""

import asyncio
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from examples.recipes.sentry import report_to_sentry
from examples.recipes.tenant import Tenant, for_tenant, set_tenant, tenant
from flowli_core import Jobs, Receipt, RetryAfter, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain

# Sentry


@job(str)
async def fail(input: str) -> None:
    await asyncio.sleep(0)
    sentry_sdk.set_tag("input", input)
    await asyncio.sleep(0)
    raise LookupError(input)


@job()
def fail_in_thread() -> None:
    raise ConnectionError


@job()
async def ask_again() -> None:
    raise RetryAfter("1h")


class FailingJobs(Jobs[None]):
    fail = fail
    fail_in_thread = fail_in_thread
    ask_again = ask_again


class Collecting(Transport):
    """A transport that sends nothing, and keeps the events."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.events.append(envelope.get_event() or envelope.get_transaction_event())


@pytest.fixture
def sent() -> Iterator[list[Any]]:
    """The events and transactions that were sent to Sentry."""
    transport = Collecting()
    with sentry_sdk.isolation_scope(), sentry_sdk.new_scope() as scope:
        scope.set_client(
            sentry_sdk.Client(
                "https://key@example.com/1",
                transport=transport,
                traces_sample_rate=1.0,
                default_integrations=False,
                auto_enabling_integrations=False,
            )
        )
        yield transport.events


def errors(sent: list[Any]) -> list[Any]:
    return [event for event in sent if event.get("type") != "transaction"]


async def test_sentry_gets_the_errors_of_jobs_each_in_a_scope_of_its_own(sent: list[Any]) -> None:
    async with FailingJobs(context=None, driver=MemoryDriver(), middleware=[report_to_sentry]) as jobs:
        receipts = {name: await jobs.fail.enqueue(name) for name in ("one", "two")}
        await drain(jobs)
    assert len(errors(sent)) == 2
    for event in errors(sent):
        (error,) = event["exception"]["values"]
        assert error["type"] == "LookupError"
        assert event["tags"] == {"job": "fail", "queue": "default", "input": error["value"]}
        assert event["contexts"]["job"]["id"] == receipts[error["value"]].id
    assert [event["transaction"] for event in sent] == ["fail"] * 4


async def test_sentry_gets_the_errors_of_plain_handlers_and_of_run(sent: list[Any]) -> None:
    jobs = FailingJobs(context=None, middleware=[report_to_sentry])
    with pytest.raises(ConnectionError):
        await jobs.fail_in_thread.run()
    assert [event["exception"]["values"][0]["type"] for event in errors(sent)] == ["ConnectionError"]


async def test_sentry_does_not_get_a_wish_to_be_retried(sent: list[Any]) -> None:
    with pytest.raises(RetryAfter):
        await FailingJobs(context=None, middleware=[report_to_sentry]).ask_again.run()
    assert errors(sent) == []


# Tenants


@job(str, meta=Tenant)
async def write(input: str) -> str:
    return f"{input} of {tenant.get()}"


@job(str, meta=Tenant)
def write_in_thread(input: str) -> str:
    return f"{input} of {tenant.get()}"


class TenantJobs(Jobs[None]):
    write = write
    write_in_thread = write_in_thread


@contextmanager
def request_of(name: str) -> Generator[None]:
    token = tenant.set(name)
    try:
        yield
    finally:
        tenant.reset(token)


async def test_a_job_runs_for_the_tenant_of_its_request() -> None:
    async with TenantJobs(context=None, driver=MemoryDriver(), middleware=[set_tenant]) as jobs:
        receipts = dict[str, Receipt[str]]()
        for name in ("acme", "zenith"):
            with request_of(name):
                receipts[name] = await for_tenant(jobs.write).enqueue("report")
                assert await for_tenant(jobs.write_in_thread).run("report") == f"report of {name}"
        await drain(jobs)
        for name, receipt in receipts.items():
            record = await jobs.write.get(receipt)
            assert record is not None
            assert record.result == f"report of {name}"
    assert tenant.get("none") == "none"


async def test_a_job_without_a_tenant_fails() -> None:
    async with TenantJobs(context=None, driver=MemoryDriver(), middleware=[set_tenant]) as jobs:
        receipt = await jobs.write.enqueue("report")
        await drain(jobs)
        record = await jobs.write.get(receipt)
    assert record is not None
    assert record.last_error is not None
    assert (record.state, record.last_error.type) == ("failed", "flowli_core.Abort")
    assert "enqueued without a tenant" in record.last_error.message
