"""A shop with a day of jobs behind it, for the pictures of the documentation. The day is the same each time."""

from __future__ import annotations

import math
import random
import time
import traceback
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest.mock import patch

from pydantic import BaseModel

from flowli_core import Defaults, Jobs, Keep, Retry, current_job, exponential, job
from flowli_core._progress import LogLine, Progress
from flowli_core._wire.about import pack_about
from flowli_core._wire.reports import pack_line, pack_progress
from flowli_core.driver import Lease, Reserved, Step
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.durations import ZERO
from flowli_core.reports import Report
from flowli_core.testing import ManualClock, drain

if TYPE_CHECKING:
    from flowli_core.driver import Lease, Reserved

NOW = datetime(2026, 11, 30, 14, 32, 10, tzinfo=UTC)
"""The time of the pictures."""

_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)
_OUTAGE = (NOW - 38 * _MINUTE, NOW - 24 * _MINUTE)
_PAUSED_AT = NOW - 18 * _MINUTE
_BUSY = NOW - 2 * _HOUR
"""From here on the jobs come a few at a time, so that the minutes look like real ones. Before, it is the hours."""


class CardNetworkError(Exception):
    """The card network cannot be reached."""

    __module__ = "bookshop.payments"


class CardDeclinedError(Exception):
    """The bank of the customer has declined the payment."""

    __module__ = "bookshop.payments"


@dataclass
class Shop:
    """The context of the jobs. Their work is to advance the clock. `worked` is how long the last of them did that."""

    clock: ManualClock
    random: random.Random
    worked: float = 0.0
    attempt: tuple[str, int] = ("", 0)

    def work(self, milliseconds: float) -> None:
        """Take about so long."""
        took = timedelta(milliseconds=milliseconds * self.random.lognormvariate(0, 0.5))
        self.clock.advance(took)
        attempt = (current_job().id, current_job().attempt)
        before = self.worked if attempt == self.attempt else 0.0
        self.worked, self.attempt = before + took.total_seconds(), attempt

    def is_down(self) -> bool:
        """Return True if the card network does not answer this time."""
        first, last = _OUTAGE
        return self.random.random() < (0.65 if first <= self.clock.now() < last else 0.004)


class Order(BaseModel):
    """An order of a customer."""

    order: str
    customer: str
    total: str


class Cover(BaseModel):
    """The cover of a book."""

    isbn: str
    widths: tuple[int, ...] = (240, 480, 960)


class Catalogue(BaseModel):
    """The catalogue of a publisher."""

    publisher: str
    url: str


class Nothing(BaseModel):
    """Nothing."""


@job(
    Order,
    queue="payments",
    retry=Retry(max_attempts=4, backoff=exponential("15s"), give_up_on=(CardDeclinedError,)),
)
async def charge_card(input: Order, ctx: Shop) -> str:
    """Charge the card of a customer."""
    ctx.work(180)
    return authorize(input, ctx)


def authorize(order: Order, shop: Shop) -> str:
    """Ask the card network for the money."""
    if shop.is_down():
        shop.work(900)
        raise CardNetworkError("503 Service Unavailable from POST https://cards.example/v1/charges")
    if shop.random.random() < 0.006:
        raise CardDeclinedError(f"the card of order {order.order} was declined: insufficient funds")
    return f"charged {order.total}"


@job(Order, queue="mail")
async def send_receipt(input: Order, ctx: Shop) -> None:
    """Send a receipt."""
    ctx.work(60)


@job(Order, queue="mail")
async def remind_of_cart(input: Order, ctx: Shop) -> None:
    """Remind a customer of the books in their cart."""
    ctx.work(60)


@job(Cover, queue="media")
async def resize_cover(input: Cover, ctx: Shop) -> list[int]:
    """Make smaller images of a cover."""
    ctx.work(420)
    return list(input.widths)


@job(Catalogue, queue="imports", timeout="1h")
async def import_catalogue(input: Catalogue, ctx: Shop) -> int:
    """Import the catalogue of a publisher."""
    ctx.work(4000)
    return ctx.random.randrange(1000, 9000)


