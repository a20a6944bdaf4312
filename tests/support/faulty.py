"""A driver that breaks on command: it wraps a sound one, and counts what it is asked."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from flowli_core.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from flowli_core.driver import (
        Activity,
        CancelAnswer,
        Driver,
        Enqueued,
        FinishedState,
        HeartbeatAnswer,
        Lease,
        NewRecord,
        Position,
        QueueCounts,
        RequeueAnswer,
        State,
        Step,
        StepAnswer,
        StoredRecord,
        StoredSchedule,
    )

T = TypeVar("T")

Method = Literal[
    "open",
    "close",
    "enqueue",
    "step",
    "wait",
    "heartbeat",
    "cancel",
    "requeue",
    "purge",
    "get",
    "page",
    "put_schedule",
    "remove_schedule",
    "get_schedule",
    "due_schedules",
    "page_schedules",
]

FaultKind = Literal["before", "after", "hang"]

FOREVER = 10**9


@dataclass
class Fault:
    """What goes wrong with the next `times` calls of a method.

    before: the store is never asked. after: it does as asked, and its answer is lost. hang: no answer ever comes.
    """

    kind: FaultKind
    error: BaseException
    times: int


@dataclass
class Gate:
    """Holds an answer back: `reached` once the store has done as asked, until `opened`."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)


class FaultyDriver:
    """The driver `inner`, with the faults of a network in front of it.

    `calls` counts the calls of each method, also those that failed; `steps` and `answers` are the steps that reached
    the store, and what it said. `taken` are the leases that heartbeats are told are lost. With `only_wakes` a runner
    hears of work by wake-ups alone: a wait lasts for an hour, and no step says when something will be due.
    """

    def __init__(self, inner: Driver) -> None:
        self.inner = inner
        self.calls: Counter[Method] = Counter()
        self.steps: list[Step] = []
        self.answers: list[StepAnswer] = []
        self.taken: set[str] = set()
        self.only_wakes = False
        self._faults: defaultdict[Method, list[Fault]] = defaultdict(list)
        self._gates: defaultdict[Method, list[Gate]] = defaultdict(list)

    def fail(
        self,
        *methods: Method,
        kind: FaultKind = "before",
        times: int = FOREVER,
        error: BaseException | None = None,
    ) -> None:
        """Let the next calls fail, with StoreUnavailable unless said otherwise."""
        for method in methods:
            self._faults[method].append(Fault(kind, error or StoreUnavailable("cannot be reached"), times))

    def mend(self) -> None:
        """Let all be well from now on."""
        self._faults.clear()

    def hold(self, method: Method) -> Gate:
        """Hold the answer to the next call back. Only for calls from the event loop of the test."""
        gate = Gate()
        self._gates[method].append(gate)
        return gate

    async def open(self) -> None:
        await self._call("open", self.inner.open)

    async def close(self) -> None:
        await self._call("close", self.inner.close)

    async def enqueue(self, records: Sequence[NewRecord]) -> list[Enqueued]:
        return await self._call("enqueue", lambda: self.inner.enqueue(records))

    async def step(self, step: Step) -> StepAnswer:
        async def ask() -> StepAnswer:
            self.steps.append(step)
            answer = await self.inner.step(step)
            self.answers.append(answer)
            return answer

        answer = await self._call("step", ask)
        return replace(answer, next_due=None, next_tick=None) if self.only_wakes and answer.next_due else answer

    async def wait(self, queues: tuple[str, ...], timeout: timedelta) -> None:
        limit = timedelta(hours=1) if self.only_wakes else timeout
        await self._call("wait", lambda: self.inner.wait(queues, limit))

    async def heartbeat(self, worker: str, leases: Sequence[Lease], lease: timedelta) -> HeartbeatAnswer:
        answer = await self._call("heartbeat", lambda: self.inner.heartbeat(worker, leases, lease))
        return replace(answer, lost=answer.lost | {held.id for held in leases if held.id in self.taken})

    async def cancel(self, record_id: str) -> CancelAnswer:
        return await self._call("cancel", lambda: self.inner.cancel(record_id))

    async def requeue(self, record_id: str, *, progress: bytes | None = None) -> RequeueAnswer:
        return await self._call("requeue", lambda: self.inner.requeue(record_id, progress=progress))

    async def purge(self, state: FinishedState, *, older_than: timedelta, limit: int) -> int:
        return await self._call("purge", lambda: self.inner.purge(state, older_than=older_than, limit=limit))

    async def get(self, record_id: str) -> StoredRecord | None:
        return await self._call("get", lambda: self.inner.get(record_id))

    async def page(self, state: State, *, limit: int, after: Position | None = None) -> list[StoredRecord]:
        return await self._call("page", lambda: self.inner.page(state, limit=limit, after=after))

    async def counts(self) -> QueueCounts:
        return await self.inner.counts()

    async def activity(self) -> Activity:
        return await self.inner.activity()

    async def put_schedule(self, schedule: StoredSchedule, records: Sequence[NewRecord] = ()) -> bool:
        return await self._call("put_schedule", lambda: self.inner.put_schedule(schedule, records))

    async def remove_schedule(self, key: str) -> bool:
        return await self._call("remove_schedule", lambda: self.inner.remove_schedule(key))

    async def get_schedule(self, key: str) -> tuple[datetime, StoredSchedule | None]:
        return await self._call("get_schedule", lambda: self.inner.get_schedule(key))

    async def due_schedules(self, limit: int) -> tuple[datetime, list[StoredSchedule]]:
        return await self._call("due_schedules", lambda: self.inner.due_schedules(limit))

    async def page_schedules(self, *, limit: int, after: str | None = None) -> list[StoredSchedule]:
        return await self._call("page_schedules", lambda: self.inner.page_schedules(limit=limit, after=after))

    async def _call(self, method: Method, ask: Callable[[], Awaitable[T]]) -> T:
        self.calls[method] += 1
        fault = self._next_fault(method)
        if fault is not None and fault.kind == "hang":
            await asyncio.Event().wait()
        if fault is not None and fault.kind == "before":
            raise fault.error
        answer = await ask()
        if self._gates[method]:
            gate = self._gates[method].pop(0)
            gate.reached.set()
            await gate.opened.wait()
        if fault is not None:
            raise fault.error
        return answer

    def _next_fault(self, method: Method) -> Fault | None:
        faults: list[Any] = self._faults[method]
        while faults:
            fault: Fault = faults[0]
            if fault.times > 0:
                fault.times -= 1
                return fault
            faults.pop(0)
        return None


