"""The options of a key: `on_conflict`, `debounce`, `max_wait` and `unique_for`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from flowli_core import Jobs, ValidationError, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.durations import ZERO
from tests.support.counting import CountingDriver

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


@job(int)
async def index(input: int) -> None: ...


class Document(BaseModel):
    title: str


class AppJobs(Jobs[None]):
    index = index


@pytest.fixture
def driver() -> CountingDriver:
    return CountingDriver(MemoryDriver())


@pytest.fixture
def jobs(driver: CountingDriver) -> AppJobs:
    return AppJobs(context=None, driver=driver)


@pytest.mark.parametrize(
    ("options", "stored"),
    [
        ({}, (ZERO, "keep", None, ZERO)),
        ({"on_conflict": "keep"}, (ZERO, "keep", None, ZERO)),
        ({"on_conflict": "replace"}, (ZERO, "replace", None, ZERO)),
        ({"on_conflict": "replace", "max_wait": "1m"}, (ZERO, "replace", MINUTE, ZERO)),
        ({"debounce": "5s"}, (5 * SECOND, "replace", None, ZERO)),
        ({"debounce": 5 * SECOND, "max_wait": "1m"}, (5 * SECOND, "replace", MINUTE, ZERO)),
        ({"debounce": "5s", "max_wait": "5s", "on_conflict": "replace"}, (5 * SECOND, "replace", 5 * SECOND, ZERO)),
        ({"unique_for": "24h"}, (ZERO, "keep", None, timedelta(days=1))),
        ({"unique_for": "24h", "debounce": "5s"}, (5 * SECOND, "replace", None, timedelta(days=1))),
    ],
)
async def test_the_options_of_a_key_are_stored(
    jobs: AppJobs, driver: CountingDriver, options: dict[str, Any], stored: tuple[object, ...]
) -> None:
    await jobs.index.options(key="k", **options).enqueue(1)
    (record,) = driver.enqueued
    assert record.key == "index k"
    assert (record.due, record.on_conflict, record.max_wait, record.unique_for) == stored


async def test_options_are_combined_over_several_calls(jobs: AppJobs, driver: CountingDriver) -> None:
    """The key may be given last, beside the input."""
    debounced = jobs.index.options(debounce="5s").options(max_wait="1m").options(debounce="6s")
    await debounced.enqueue(1, key="k")
    (record,) = driver.enqueued
    assert (record.due, record.max_wait) == (6 * SECOND, MINUTE)


async def test_a_delayed_call_may_replace(jobs: AppJobs, driver: CountingDriver) -> None:
    await jobs.index.options(key="k", on_conflict="replace").delay("1m", 1)
    (record,) = driver.enqueued
    assert (record.due, record.on_conflict) == (MINUTE, "replace")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"on_conflict": "replace"},
            r"on_conflict: only a call with a key takes this; give options\(key=",
        ),
        ({"unique_for": "1h"}, "unique_for: only a call with a key takes this"),
        ({"debounce": "5s", "max_wait": "1m"}, "debounce, max_wait: only a call with a key takes this"),
        ({"key": "k", "on_conflict": "drop"}, 'on_conflict must be "keep" or "replace", got \'drop\''),
        ({"key": "k", "debounce": "0s"}, "debounce must be longer than zero"),
        ({"key": "k", "debounce": 5}, "debounce must be a duration, got int"),
        ({"key": "k", "max_wait": "-1s", "debounce": "1s"}, "max_wait is not a duration"),
        ({"key": "k", "unique_for": "0s"}, "unique_for must be longer than zero"),
        ({"key": "k", "unique_for": "4000d"}, "unique_for must be at most 3653d"),
        ({"key": "k", "max_wait": "1m"}, 'max_wait needs debounce or on_conflict="replace"'),
        ({"key": "k", "max_wait": "1m", "on_conflict": "keep"}, "max_wait needs debounce"),
        ({"key": "k", "debounce": "5s", "on_conflict": "keep"}, 'it does not go with on_conflict="keep"'),
        ({"key": "k", "debounce": "5s", "max_wait": "4s"}, "at least as long as debounce, which is 5s, got 4s"),
    ],
)
async def test_options_that_do_not_fit_are_refused(
    jobs: AppJobs, driver: CountingDriver, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        await jobs.index.options(**options).enqueue(1)
    assert driver.enqueued == []


async def test_a_debounced_call_has_no_delay(jobs: AppJobs, driver: CountingDriver) -> None:
    with pytest.raises(ValidationError, match=r"debounce says when the call is due: use enqueue\(...\)"):
        await jobs.index.options(key="k", debounce="5s").delay("1m", 1)
    assert driver.enqueued == []


async def test_many_calls_take_no_option_of_a_key(jobs: AppJobs, driver: CountingDriver) -> None:
    with pytest.raises(ValidationError, match="enqueue_many takes no key"):
        await jobs.index.options(key="k", debounce="5s").enqueue_many([1, 2])
    with pytest.raises(ValidationError, match="only a call with a key"):
        await jobs.index.options(debounce="5s").enqueue_many([1, 2])
    assert driver.enqueued == []


@pytest.mark.parametrize(
    "options", [{"debounce": "5s"}, {"on_conflict": "replace"}, {"unique_for": "1h"}, {"max_wait": "1h"}]
)
async def test_a_schedule_takes_no_option_of_a_key(jobs: AppJobs, options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="a schedule has its own key"):
        await jobs.index.options(**options).schedule("nightly", input=1, every="1d")


async def test_run_ignores_the_options_of_a_key(jobs: AppJobs) -> None:
    await jobs.index.options(debounce="5s").run(1)


async def test_an_option_among_the_fields_of_an_input_is_refused_by_its_name() -> None:
    """It is not taken for a misspelt field."""

    @job(Document)
    async def store(input: Document) -> None: ...

    class Documents(Jobs[None]):
        save = store

    calls: Any = Documents(context=None, driver=MemoryDriver()).save
    for name in ("debounce", "max_wait", "unique_for", "on_conflict"):
        with pytest.raises(ValidationError, match=rf"{name} is an option of the call, .*options\({name}=...\)"):
            await calls.enqueue(title="a", **{name: "5s"})
