"""The scripts: one method for each file in lua/, with named arguments."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from importlib import resources
from typing import TYPE_CHECKING, Any

from flowli_core.driver import (
    LAST_SEEN_PRECISION,
    MAX_BATCH_BYTES,
    RECOVER_PER_STEP,
    TRIM_PER_STEP,
    WORKER_ALIVE,
    WORKER_MEMORY,
    Lease,
    NewRecord,
    Step,
)
from flowli_core.drivers._times import milliseconds, stamp
from flowli_core.drivers.redis._clients._errors import MissingScriptError
from flowli_core.drivers.redis._keys import Keys
from flowli_core.drivers.redis._packing import Word, pack_ack, pack_record, shape_of
from flowli_core.errors import DriverError, StoreUnavailable
from flowli_core.stored import (
    RecordById,
    RecordsInState,
    ScheduleByKey,
    SchedulesAfter,
    SchedulesDue,
    State,
    StoredSchedule,
)

if TYPE_CHECKING:
    from flowli_core.drivers.redis._clients import Client

OPERATIONS = (
    "audit",
    "cancel",
    "check",
    "enqueue",
    "heartbeat",
    "overview",
    "purge",
    "put_schedule",
    "read_records",
    "read_schedules",
    "requeue",
    "step",
)

STALE = b"stale"
"""What a script replies that was called without all queues of its prefix. It has done nothing."""

_TRIES = 20
_MOMENT = 0.01
_LOADS = 5
"""How often a script is loaded for one call: after a failover or a flush, in the middle of one, once may not do."""


class Script:
    """A file in lua/ behind those that its "Needs:" line names, and the digest by which a server knows it.

    All files but the first become the body of a function. Its inner functions then share the variables of the first
    file, which costs less than that each captures them: it saves 5 % of a step that settles and reserves nothing.
    """

    def __init__(self, name: str) -> None:
        folder = resources.files("flowli_core.drivers.redis").joinpath("lua")
        text = folder.joinpath(f"{name}.lua").read_text()
        needs = re.search("^-- Needs: (.*)$", text, re.MULTILINE)
        if needs is not None:
            head, *body = [folder.joinpath(f"{part}.lua").read_text() for part in needs[1].split()]
            text = "".join([head, "local function operation()\n", *body, text, "end\nreturn operation()\n"])
        self.text = text
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class Scripts:
    """Calls the scripts with the keys of one prefix.

    Every key is declared, so each call names all queues of the prefix. A script that knows of one more answers `stale`;
    then their names are read anew.
    """

    def __init__(self, keys: Keys, now: Callable[[], int]) -> None:
        self._keys = keys
        self._now = now
        self._scripts = {name: Script(name) for name in OPERATIONS}
        self._queues: dict[str, None] = {}
        self._shared = keys.columns
        """The keys that each call names: the columns, and those of the queues that are known."""

    async def audit(self, client: Client, *, column: str, queue: str, cursor: bytes, size: int) -> Any:
        """Look at a part of a column for what must not be."""
        return await self._call(client, "audit", [column, queue, cursor, size], extra=self._keys.schedules)

    async def check(self, client: Client) -> Any:
        """Name a command that this user may not call."""
        scratch = self._keys.scratch
        refused = await self._evaluate(client, self._scripts["check"], (1, scratch))
        if not refused:
            # No script may call this one. With something to take it does not block.
            await client.execute("ZADD", scratch, 0, "0")
            try:
                await client.execute("BZPOPMIN", scratch, _MOMENT)
            finally:
                await client.execute("DEL", scratch)
        return refused

    async def enqueue(self, client: Client, *, records: Sequence[NewRecord]) -> Any:
        """Store records."""
        words = _packed(records)
        return await self._call(client, "enqueue", words, queues={record.queue for record in records}, adds=True)

    async def step(self, client: Client, *, step: Step) -> Any:
        """Settle, recover, reserve, trim."""
        return await self._call(client, "step", _step_words(step), queues=step.queues, worker=step.worker)

    def step_command(self, step: Step) -> tuple[Word, ...]:
        """Make the command of a step, to be sent by other means. Its reply may be STALE, or MissingScriptError."""
        words = self._words(_step_words(step), step.queues, step.worker)
        return ("EVALSHA", self._scripts["step"].digest, *words)

    async def heartbeat(self, client: Client, *, worker: str, leases: Sequence[Lease], lease: timedelta) -> Any:
        """Extend leases."""
        words: list[Word] = [milliseconds(lease), milliseconds(WORKER_MEMORY + LAST_SEEN_PRECISION)]
        for held in leases:
            words += (held.id, held.token)
        return await self._call(client, "heartbeat", words, worker=worker)

    async def cancel(self, client: Client, *, record_id: str) -> Any:
        """Cancel a record, or ask for it."""
        return await self._call(client, "cancel", [record_id])

    async def requeue(self, client: Client, *, record_id: str, progress: bytes | None) -> Any:
        """Make a record due now."""
        return await self._call(client, "requeue", [record_id, int(progress is not None), progress or b""])

    async def purge(self, client: Client, *, state: State, older_than: timedelta, limit: int) -> Any:
        """Remove finished records."""
        return await self._call(client, "purge", [state, milliseconds(older_than), limit])

    async def read_records(self, client: Client, *, query: RecordById | RecordsInState) -> Any:
        """Read one record, or a page of the records in a state."""
        if isinstance(query, RecordById):
            return await self._call(client, "read_records", [query.id])
        after = query.after
        at, behind = (-1, "") if after is None else (stamp(after.at), after.id)
        return await self._call(client, "read_records", [query.state, at, behind, query.limit])

    async def overview(self, client: Client) -> Any:
        """Count the records, find the oldest due ones, and list the workers that are alive."""
        return await self._call(client, "overview", [milliseconds(WORKER_ALIVE)])

    async def put_schedule(
        self, client: Client, *, key: str, schedule: StoredSchedule | None, revision: int, records: Sequence[NewRecord]
    ) -> Any:
        """Store a schedule and the records of its ticks, or remove it."""
        if schedule is None:
            return await self._call(client, "put_schedule", [key, revision], extra=self._keys.schedules)
        words: list[Word] = [
            key,
            revision,
            int(schedule.paused),
            "-" if schedule.next_tick is None else stamp(schedule.next_tick),
            "-" if schedule.last_tick is None else stamp(schedule.last_tick),
            schedule.last_record_id or "-",
            schedule.queue,
            schedule.spec,
            *(_packed(records) if records else ()),
        ]
        queues = {schedule.queue, *(record.queue for record in records)}
        return await self._call(client, "put_schedule", words, queues=queues, extra=self._keys.schedules)

    async def read_schedules(self, client: Client, *, query: ScheduleByKey | SchedulesDue | SchedulesAfter) -> Any:
        """Read one schedule, those that are due, or a page of all."""
        words: tuple[Word, ...]
        match query:
            case ScheduleByKey():
                words = ("one", query.key)
            case SchedulesDue():
                words = ("due", query.limit)
            case SchedulesAfter():
                words = ("page", query.limit, *(() if query.after is None else (query.after,)))
        return await self._call(client, "read_schedules", words, extra=self._keys.schedules)

    async def _call(
        self,
        client: Client,
        name: str,
        arguments: Sequence[Word],
        *,
        queues: Iterable[str] = (),
        worker: str | None = None,
        adds: bool = False,
        extra: Sequence[str] = (),
    ) -> Any:
        for attempt in range(_TRIES):
            known = self._queues
            reply = await self._evaluate(client, self._scripts[name], self._words(arguments, queues, worker, extra))
            if reply != STALE:
                if adds and not known.keys() >= set(queues):
                    self._know([*known, *(queue for queue in queues if queue not in known)])
                return reply
            names = await client.execute("SMEMBERS", self._keys.queues)
            self._know(sorted(one.decode() for one in names))
            await asyncio.sleep(0.001 * attempt)
        raise DriverError("the queues of this prefix change faster than they can be read")

    def _words(
        self, arguments: Sequence[Word], queues: Iterable[str], worker: str | None, extra: Sequence[str] = ()
    ) -> tuple[Word, ...]:
        """Make what follows the digest: the number of keys, the keys, what each script takes, and this one's own."""
        known = self._queues
        others = [queue for queue in queues if queue not in known]
        keys = [*self._shared, *(key for queue in others for key in self._keys.of_queue(queue))]
        if worker is not None:
            keys.append(self._keys.worker(worker))
        keys += extra
        return (len(keys), *keys, self._now(), len(known) + len(others), len(known), *known, *others, *arguments)

    def _know(self, queues: list[str]) -> None:
        self._queues = dict.fromkeys(queues)
        self._shared = (*self._keys.columns, *(key for queue in queues for key in self._keys.of_queue(queue)))

    async def _evaluate(self, client: Client, script: Script, words: tuple[Word, ...]) -> Any:
        for _ in range(_LOADS):
            try:
                return await client.execute("EVALSHA", script.digest, *words)
            except MissingScriptError:
                await client.at(self._keys.queues, "SCRIPT LOAD", script.text)
        raise StoreUnavailable("the server forgets its scripts faster than they can be loaded")


def _packed(records: Sequence[NewRecord]) -> list[Word]:
    shapes = dict(shape_of(record) for record in records)
    words: list[Word] = [len(shapes)]
    for digest, text in shapes.items():
        words += (digest, text)
    for record in records:
        words += pack_record(record)
    return words


def _step_words(step: Step) -> list[Word]:
    words: list[Word] = [
        step.worker,
        step.sequence,
        milliseconds(step.lease),
        step.want,
        int(step.suspect),
        MAX_BATCH_BYTES,
        RECOVER_PER_STEP,
        TRIM_PER_STEP,
        step.keep.completed,
        step.keep.failed,
        step.keep.cancelled,
        milliseconds(WORKER_MEMORY),
        milliseconds(LAST_SEEN_PRECISION),
        int(step.wait is not None),
        len(step.queues),
        *step.queues,
    ]
    for ack in step.acks:
        words += pack_ack(ack)
    return words
