"""Right uses of limits and of the options of a key, which type checkers must accept. Checked by all four of them.

pyrefly does not know the type of the input in a lambda: it gives none to a call within a call of an overload.
"""

from datetime import timedelta
from typing import assert_type

from flowli_core import Jobs, Limit, Rate, Receipt, job
from pydantic import BaseModel


class Page(BaseModel):
    to: str


def recipient(input: Page) -> str:
    return input.to


shared = Limit(concurrency=3, rate=Rate(100, timedelta(minutes=1)), name="api")
by_recipient = Limit(rate="100/1m", by=recipient)


@job(Page, limit=Limit(concurrency=2, rate="10/s", by=lambda input: input.to))  # pyrefly: ignore[implicit-any-lambda]
async def limited(input: Page) -> str:
    return input.to


class AppJobs(Jobs[None]):
    limited = limited


async def takes_limits(jobs: AppJobs) -> None:
    receipt = await jobs.limited.options(key="k", debounce="5s", max_wait=timedelta(minutes=1)).enqueue(to="a")
    assert_type(receipt, Receipt[str])
    record = await jobs.limited.get(receipt)
    assert record is not None
    assert_type(record.lane, str | None)
    assert_type(await jobs.limited.options(key="k", on_conflict="replace").enqueue(to="a"), Receipt[str])
    assert_type(await jobs.limited.options(key="k", unique_for="24h").enqueue(to="a"), Receipt[str])
