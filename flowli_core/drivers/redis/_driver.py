"""The driver for Redis, Valkey, and other servers that have their commands.

Each transition is one Lua script, so it happens completely or not at all, and a call that is sent again has no further
effect. All times are the server's. Blocking waits use connections of their own. Calls from other event loops than the
one that opened the driver, such as the renewal of leases, run on a thread with connections of its own.

The scripts use keys that a call does not name: see _keys.py. Some servers allow that only if an option is set.

These are all the permissions that a Redis user needs for the prefix "app" (`open` names a command that is missing):

    ACL SETUSER app on >password resetchannels -@all ~{app}:* +info +evalsha +script|load +time +exists +type +del
      +pexpire +hget +hlen +hstrlen +hmget +hscan +hset +hincrby +hdel +scard +smembers +sismember +sscan +sadd
      +srem +rpush +lpop +llen +lindex +zadd +zrem +zcard +zcount +zscore +zrange +zrangebyscore +zrevrangebyscore
      +zrangebylex +bzpopmin

Add `+select` if the URL names a database, `+hgetall +zscan` for `fsck`, and `+cluster|slots +command` for
the clients of a cluster. Without `+info` the version and the eviction policy are not checked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta
from typing import Any, Self

from flowli_core import _checks
from flowli_core.clock import Clock
from flowli_core.diagnosis import Check
from flowli_core.driver import HeartbeatAnswer, Lease, Step, StepAnswer
from flowli_core.drivers._paused import too_many_paused
from flowli_core.drivers._times import moment, stamp
from flowli_core.drivers.redis import _diagnosis as diagnosis
from flowli_core.drivers.redis._audit import Audit, Finding
from flowli_core.drivers.redis._clients import Client, UserClient, adopt, from_url
from flowli_core.drivers.redis._clients._errors import MissingScriptError, PermissionMissingError, WrongTypeError
from flowli_core.drivers.redis._connections import Connections, Line
from flowli_core.drivers.redis._due_times import DueTimes
from flowli_core.drivers.redis._history import read_history
from flowli_core.drivers.redis._keys import DEFAULT_PREFIX, Keys
from flowli_core.drivers.redis._packing import to_text, unpack_schedule
from flowli_core.drivers.redis._patience import (
    StepPatience,
    more_time_for,
    more_time_for_reports,
    more_time_for_targets,
)
from flowli_core.drivers.redis._reads import read_overview, read_rows
from flowli_core.drivers.redis._replies import Replies, to_overview
from flowli_core.drivers.redis._scripts import Scripts, wrong_type
from flowli_core.drivers.redis._server import check_server
from flowli_core.durations import Duration, duration, format_duration
from flowli_core.errors import DefinitionError, DriverError
from flowli_core.history import HistoryEntry, HistoryQuery
from flowli_core.new_records import Enqueued, NewRecord
from flowli_core.reports import Report
from flowli_core.stored import (
    FinishedState,
    Found,
    Overview,
    Position,
    RecordQuery,
    ScheduleByKey,
    SchedulesAfter,
    SchedulesDue,
    StoredSchedule,
    Watch,
)
from flowli_core.targets import CancelAnswer, RequeueAnswer, Target, check_number

_LEAST_PATIENCE, _MOST_PATIENCE = timedelta(milliseconds=100), timedelta(seconds=60)


def _check_patience(patience: Duration) -> timedelta:
    parsed = duration(patience, argument="patience", longest=_MOST_PATIENCE)
    if parsed < _LEAST_PATIENCE:
        raise DefinitionError(
            f"patience must be at least {format_duration(_LEAST_PATIENCE)}, got {format_duration(parsed)}"
        )
    return parsed


class RedisDriver:
    """A driver that keeps its records in Redis under one prefix.

    Applications that share a server need different prefixes: under the same one, they run each other's jobs.

    `client` remains yours: the driver uses it on the event loop that opens the driver, and does not close it. For waits
    and for renewing leases the driver opens connections of its own to the same servers. A server that may evict keys is
    refused, because it would lose jobs, unless `allow_eviction` is set. `patience` (100ms to 60s) is the time limit of
    each command, after which it raises StoreUnavailable; blocking waits have no such limit, and calls that carry much
    data have more time. A client with a `socket_timeout` (`stream_timeout` in coredis) keeps that limit for its own
    commands. `clock` replaces the server's time in tests.
    """

    def __init__(
        self,
        client: UserClient,
        *,
        prefix: str = DEFAULT_PREFIX,
        clock: Clock | None = None,
        allow_eviction: bool = False,
        patience: Duration = "5s",
    ) -> None:
        seconds = _check_patience(patience).total_seconds()
        self._source = adopt(client, patience=seconds)
        self._patience = StepPatience(seconds)
        self._prefix = _checks.name(prefix, argument="prefix")
        self._allow_eviction = allow_eviction
        self._keys = Keys(self._prefix)
        self._connections = Connections(self._source)
        self._scripts = Scripts(self._connections, self._keys, lambda: -1 if clock is None else stamp(clock.now()))
        self._replies = Replies(self._connections, self._keys.shape)
        self._due_times = DueTimes(clock)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = DEFAULT_PREFIX,
        clock: Clock | None = None,
        allow_eviction: bool = False,
        patience: Duration = "5s",
    ) -> Self:
        """Make a driver with a client of its own, which `close` closes.

        `url` is `redis://user:password@host:port/db`, with `rediss://` for TLS, `valkey://` or `valkeys://` for
        valkey-py, or `unix://user:password@/path`. Options such as `?ssl_ca_certs=ca.pem` are those of the library.
        User name, password and options must be percent-encoded.
        """
        driver = cls(from_url(url), prefix=prefix, clock=clock, allow_eviction=allow_eviction, patience=patience)
        driver._connections.uses_own_client = True
        return driver

    def __repr__(self) -> str:
        return f"RedisDriver({self._source.address!r}, prefix={self._prefix!r})"

    async def open(self) -> None:
        """Connect, and check the version, the eviction policy, the commands, the permissions and the keys' types."""
        await self._connections.open()
        try:
            await check_server(
                self._connections, self._scripts, at=self._keys.queues, allow_eviction=self._allow_eviction
            )
        except DriverError:
            await self.close()
            raise

    async def close(self) -> None:
        await self._connections.close()

    async def enqueue(self, records: Sequence[NewRecord]) -> list[Enqueued]:
        if not records:
            return []
        try:
            with more_time_for(records):
                if any(record.lane is not None or record.on_conflict == "replace" for record in records):
                    now, refused = await self._scripts.enqueue_any(records)
                else:
                    now, refused = await self._scripts.enqueue(records)
        except DriverError as error:
            error.ids = tuple(record.id for record in records)
            raise
        self._due_times.note_time(moment(now))
        answers = self._replies.to_enqueued(records, now, refused)
        for record, answer in zip(records, answers, strict=True):
            if answer.state == "scheduled":
                self._due_times.add(record.queue, answer.scheduled_for)
        return answers

    async def step(self, step: Step) -> StepAnswer:
        wait_ms = self._due_times.ms_until(step.queues, step.wait) if step.wait else 0
        if wait_ms > 0:
            return await self._connections.run(lambda line: self._wait_and_step(line, step, seconds=wait_ms / 1000))
        return await self._step(step)

    async def _step(self, step: Step) -> StepAnswer:
        with self._patience.limit(step):
            reply = await self._scripts.step(step)
        return await self._read_step(step, reply)

    async def _wait_and_step(self, line: Line, step: Step, *, seconds: float) -> StepAnswer:
        """Send the wait together with the step, which the server starts when the wait ends.

        Send the step after the wait if the client cannot send both, as on a cluster, or if the server has lost the
        script and did not execute the step.
        """
        wakes = [self._keys.wake(queue) for queue in step.queues]

        def restore(client: Client) -> Awaitable[object]:
            return self._scripts.wake(step.queues, client=client)

        then = self._scripts.step_command(step) if line.pairs else None
        try:
            reply = await line.pop(wakes, seconds=seconds, restore=restore, then=then)
            if then is not None:
                return await self._read_step(step, reply)
        except MissingScriptError:
            pass
        except WrongTypeError as error:
            found = await self._scripts.types(step.queues)  # it deletes a wake-up of another type
            if found:
                raise wrong_type(found) from error
        async with line.restoring_wake_ups(restore):
            return await self._step(step)

    async def _read_step(self, step: Step, reply: Any) -> StepAnswer:
        answer = await self._replies.to_step_answer(reply)
        self._due_times.replace(step.queues, answer.now, answer.next_due)
        if "lost" in answer.acks:
            results = zip(step.acks, answer.acks, strict=True)
            await self._scripts.take_back([ack for ack, result in results if result == "lost"])
        return answer

    async def heartbeat(
        self, worker: str, leases: Sequence[Lease], lease: timedelta, reports: Sequence[Report] = ()
    ) -> HeartbeatAnswer:
        with more_time_for_reports(reports):
            reply = await self._scripts.heartbeat(worker, leases, lease, reports)
        lost, cancelled = [frozenset(one.decode() for one in some) for some in reply]
        if lost:
            await self._scripts.take_back([held for held in leases if held.id in lost])
        return HeartbeatAnswer(lost, cancelled)

    async def cancel(self, targets: Sequence[Target]) -> list[CancelAnswer]:
        check_number(targets)
        answers = list[CancelAnswer]()
        while len(answers) < len(targets):  # a script may change only the first of them: see targets.lua
            answers += [answer.decode() for answer in await self._scripts.cancel(targets[len(answers) :])]
        return answers

    async def requeue(self, targets: Sequence[Target]) -> list[RequeueAnswer]:
        check_number(targets)
        answers = list[RequeueAnswer]()
        with more_time_for_targets(targets):
            while len(answers) < len(targets):
                answers += [answer.decode() for answer in await self._scripts.requeue(targets[len(answers) :])]
        return answers

    async def purge(
        self, state: FinishedState, *, older_than: timedelta, limit: int, ids: Sequence[str] | None = None
    ) -> int:
        check_number(ids or ())
        return int(await self._scripts.purge(state, older_than=older_than, limit=limit, ids=ids))

    async def records(self, query: RecordQuery) -> Found:
        rows, behind, looked_at = await read_rows(self._scripts, query)
        rest = None if behind is None else Position(moment(int(behind[0])), behind[1].decode())
        return Found(await self._replies.to_records(rows), rest, looked_at)

    async def watch(self, watch: Watch) -> list[str]:
        changed = await self._scripts.watch(watch)
        if not changed and watch.wait:
            changed = await self._connections.run(lambda line: self._wait_for_changes(line, watch))
        return [to_text(record_id) for record_id in changed]

    async def _wait_for_changes(self, line: Line, watch: Watch) -> Any:
        """Send the wait together with the script that reads the changes, or after it: see `_wait_and_step`."""
        again = Watch(watcher=watch.watcher)
        then = self._scripts.watch_command(again) if line.pairs else None
        try:
            reply = await line.pop([self._keys.changed(watch.watcher)], seconds=watch.wait.total_seconds(), then=then)
            if then is not None:
                return reply
        except MissingScriptError:
            pass
        except WrongTypeError as error:
            raise wrong_type(await self._scripts.types()) from error
        return await self._scripts.watch(again)

    async def history(self, query: HistoryQuery) -> tuple[datetime, list[HistoryEntry]]:
        now, entries = await read_history(self._scripts, query)
        return moment(now), entries

    async def pause_queue(self, queue: str, *, paused: bool) -> bool:
        changed = int(await self._scripts.pause_queue(queue, paused=paused))
        if changed < 0:
            raise too_many_paused()
        return changed > 0

    async def overview(self) -> Overview:
        return to_overview(*await read_overview(self._scripts))

    async def put_schedule(
        self, key: str, schedule: StoredSchedule | None, *, revision: int, records: Sequence[NewRecord] = ()
    ) -> bool:
        with more_time_for(records):
            return bool(await self._scripts.put_schedule(key, schedule, revision=revision, records=records))

    async def schedules(
        self, query: ScheduleByKey | SchedulesDue | SchedulesAfter
    ) -> tuple[datetime, list[StoredSchedule]]:
        now, rows = await self._scripts.read_schedules(query)
        return moment(now), [unpack_schedule(key, text) for key, text in rows]

    async def fsck(self, *, limit: int = 1000) -> tuple[Finding, ...]:
        """Search all keys of the prefix for damage, and return the first `limit` findings.

        Workers may go on meanwhile. It reads about a hundred entries in one call. It only writes to correct damage
        that nothing else would end: see _audit.py.
        """
        return await Audit(self._connections, self._scripts, self._keys, limit=limit).run()

    async def diagnose(self, *, quick: bool = False) -> list[Check]:
        """Check the server. Unless `quick`, also check the user's permissions and all keys, and read every record."""
        checks = [
            diagnosis.check_prefix(self._prefix),
            *await diagnosis.check_server(self._connections, at=self._keys.queues),
        ]
        if quick:
            return checks
        checks += await diagnosis.check_permissions(self._scripts)
        try:
            return [*checks, diagnosis.check_findings(await self.fsck())]
        except PermissionMissingError as error:
            return [*checks, diagnosis.check_findings(error)]
