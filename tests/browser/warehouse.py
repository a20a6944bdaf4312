"""Jobs in every state, and their dashboard on a real server in the process of the tests."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import uvicorn
from pydantic import BaseModel
from starlette.applications import Starlette

from flowli_core import Jobs, Retry, Runner, current_job, fixed, job
from flowli_core.dashboard import Dashboard
from flowli_core.drivers.memory import MemoryDriver
from tests.adapters.servers import free_port
from tests.support.running import running, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

PARCELS = 3


@dataclass
class Warehouse:
    """The context of the jobs. It packs a parcel each time that the test allows it."""

    allowed: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def allow(self, parcels: int) -> None:
        """Allow this many more parcels."""
        for _ in range(parcels):
            self.allowed.release()


class Order(BaseModel):
    """The input of the jobs."""

    number: int
    to: str = "Ada <script>alert(1)</script>"


@job(Order)
async def pack(input: Order, ctx: Warehouse) -> str:
    """Pack the parcels of an order."""
    for number in range(1, PARCELS + 1):
        await ctx.allowed.acquire()
        current_job().progress(number, PARCELS, f"parcel {number} of {PARCELS}")
        current_job().log(f"packed parcel {number} of order {input.number}")
    return f"order {input.number} is packed"


@job(Order, retry=Retry(max_attempts=2, backoff=fixed("1ms")))
async def bill(input: Order) -> None:
    """Fail."""
    raise ConnectionError(f"the bank refused order {input.number} of {input.to}")


@job(Order)
async def thank(input: Order) -> str:
    """Say thank you."""
    return f"thank you, {input.to}"


class WarehouseJobs(Jobs[Warehouse]):
    """The registry. No worker serves the queue `later`."""

    pack = pack
    bill = bill
    thank = thank
    queues = ("later",)


class _Server(uvicorn.Server):
    """A server that leaves Ctrl-C alone: it serves all tests, and some of them interrupt a command in this process."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        original = signal.signal(signal.SIGTERM, self.handle_exit)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, original)


class Site:
    """A server that can be stopped, and started again on the same port."""

    def __init__(self) -> None:
        self._app = Starlette()
        self._port = free_port()
        self._mounts = 0
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    def mount(self, app: Any) -> str:
        """Mount an application, and return its address."""
        self._mounts += 1
        path = f"/{self._mounts}/jobs"
        self._app.mount(path, app)
        return f"http://127.0.0.1:{self._port}{path}/"

    async def start(self) -> None:
        """Start the server, and wait until it serves."""
        config = uvicorn.Config(
            self._app, port=self._port, lifespan="off", ws="none", log_config=None, timeout_graceful_shutdown=1
        )
        self._server = server = _Server(config)
        self._serving = asyncio.create_task(server.serve())

        async def has_started() -> bool:
            return server.started

        await until(has_started)

    async def stop(self) -> None:
        """Stop the server, and wait for its end."""
        assert self._server is not None
        assert self._serving is not None
        self._server.should_exit = True
        await self._serving


@dataclass
class Shop:
    """A registry with jobs in every state, and the address of its dashboard. `ids` has one job of each state."""

    jobs: WarehouseJobs
    warehouse: Warehouse
    site: Site
    ids: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        self.url = self.dashboard(allow_anonymous=True, show_payloads=True)

    def dashboard(self, **options: Any) -> str:
        """Mount another dashboard with these options, and return its address."""
        return self.site.mount(Dashboard(self.jobs, **options))

    def job_url(self, state: str) -> str:
        """Return the address of the job in this state."""
        return f"{self.url}job?id={self.ids[state]}"

    async def until(self, id: str, state: str) -> None:
        """Wait until a job is in a state."""

        async def is_there() -> bool:
            record = await self.jobs.inspect.get_job(id)
            return record is not None and record.state == state

        await until(is_there)

    async def fill(self) -> None:
        """Add jobs in every state, and a schedule."""
        later = self.jobs.thank.options(queue="later")
        receipts = {
            "queued": await later.enqueue(number=1),
            "scheduled": await later.delay("1h", number=2),
            "cancelled": await later.enqueue(number=3),
            "failed": await self.jobs.bill.enqueue(number=4),
            "completed": await self.jobs.thank.enqueue(number=5),
            "active": await self.jobs.pack.enqueue(number=6),
        }
        self.ids.update({state: receipt.id for state, receipt in receipts.items()})
        await self.jobs.control.cancel(self.ids["cancelled"])
        await self.jobs.thank.schedule("nightly", cron="0 3 * * *", timezone="Europe/Berlin", input=Order(number=7))
        self.warehouse.allow(1)
        for state, known in self.ids.items():
            await self.until(known, state)


@asynccontextmanager
async def opened_shop(site: Site) -> AsyncGenerator[Shop]:
    """Open a shop, and run its jobs."""
    warehouse = Warehouse()
    async with (
        WarehouseJobs(context=lambda: warehouse, driver=MemoryDriver()) as jobs,
        running(Runner(jobs, queues=["default"])),
    ):
        yield Shop(jobs, warehouse, site)
        warehouse.allow(100)