@job(Order, queue="newsletter")
async def send_newsletter(input: Order, ctx: Shop) -> None:
    """Send the newsletter to a customer."""
    ctx.work(50)


@job(Nothing)
async def sync_stock(input: Nothing, ctx: Shop) -> int:
    """Compare the stock with that of the warehouse."""
    ctx.work(900)
    return ctx.random.randrange(40)


@job(Nothing)
async def write_daily_report(input: Nothing, ctx: Shop) -> str:
    """Write the report of a day."""
    ctx.work(6000)
    return "reports/2026-11-29.pdf"


class BookshopJobs(Jobs[Shop]):
    """The registry."""

    charge_card = charge_card
    send_receipt = send_receipt
    remind_of_cart = remind_of_cart
    resize_cover = resize_cover
    import_catalogue = import_catalogue
    send_newsletter = send_newsletter
    sync_stock = sync_stock
    write_daily_report = write_daily_report


@job(Order, queue="mail")
async def send_gift_card(input: Order, ctx: Shop) -> None:
    """Send a gift card."""


class NextJobs(Jobs[Shop]):
    """The registry of the next release, whose workers do not run yet."""

    send_gift_card = send_gift_card


class Bookshop:
    """A registry with an empty store, a day before the pictures are taken."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW - timedelta(days=1, minutes=4))
        self.random = random.Random(20261130)  # noqa: S311 - not a secret
        self.driver = MemoryDriver(clock=self.clock)
        self._shop = shop = Shop(self.clock, self.random)
        keep = Defaults(keep=Keep(completed=50_000), keep_completed="2d")
        self.jobs = BookshopJobs(context=lambda: shop, driver=self.driver, defaults=keep)
        self._next_release = NextJobs(context=lambda: shop, driver=self.driver)
        self._orders = 81_000
        self._held: list[tuple[Reserved, str]] = []

    async def live(self) -> None:
        """Let the day pass until now, and leave jobs in every state."""
        await self._add_schedules()
        with ExitStack() as patches:
            # The durations of attempts are not those of the store's clock.
            stopwatch = SimpleNamespace(monotonic=lambda: time.monotonic() + self._shop.worked)
            patches.enter_context(patch("flowli_core._running.attempt.time", stopwatch))
            patches.enter_context(patch("socket.gethostname", lambda: "worker-2"))
            patches.enter_context(patch("os.getpid", lambda: 4187))
            patches.enter_context(patch("secrets.token_hex", self._make_token))
            patches.enter_context(patch("traceback.format_exception", _format_exception))
            while self.clock.now() < NOW - _MINUTE / 2:
                await self._let_customers_come()
                await drain(self.jobs, concurrency=1)
        await self._leave_work()

    async def failed_id(self) -> str:
        """Return the id of a job that failed because the card network could not be reached."""
        page = await self.jobs.inspect.find("failed", name="charge_card", error="CardNetworkError", limit=1)
        return page.items[0].id

    async def _add_schedules(self) -> None:
        jobs, nothing = self.jobs, Nothing()
        await jobs.sync_stock.schedule("stock", every="10m", input=nothing)
        await jobs.write_daily_report.schedule(
            "daily-report", cron="30 6 * * 1-5", timezone="Europe/Berlin", input=nothing
        )
        catalogue = Catalogue(publisher="Northwind Press", url="https://northwind.example/onix.xml")
        await jobs.import_catalogue.schedule("catalogue-northwind", cron="0 */4 * * *", input=catalogue)
        await jobs.send_newsletter.schedule("newsletter", cron="0 9 * * 1", input=self._order())
        await jobs.control.pause("newsletter")

    async def _let_customers_come(self) -> None:
        """Wait for customers, many by day and few at night, and store their jobs."""
        now, jobs = self.clock.now(), self.jobs
        crowd = 0.15 + 0.85 * max(0.0, math.sin((now.hour + now.minute / 60 - 6) / 16 * math.pi))
        customers = 2 if now > _BUSY else 9
        self.clock.advance(timedelta(seconds=self.random.expovariate(crowd / 9 / customers)))
        for _ in range(customers):
            order = self._order()
            await jobs.charge_card.enqueue(order)
            await jobs.send_receipt.enqueue(order)
            if self.random.random() < 0.5:
                await jobs.resize_cover.enqueue(self._cover())
        if now > _PAUSED_AT and await jobs.control.pause_queue("newsletter"):
            await jobs.send_newsletter.enqueue_many([self._order() for _ in range(38)])
            await jobs.import_catalogue.enqueue(
                Catalogue(publisher="Harbour & Finch", url="https://harbour-finch.example/onix.xml")
            )
            await self._reserve("worker-3:4190:09e2b6f4", ("imports",), lease=_HOUR)
            await self._next_release.send_gift_card.enqueue_many([self._order() for _ in range(3)])

    async def _leave_work(self) -> None:
        """Leave jobs that run, wait, are scheduled and are cancelled."""
        jobs, pause = self.jobs, timedelta(seconds=0.9)
        reminders = [await jobs.remind_of_cart.delay(f"{hours}h", self._order()) for hours in range(2, 48, 3)]
        for reminder in reminders[:3]:
            await jobs.control.cancel(reminder.id)
        await jobs.resize_cover.enqueue_many([self._cover() for _ in range(4)])
        for sequence in range(1, 5):
            await self._reserve("worker-2:4187:c81d40aa", ("media", "newsletter"), sequence=sequence)
            self.clock.advance(pause)
        for _ in range(9):
            self.clock.advance(pause)
            await jobs.resize_cover.enqueue(self._cover())
        self.clock.advance(NOW - self.clock.now() - pause)
        await jobs.charge_card.enqueue(self._order())
        await self._reserve("worker-1:4121:5b0e71c2", ("payments", "mail", "default"))
        await self._reserve("worker-3:4190:09e2b6f4", ("imports",), sequence=2)
        self.clock.advance(pause)
        for held, worker in self._held:
            done, total, note = (2914, 4780, "Fiction, F to K") if held.name == "import_catalogue" else (2, 3, None)
            lines = [pack_line(LogLine(NOW, f"read {name}"), ZERO) for name in ("biography.xml", "fiction-a-e.xml")]
            progress = pack_progress(Progress(done=done, total=total, note=note, at=NOW), ZERO)
            report = Report(held.id, held.token, progress, tuple(lines) if note else ())
            reports = () if held.name == "charge_card" else (report,)
            await self.driver.heartbeat(worker, [Lease(held.id, held.token)], _MINUTE / 2, reports)

    async def _reserve(
        self, worker: str, queues: tuple[str, ...], *, sequence: int = 1, lease: timedelta = _MINUTE
    ) -> None:
        """Let a worker reserve a job, which it never ends."""
        about = pack_about(queues, [name for name in vars(BookshopJobs) if not name.startswith("_")])
        step = Step(worker=worker, sequence=sequence, queues=queues, want=1, lease=lease, about=about)
        self._held += [(held, worker) for held in (await self.driver.step(step)).reserved]

    def _make_token(self, size: int) -> str:
        return self.random.randbytes(size).hex()

    def _order(self) -> Order:
        self._orders += 1
        customer = self.random.choice(["ada", "grace", "katherine", "annie", "radia", "barbara", "hedy"])
        total = f"{self.random.randrange(8, 90)}.{self.random.choice([50, 90, 95])} EUR"
        return Order(order=f"B-{self._orders}", customer=f"{customer}@customers.example", total=total)

    def _cover(self) -> Cover:
        return Cover(isbn=f"978-3-{self.random.randrange(10**5, 10**6)}-{self.random.randrange(10, 99)}-4")


_format = traceback.format_exception


def _format_exception(error: BaseException, limit: int | None = None) -> list[str]:
    """Format an error with the paths of a server."""
    folder = str(Path(__file__).parent)
    return [line.replace(folder, "/srv") for line in _format(error, limit=limit)]
