"""`jobs.send_email.get(...)`: a stored call with the types of its job."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from flowli_core import DefinitionError, JobRecord, Jobs, Receipt, ValidationError, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain

if TYPE_CHECKING:
    from decimal import Decimal


class Order(BaseModel):
    number: int


class Audit(BaseModel):
    by: str


@dataclass
class Sent:
    at: datetime
    copies: tuple[int, ...]


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@job(Order, meta=Audit)
async def send(input: Order, meta: Audit | None = None) -> Sent:
    return Sent(NOON, (input.number, input.number))


@job(int)
def double(input: int) -> int:
    return input * 2


@job()
async def ping() -> None: ...


@job()
async def fails() -> int:
    raise ValueError("no")


@job(name="unannotated")
def unannotated():  # type: ignore[no-untyped-def]
    return {"at": NOON}


async def made_later() -> Sent:
    return Sent(NOON, ())


@job()
def returns_an_awaitable() -> Awaitable[Sent]:
    return made_later()


def traced(handler: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(handler)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return handler(*args, **kwargs)

    return inner


class Service:
    async def __call__(self) -> Sent:
        return Sent(NOON, ())

    async def method(self, *, copies: int) -> Sent:
        return Sent(NOON, (copies,))


@job()
async def only_for_checkers() -> Decimal:
    raise NotImplementedError


class AppJobs(Jobs[None]):
    send = send
    double = double
    ping = ping
    fails = fails
    unannotated = unannotated
    awaitable = returns_an_awaitable
    wrapped = job(name="wrapped")(traced(made_later))
    object = job(name="object")(Service())
    partial = job(name="partial")(functools.partial(Service().method, copies=2))
    only_for_checkers = only_for_checkers


@pytest.fixture
async def jobs() -> AsyncIterator[AppJobs]:
    async with AppJobs(context=None, driver=MemoryDriver()) as jobs:
        yield jobs


async def test_a_record_has_the_types_of_its_job(jobs: AppJobs) -> None:
    receipt = await jobs.send.enqueue(Order(number=3), meta=Audit(by="ada"))
    queued = await jobs.send.get(receipt)
    assert queued is not None
    assert (queued.state, queued.input, queued.meta, queued.result) == (
        "queued",
        Order(number=3),
        Audit(by="ada"),
        None,
    )
    await drain(jobs)
    completed = await jobs.send.get(receipt.id)
    assert completed is not None
    assert (completed.state, completed.result) == ("completed", Sent(NOON, (3, 3)))
    read = await jobs.inspect.get_job(receipt.id)
    assert read is not None
    assert (read.input, read.meta) == ({"number": 3}, {"by": "ada"})
    assert read.result == {"at": "2026-01-01T12:00:00Z", "copies": [3, 3]}


async def test_there_may_be_no_input_no_meta_and_no_result(jobs: AppJobs) -> None:
    receipts = [await jobs.ping.enqueue(), await jobs.ping.enqueue()]
    await drain(jobs)
    for receipt in receipts:
        record = await jobs.ping.get(receipt)
        assert record is not None
        assert (record.state, record.input, record.meta, record.result) == ("completed", None, None, None)
    assert await jobs.ping.get("gone") is None
    assert await jobs.ping.get(Receipt(id="gone", name="ping", state="queued", scheduled_for=NOON)) is None


async def test_a_failed_job_has_no_result(jobs: AppJobs) -> None:
    receipt = await jobs.fails.options(retry=None).enqueue()
    await drain(jobs)
    record = await jobs.fails.get(receipt)
    assert record is not None
    assert record.result is None
    assert record.last_error is not None


@pytest.mark.parametrize("name", ["awaitable", "wrapped", "object", "partial"])
async def test_the_type_of_a_result_is_found_behind_wrappers_and_awaitables(jobs: AppJobs, name: str) -> None:
    bound = getattr(jobs, name)
    receipt = await bound.enqueue()
    await drain(jobs)
    record = await bound.get(receipt)
    assert isinstance(record.result, Sent)


async def test_without_an_annotation_the_result_is_what_the_json_says(jobs: AppJobs) -> None:
    receipt = await jobs.unannotated.enqueue()
    await drain(jobs)
    record = await jobs.unannotated.get(receipt)
    assert record is not None
    assert record.result == {"at": "2026-01-01T12:00:00Z"}


async def test_a_receipt_or_an_id_of_another_job_is_refused(jobs: AppJobs) -> None:
    receipt: Receipt[Any] = await jobs.double.enqueue(1)
    with pytest.raises(ValidationError, match="ping: this is a receipt of the job 'double'"):
        await jobs.ping.get(receipt)
    with pytest.raises(ValidationError, match=f"ping: the record {receipt.id} is one of the job 'double'"):
        await jobs.ping.get(receipt.id)
    anything: Any = 5
    with pytest.raises(ValidationError, match="id must be a str, got int"):
        await jobs.ping.get(anything)


async def test_a_record_that_does_not_fit_the_declared_types_any_more_is_refused_with_the_cure() -> None:
    driver = MemoryDriver()
    limited = job(Annotated[int, Field(lt=3)], name="double")(double.definition.handler)
    of_text = job(int, name="double")(returns_text)
    async with AppJobs(context=None, driver=driver) as jobs:
        receipt = await jobs.double.enqueue(3)
        await drain(jobs)
        for changed, problem in (
            (limited, "input is not valid.*less than 3"),
            (of_text, "result is not valid.*string"),
        ):
            later: Any = type("Later", (Jobs,), {"double": changed})
            refused = pytest.raises(ValidationError, match=f"double: {problem}.*; jobs.inspect.get_job")
            with refused:
                await later(context=None, driver=driver).double.get(receipt)


def returns_text(input: int) -> str:
    return str(input)


async def test_a_result_type_that_only_checkers_know_is_told_when_it_is_needed(jobs: AppJobs) -> None:
    unpack = only_for_checkers.definition.result.unpack
    with pytest.raises(DefinitionError, match=r"'Decimal', cannot be resolved.*top of the module"):
        unpack(b"1")


def test_receipts_and_records_are_types_for_pydantic_with_and_without_their_parameters() -> None:
    receipt: dict[str, Any] = {"id": "i", "name": "send", "state": "queued", "scheduled_for": NOON}
    for of in (Receipt, Receipt[Sent], Receipt[None], Receipt[Any]):
        adapter: TypeAdapter[Any] = TypeAdapter(of)
        made = adapter.validate_python(receipt)
        assert made == Receipt(**receipt)
        assert adapter.validate_json(adapter.dump_json(made)) == made
    times = dict.fromkeys(("created_at", "updated_at", "scheduled_for"), NOON)
    counts = dict.fromkeys(("attempts_made", "failure_count", "recoveries"), 0)
    absent = dict.fromkeys(
        ("key", "max_attempts", "backoff", "last_error", "last_failed_at", "next_retry_at", "started_at", "worker")
    )
    record: dict[str, Any] = {**receipt, **times, **counts, **absent, "queue": "default", "finished_at": None}
    values = {"input": {"number": 3}, "meta": {"by": "ada"}, "result": {"at": NOON, "copies": [1]}}
    plain = TypeAdapter(JobRecord).validate_python({**record, **values})
    assert (plain.input, plain.meta, plain.result) == tuple(values.values())
    typed = TypeAdapter(JobRecord[Order, Audit, Sent]).validate_python({**record, **values})
    assert (typed.input, typed.meta, typed.result) == (Order(number=3), Audit(by="ada"), Sent(NOON, (1,)))
