"""The driver over Redis, Valkey, and what speaks their commands.

Each transition is one script, so it happens wholly or not at all; a call that a client sends again does nothing twice.
The time is the server's. Waits are made on connections of their own, and calls from other event loops than the one that
opened the driver (renewing leases is such a call) on a thread of its own, so that none stands behind another.

All that a user needs who may do nothing else, for the prefix "app" (`open` names a command that is missing):

    ACL SETUSER app on >password resetchannels -@all ~{app}:* +info +evalsha +script|load +time +exists +del +pexpire
      +hget +hmget +hgetall +hset +hsetnx +hincrby +hdel +scard +smembers +sismember +sadd +srem
      +zadd +zrem +zcard +zcount +zscore +zrange +zrangebyscore +zrevrangebyscore +zrangebylex
      +bzpopmin

and `+select` where the URL names a database; for `fsck` also `+hlen +hscan +sscan +zscan`; for what clients of a
cluster ask, `+cluster|slots +command`. Without `+info` the version and the eviction policy go unchecked.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar

from flowli_core import _checks
from flowli_core.clock import Clock
from flowli_core.driver import (
    CancelAnswer,
    Check,
    Enqueued,
    HeartbeatAnswer,
    Lease,
    NewRecord,
    RequeueAnswer,
    Step,
    StepAnswer,
)
from flowli_core.drivers._times import milliseconds, moment, stamp
from flowli_core.drivers.redis import _diagnosis as diagnosis
from flowli_core.drivers.redis._audit import Audit, Finding
from flowli_core.drivers.redis._clients import adopt, from_url
from flowli_core.drivers.redis._clients._errors import MissingScriptError, PermissionMissingError
from flowli_core.drivers.redis._keys import Keys
from flowli_core.drivers.redis._lines import Line, SideLoop
from flowli_core.drivers.redis._packing import unpack_schedule
from flowli_core.drivers.redis._replies import Replies, to_overview
from flowli_core.drivers.redis._scripts import STALE, Scripts
from flowli_core.drivers.redis._server import check_server
from flowli_core.durations import ZERO, Duration, duration, format_duration
from flowli_core.errors import DefinitionError, DriverError
from flowli_core.stored import (
    FinishedState,
    Overview,
    RecordById,
    RecordsInState,
    ScheduleByKey,
    SchedulesAfter,
    SchedulesDue,
    StoredRecord,
    StoredSchedule,
)

if TYPE_CHECKING:
    from flowli_core.drivers.redis._clients import Source, UserClient

T = TypeVar("T")

_LEAST_PATIENCE, _MOST_PATIENCE = timedelta(milliseconds=100), timedelta(seconds=60)


def _check_patience(patience: Duration) -> timedelta:
    parsed = duration(patience, argument="patience", longest=_MOST_PATIENCE)
    if parsed < _LEAST_PATIENCE:
        raise DefinitionError(
            f"patience must be at least {format_duration(_LEAST_PATIENCE)}, got {format_duration(parsed)}"
        )
    return parsed


class _Session:
    """What is there between `open` and `close`: the connections of the loop that opened, and a side loop for others."""

    def __init__(self, source: Source, *, is_ours: bool) -> None:
        self.process = os.getpid()
        self.home = asyncio.get_running_loop()
        self.line = Line(source.commands() if is_ours else source.users, waiting=source.waits())
        self.side = SideLoop(lambda: Line(source.commands(), waiting=source.waits()))

    async def close(self) -> None:
        await self.side.close()
        if asyncio.get_running_loop() is self.home:
            await self.line.close()
        elif self.home.is_running():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.line.close(), self.home))


class RedisDriver:
    """A driver that keeps its records in Redis under one prefix.

    `client` is yours: it is used on the event loop that opens the driver, and not closed. For waits and for renewing
    leases the driver opens connections of its own to the same server. `clock` is for tests: without one the time is the
    server's. A server that evicts keys is refused, because it would lose jobs, unless `allow_eviction` says otherwise.
    `patience` (100ms to 60s) is how long a command may take before it is given up with StoreUnavailable: what an
    enqueue costs while the server hangs. Waits for work are not bounded by it. A client with a `socket_timeout`
    (`stream_timeout` in coredis) keeps that for what is sent on it.
    """

    def __init__(
        self,
        client: UserClient,
        *,
        prefix: str = "flowli",
        clock: Clock | None = None,
        allow_eviction: bool = False,
        patience: Duration = "5s",
    ) -> None:
        self._source = adopt(client, patience=_check_patience(patience).total_seconds())
        self._is_ours = False
        self._prefix = _checks.name(prefix, argument="prefix")
        self._keys = Keys(self._prefix)
        self._clock = clock
        self._allow_eviction = allow_eviction
        self._scripts = Scripts(self._keys, self._now)
        self._replies = Replies(self._keys.shape)
        self._lock = threading.Lock()
        self._session: _Session | None = None
        self._dues: dict[str, int] = {}
        self._server_time = (0, 0.0)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = "flowli",
        clock: Clock | None = None,
        allow_eviction: bool = False,
        patience: Duration = "5s",
    ) -> Self:
        """Make a driver with a client of its own, which `close` closes."""
        driver = cls(from_url(url), prefix=prefix, clock=clock, allow_eviction=allow_eviction, patience=patience)
        driver._is_ours = True
        return driver

    def __repr__(self) -> str:
        return f"RedisDriver({self._source.address!r}, prefix={self._prefix!r})"

    async def open(self) -> None:
        """Connect, and check the server's version and that it keeps what it is given."""
        with self._lock:
            if self._session is None:
                self._session = _Session(self._source, is_ours=self._is_ours)
        try:
            await self._run(
                lambda line: check_server(
                    line.client, self._scripts, at=self._keys.queues, allow_eviction=self._allow_eviction
                )
            )
        except DriverError:
            await self.close()
            raise

    async def close(self) -> None:
        """Let the waiters return, and close the connections that belong to the driver."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None and session.process == os.getpid():
            await session.close()

    async def enqueue(self, records: Sequence[NewRecord]) -> list[Enqueued]:
        """Store the records, all or none, and answer for each in its place."""
        if not records:
            return []
        try:
            now, refusals = await self._run(lambda line: self._scripts.enqueue(line.client, records=records))
        except DriverError as error:
            error.ids = tuple(record.id for record in records)
            raise
        self._note_time(moment(now))
        answers = self._replies.to_enqueue(records, now, refusals)
        for record, answer in zip(records, answers, strict=True):
            if answer.state == "scheduled":
                due = stamp(answer.scheduled_for)
                self._dues[record.queue] = min(due, self._dues.get(record.queue, due))
        return answers

    async def step(self, step: Step) -> StepAnswer:
        wait = self._until_due(step) if step.wait else 0
        if wait <= 0:
            return await self._run(lambda line: self._step(line, step))
        return await self._run(lambda line: self._wait_and_step(line, step, seconds=wait / 1000))

    async def _wait_and_step(self, line: Line, step: Step, *, seconds: float) -> StepAnswer:
        """Wait with the step already at the server, which takes it as soon as the wait ends.

        The step is sent after the wait if a cluster does not take both, or if the server did not take the step because
        it has lost the script or knows more queues.
        """
        wakes = [self._keys.wake(queue) for queue in step.queues]
        then = self._scripts.step_command(step) if line.pairs else None
        try:
            reply = await line.pop(wakes, seconds=seconds, then=then)
        except MissingScriptError:
            reply = STALE
        if then is not None and reply != STALE:
            return await self._read_step(line, step, reply)
        async with line.restoring_wake_ups(wakes):
            return await self._step(line, step)

    def _until_due(self, step: Step) -> int:
        """Return the ms to wait: until the wait is over, or until something is known to be due."""
        dues = [due for queue in step.queues if (due := self._dues.get(queue)) is not None]
        left = milliseconds(step.wait or ZERO)
        return min(left, min(dues) - self._time()) if dues else left

    async def heartbeat(self, worker: str, leases: Sequence[Lease], lease: timedelta) -> HeartbeatAnswer:
        """Extend the leases whose token is current."""
        lost, cancelled = await self._run(
            lambda line: self._scripts.heartbeat(line.client, worker=worker, leases=leases, lease=lease)
        )
        return HeartbeatAnswer(frozenset(one.decode() for one in lost), frozenset(one.decode() for one in cancelled))

    async def cancel(self, record_id: str) -> CancelAnswer:
        """Cancel a waiting record at once; ask for an active one."""
        reply = await self._run(lambda line: self._scripts.cancel(line.client, record_id=record_id))
        answer: CancelAnswer = reply.decode()
        return answer

    async def requeue(self, record_id: str, *, progress: bytes | None = None) -> RequeueAnswer:
        """Make a finished or scheduled record due now."""
        reply = await self._run(lambda line: self._scripts.requeue(line.client, record_id=record_id, progress=progress))
        answer: RequeueAnswer = reply.decode()
        return answer

    async def purge(self, state: FinishedState, *, older_than: timedelta, limit: int) -> int:
        """Remove up to `limit` records that finished in this state more than `older_than` ago, the oldest first."""
        reply = await self._run(
            lambda line: self._scripts.purge(line.client, state=state, older_than=older_than, limit=limit)
        )
        return int(reply)

    async def records(self, query: RecordById | RecordsInState) -> list[StoredRecord]:
        async def read(line: Line) -> list[StoredRecord]:
            rows = await self._scripts.read_records(line.client, query=query)
            return await self._replies.records(line.client, rows)

        return await self._run(read)

    async def overview(self) -> Overview:
        return to_overview(await self._run(lambda line: self._scripts.overview(line.client)))

    async def put_schedule(
        self, key: str, schedule: StoredSchedule | None, *, revision: int, records: Sequence[NewRecord] = ()
    ) -> bool:
        return bool(
            await self._run(
                lambda line: self._scripts.put_schedule(
                    line.client, key=key, schedule=schedule, revision=revision, records=records
                )
            )
        )

    async def schedules(
        self, query: ScheduleByKey | SchedulesDue | SchedulesAfter
    ) -> tuple[datetime, list[StoredSchedule]]:
        now, rows = await self._run(lambda line: self._scripts.read_schedules(line.client, query=query))
        return moment(now), [unpack_schedule(key, text) for key, text in rows]

    async def fsck(self, *, limit: int = 1000) -> tuple[Finding, ...]:
        """Look for what must never be, in all that there is under the prefix; answer the first `limit` findings.

        Workers may go on meanwhile. It writes nothing, and looks at about a hundred entries in one call.
        """
        return await self._run(lambda line: Audit(self._scripts, line.client, self._keys, limit=limit).run())

    async def diagnose(self) -> list[Check]:
        """Tell how the server and the keys are: for `flowli doctor`. Looks at every record."""

        async def look(line: Line) -> list[Check]:
            checks = await diagnosis.check_connection(line.client, self._scripts, at=self._keys.queues)
            try:
                found = [(one.key, one.id, one.problem) for one in await self.fsck()]
            except PermissionMissingError as error:
                return [*checks, diagnosis.check_problems(error)]
            return [*checks, diagnosis.check_problems(found)]

        return await self._run(look)

    async def _step(self, line: Line, step: Step) -> StepAnswer:
        return await self._read_step(line, step, await self._scripts.step(line.client, step=step))

    async def _read_step(self, line: Line, step: Step, reply: Any) -> StepAnswer:
        answer = await self._replies.to_step(line.client, reply)
        self._note_time(answer.now)
        for queue in step.queues:
            if answer.next_due is None:
                self._dues.pop(queue, None)
            else:
                self._dues[queue] = stamp(answer.now + answer.next_due)
        return answer

    async def _run(self, work: Callable[[Line], Awaitable[T]]) -> T:
        session = self._session
        if session is None:
            raise DriverError("the driver is not open; await its open() first")
        if session.process != os.getpid():
            raise DriverError("the driver was opened before this process was forked; open one in each process")
        if asyncio.get_running_loop() is session.home:
            return await work(session.line)
        return await session.side.run(work)

    def _now(self) -> int:
        return -1 if self._clock is None else stamp(self._clock.now())

    def _note_time(self, now: datetime) -> None:
        self._server_time = (stamp(now), time.monotonic())

    def _time(self) -> int:
        """The store's time in ms, as far as can be told without asking."""
        if self._clock is not None:
            return stamp(self._clock.now())
        told, at = self._server_time
        return told + int((time.monotonic() - at) * 1000)