class EagerDriver(FaultyDriver):
    """One that takes a step in the same breath as it waits, while `is_waiting`; `ahead` are the answers to those."""

    def __init__(self, inner: Driver) -> None:
        super().__init__(inner)
        self.ahead: list[StepAnswer] = []
        self.is_waiting = False
        self._cut = asyncio.Event()

    def cut(self) -> None:
        """Let the wait that is under way fail."""
        self._cut.set()

    async def wait_and_step(self, queues: tuple[str, ...], timeout: timedelta, step: Step) -> StepAnswer | None:
        async def ask() -> StepAnswer:
            async with asyncio.TaskGroup() as tasks:
                cut = tasks.create_task(self._cut.wait())
                waiting = tasks.create_task(self.inner.wait(queues, timedelta(hours=1) if self.only_wakes else timeout))
                self.is_waiting = True
                try:
                    await asyncio.wait((cut, waiting), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    self.is_waiting = False
                    cut.cancel()
                    waiting.cancel()
            if self._cut.is_set():
                self._cut.clear()
                raise StoreUnavailable("the connection was cut")
            answer = await self.inner.step(_beside(step))
            self.ahead.append(answer)
            return answer

        return await self._call("wait", ask)

    async def step(self, step: Step) -> StepAnswer:
        return await super().step(_beside(step) if step.ahead else step)


def _beside(step: Step) -> Step:
    """Have a driver that knows one sequence for each worker take this for another worker's."""
    return replace(step, worker=f"{step.worker}+")
