"""A claim is given to one process at a time, and the records of a transaction keep their order."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from sqlalchemy import insert, update

from flowli_core.outbox import MOST_ROWS
from flowli_core.sqlalchemy._table import make_rows, pack, unpack
from tests.conformance.builders import record
from tests.outbox.conftest import Shop, rows


async def write(shop: Shop, transaction: str, count: int) -> list[str]:
    """Write the rows of a transaction, and return the ids of its records."""
    records = [record(f"{transaction}-{number:03}") for number in range(count)]
    made = make_rows(records, transaction=transaction, now=0, claimed_until=0)
    async with shop.engine.begin() as connection:
        await connection.execute(insert(rows), made)
    return [one.id for one in records]


async def claim(shop: Shop) -> list[str]:
    return [one.id for one in await shop.outbox.claim()]


async def test_a_row_is_claimed_once_until_its_claim_expires(shop: Shop) -> None:
    ids = await write(shop, "a", 2)
    assert await claim(shop) == ids
    assert await claim(shop) == []
    async with shop.engine.begin() as connection:
        await connection.execute(update(rows).values(claimed_until=rows.c.claimed_until - 31_000))
    assert await claim(shop) == ids


async def test_later_rows_of_a_transaction_wait_for_the_earlier_ones(shop: Shop) -> None:
    ids = await write(shop, "a", MOST_ROWS + 2)
    others = await write(shop, "b", 1)
    assert await claim(shop) == ids[:MOST_ROWS]
    assert await claim(shop) == others, "the last rows of the first transaction are held up"
    await shop.outbox.remove(ids[: MOST_ROWS - 1])
    assert await claim(shop) == [], "one earlier row is left"
    await shop.outbox.remove(ids[MOST_ROWS - 1 : MOST_ROWS])
    assert await claim(shop) == ids[MOST_ROWS:]


async def test_rows_behind_one_that_another_process_has_claimed_wait_for_it(shop: Shop) -> None:
    """Two processes that claim at the same time each skip the rows that the other one has locked."""
    ids, others = await write(shop, "a", 5), await write(shop, "b", 1)
    async with shop.engine.begin() as connection:
        elsewhere = update(rows).where(rows.c.id == ids[2])
        await connection.execute(elsewhere.values(claimed_until=1 << 45, claimed_by="another"))
    assert await claim(shop) == [*ids[:2], *others]
    await shop.outbox.remove([*ids[:2], *others])
    assert await claim(shop) == [], "the third is being sent"
    await shop.outbox.remove([ids[2]])
    assert await claim(shop) == ids[3:]


@pytest.mark.parametrize("why", ["refused", "unreadable"])
async def test_a_row_that_is_refused_or_unreadable_holds_up_no_later_row(shop: Shop, why: str) -> None:
    first, *others = await write(shop, "a", MOST_ROWS + 1)
    if why == "unreadable":
        async with shop.engine.begin() as connection:
            await connection.execute(update(rows).where(rows.c.id == first).values(record="{}"))
    claimed = await claim(shop)
    if why == "refused":
        await shop.outbox.postpone([first])
        claimed.remove(first)
    await shop.outbox.remove(claimed)
    assert claimed + await claim(shop) == others


@pytest.mark.parametrize("field", ["id", "name", "queue", "input", "key", "policy", "max_recoveries", "due"])
def test_a_field_of_another_type_makes_a_row_unreadable(field: str) -> None:
    """Otherwise the driver would fail, for this record and for all that are sent with it."""
    wire = json.loads(pack(record("a")))
    with pytest.raises(ValueError, match=r"type|Type|list"):
        unpack(json.dumps(wire | {field: [1]}), age=timedelta(0))
