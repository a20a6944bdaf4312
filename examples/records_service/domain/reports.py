"""Reports: the records of a currency, added up by a job that reports its progress."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from pydantic import BaseModel

from flowli_core import current_job

from .models import Currency
from .store import RecordStore

_PER_PAGE = 10
_PAGE_TIME = 0.1


class NewReport(BaseModel):
    """A report, as a client orders it."""

    currency: Currency


class Report(BaseModel):
    """The number and the sum of the payments in a currency."""

    currency: Currency
    records: int
    total: Decimal


async def add_up(store: RecordStore, currency: Currency) -> Report:
    """Add up the records of a currency, page by page, in a job that reports its progress."""
    amounts: list[Decimal] = []
    count, done = await asyncio.to_thread(store.count), 0
    while page := await asyncio.to_thread(store.page, limit=_PER_PAGE, offset=done):
        await asyncio.sleep(_PAGE_TIME)  # the time that a real report takes for a page
        amounts += [record.amount for record in page if record.currency == currency]
        done += len(page)
        current_job().progress(done, max(done, count), f"{len(amounts)} in {currency}")
    return Report(currency=currency, records=len(amounts), total=sum(amounts, Decimal()))
