"""A driver with faults on demand around another driver; it also counts the calls."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from flowli_core.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from flowli_core.driver import Driver, HeartbeatAnswer, Lease, Step, StepAnswer
    from flowli_core.history import HistoryEntry, HistoryQuery
    from flowli_core.new_records import Enqueued, NewRecord
    from flowli_core.reports import Report
    from flowli_core.stored import (
        FinishedState,
        Found,
        Overview,
        RecordQuery,
        ScheduleByKey,
        SchedulesAfter,
        SchedulesDue,
        StoredSchedule,
        Watch,
    )
    from flowli_core.targets import CancelAnswer, RequeueAnswer, Target

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
    "records",
    "watch",
    "history",
    "pause_queue",
    "overview",
    "put_schedule",
    "schedules",
]
"""A method of the contract, or "wait" for a step that waits."""

FaultKind = Literal["before", "after", "hang"]

FOREVER = 10**9


@dataclass
class Fault:
    """A fault of the next `times` calls of a method.

    before: the store is never called. after: it is called, and its answer is lost. hang: no answer ever comes.
    """

    kind: FaultKind
    error: BaseException
    times: int


@dataclass
class Gate:
    """Delays an answer: `reached` is set when the store has answered, and the answer is returned after `opened`."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)


class FaultyDriver:
    """The driver `inner`, with the faults of a network in front of it.

    `calls` counts the calls of each method, also those that failed. `steps` and `answers` are the steps that reached
    the store and its answers, `waited` its answers to the steps that waited. `taken` are the leases that heartbeats
    report as lost. With `only_wakes` a runner learns of work by wake-ups alone: a wait lasts for an hour, and no answer
    says when something will be due. `is_waiting` is True while a step waits.
    """

    def __init__(self, inner: Driver) -> None:
        self.inner = inner
        self.calls: Counter[Method] = Counter()
        self.steps: list[Step] = []
        self.answers: list[StepAnswer] = []
        self.waited: list[StepAnswer] = []
        self.taken: set[str] = set()
        self.only_wakes = False
        self._faults: defaultdict[Method, list[Fault]] = defaultdict(list)
        self._gates: defaultdict[Method, list[Gate]] = defaultdict(list)
        self._cut: asyncio.Future[None] | None = None

    @property
    def is_waiting(self) -> bool:
        return self._cut is not None

    def cut(self) -> None:
        """Make the wait in flight fail."""
        assert self._cut is not None
        self._cut.set_result(None)

    def fail(
        self,
        *methods: Method,
        kind: FaultKind = "before",
        times: int = FOREVER,
        error: BaseException | None = None,
    ) -> None:
        """Make the next calls fail, by default with StoreUnavailable."""
        for method in methods:
            self._faults[method].append(Fault(kind, error or StoreUnavailable("cannot be reached"), times))

    def mend(self) -> None:
        """Remove all faults."""
        self._faults.clear()

    def hold(self, method: Method) -> Gate:
        """Delay the answer to the next call. Only for calls from the event loop of the test."""
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
        ask = self._wait if step.wait else self._step
        answer = await self._call("wait" if step.wait else "step", lambda: ask(step))
        return replace(answer, next_due=None, next_tick=None) if self.only_wakes and answer.next_due else answer

    async def _step(self, step: Step) -> StepAnswer:
        self.steps.append(step)
        answer = await self.inner.step(step)
        self.answers.append(answer)
        return answer

    async def _wait(self, step: Step) -> StepAnswer:
        limit = timedelta(hours=1) if self.only_wakes else step.wait
        waiting = asyncio.create_task(self.inner.step(replace(step, wait=limit)))
        cut = self._cut = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait((waiting, cut), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._cut = None
            waiting.cancel()
            await asyncio.wait((waiting,))
        if cut.done():
            raise StoreUnavailable("cannot be reached")
        self.waited.append(waiting.result())
        return waiting.result()

    async def heartbeat(
        self, worker: str, leases: Sequence[Lease], lease: timedelta, reports: Sequence[Report] = ()
    ) -> HeartbeatAnswer:
        answer = await self._call("heartbeat", lambda: self.inner.heartbeat(worker, leases, lease, reports))
        return replace(answer, lost=answer.lost | {held.id for held in leases if held.id in self.taken})

    async def cancel(self, targets: Sequence[Target]) -> list[CancelAnswer]:
        return await self._call("cancel", lambda: self.inner.cancel(targets))

    async def requeue(self, targets: Sequence[Target]) -> list[RequeueAnswer]:
        return await self._call("requeue", lambda: self.inner.requeue(targets))

    async def purge(
        self, state: FinishedState, *, older_than: timedelta, limit: int, ids: Sequence[str] | None = None
    ) -> int:
        return await self._call("purge", lambda: self.inner.purge(state, older_than=older_than, limit=limit, ids=ids))

    async def records(self, query: RecordQuery) -> Found:
        return await self._call("records", lambda: self.inner.records(query))

    async def watch(self, watch: Watch) -> list[str]:
        return await self._call("watch", lambda: self.inner.watch(watch))

    async def history(self, query: HistoryQuery) -> tuple[datetime, list[HistoryEntry]]:
        return await self._call("history", lambda: self.inner.history(query))

    async def pause_queue(self, queue: str, *, paused: bool) -> bool:
        return await self._call("pause_queue", lambda: self.inner.pause_queue(queue, paused=paused))

    async def overview(self) -> Overview:
        return await self._call("overview", self.inner.overview)

    async def put_schedule(
        self, key: str, schedule: StoredSchedule | None, *, revision: int, records: Sequence[NewRecord] = ()
    ) -> bool:
        return await self._call(
            "put_schedule", lambda: self.inner.put_schedule(key, schedule, revision=revision, records=records)
        )

    async def schedules(
        self, query: ScheduleByKey | SchedulesDue | SchedulesAfter
    ) -> tuple[datetime, list[StoredSchedule]]:
        return await self._call("schedules", lambda: self.inner.schedules(query))

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
