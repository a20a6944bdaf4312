"""A registry that shows which input a worker's handler receives."""

from __future__ import annotations

from typing import Any

from flowli_core import Jobs, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain
from tests.support.counting import CountingDriver

any_job: Any = job


class Delivery:
    """A registry with one job, `take`, whose input has the declared type and whose handler fills `received`."""

    def __init__(self, declared: Any, **settings: Any) -> None:
        self.received: list[Any] = []
        self.driver = CountingDriver(MemoryDriver())

        async def take(input: Any) -> None:
            self.received.append(input)

        registry: Any = type("Registry", (Jobs,), {"take": any_job(declared, **settings)(take)})
        self.jobs: Any = registry(context=None, driver=self.driver)

    async def send(self, *args: Any, **kwargs: Any) -> Any:
        """Enqueue a call, run it in a worker, and return the input that its handler received."""
        await self.jobs.take.enqueue(*args, **kwargs)
        counts = await drain(self.jobs)
        assert counts.completed == 1
        return self.received[-1]

    @property
    def wire(self) -> bytes:
        """The stored JSON of the last input."""
        return self.driver.enqueued[-1].input
