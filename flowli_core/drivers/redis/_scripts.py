"""Calls the Lua scripts: one method for each file in lua/, with named arguments."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from importlib import resources
from typing import Any

from flowli_core.driver import Ack, Lease, Step
from flowli_core.drivers._times import milliseconds, stamp
from flowli_core.drivers.redis._clients import Client
from flowli_core.drivers.redis._clients._errors import MissingScriptError, WrongTypeError
from flowli_core.drivers.redis._keys import Keys
from flowli_core.drivers.redis._packing import (
    Word,
    digest_of,
    pack_ack,
    pack_limit,
    pack_record,
    pack_report,
    shape_of,
    to_text,
)
from flowli_core.errors import DriverError, StoreDamaged, StoreUnavailable
from flowli_core.lanes import MOST_LISTED_LANES
from flowli_core.limits import (
    LAST_SEEN_PRECISION,
    MAX_BATCH_BYTES,
    MOST_PAUSED,
    MOST_TAKEN_BACK,
    MOST_TAKEN_IDS,
    RECOVER_PER_STEP,
    TRIM_PER_STEP,
    WORKER_LISTED,
    WORKER_MEMORY,
)
from flowli_core.new_records import NewRecord
from flowli_core.reports import Report
from flowli_core.stored import (
    RecordById,
    RecordQuery,
    RecordsById,
    ScheduleByKey,
    SchedulesAfter,
    SchedulesDue,
    State,
    StoredSchedule,
    Watch,
)
from flowli_core.targets import Target

_LUA = resources.files("flowli_core.drivers.redis").joinpath("lua")

_SHORTEST_WAIT = 0.01
_QUEUES_PER_CALL = 250
_REPAIRS = 5
_LOADS = 5
"""A script is loaded at most this often for one call: a failover or a flush may lose it again before it is called."""


class Script:
    """A file in lua/ behind those that its line "Needs:" names, and the digest by which a server knows it.

    A call defines the functions of its script again. So a line "Insert:" stands for files that are needed there only,
    inside of a branch or of a function: only a call that comes there pays for them.

    All but head.lua and columns.lua become the body of a function. Its inner functions then share the variables of
    these two, which costs less than that each captures them: it saves 5 % of a step that settles and reserves nothing.
    """

    def __init__(self, name: str) -> None:
        text = _read(name)
        needs = re.search("^-- Needs: (.*)$", text, re.MULTILINE)
        if needs is not None:
            parts = needs[1].split()
            outer = ["shared/head", *(part for part in parts if part == "shared/columns")]
            inner = [part for part in parts if part not in outer]
            head, body = ["".join(map(_read, some)) for some in (outer, inner)]
            text = f"{head}local function operation()\n{body}{text}end\nreturn operation()\n"
        self.text = text
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


def _read(name: str) -> str:
    """Return the text of a file in lua/, with the files that it inserts."""
    text = _LUA.joinpath(f"{name}.lua").read_text()
    return re.sub("^ *-- Insert: (.*)$", lambda line: "".join(map(_read, line[1].split())), text, flags=re.MULTILINE)


class Scripts:
    """Calls the scripts with the keys of one prefix. `now` returns the time for them in ms, or -1 for the server's."""

    def __init__(self, client: Client, keys: Keys, now: Callable[[], int]) -> None:
        self._client = client
        self._keys = keys
        self._now = now
        names = [file.name.removesuffix(".lua") for file in _LUA.iterdir() if file.name.endswith(".lua")]
        self._scripts = {name: Script(name) for name in names}

    async def admit(self, record_id: str) -> Any:
        return await self._call("admit", [record_id])

    async def audit(self, *, column: str, queue: str, cursor: bytes, size: int) -> Any:
        return await self._call("audit", [column, queue, cursor, size], extra=self._keys.schedules)

    async def check(self) -> Any:
        scratch = self._keys.scratch
        refused = await self._evaluate(self._scripts["check"], (1, scratch), self._client)
        if not refused:
            # No script may call BZPOPMIN. It does not block: the key has a member.
            try:
                await self._client.execute("BZPOPMIN", scratch, _SHORTEST_WAIT)
            except DriverError:
                await self._client.execute("DEL", scratch)
                raise
        return refused

    async def enqueue(self, records: Sequence[NewRecord]) -> Any:
        return await self._store("enqueue", _pack_records(records))

    async def enqueue_any(self, records: Sequence[NewRecord]) -> Any:
        return await self._store("enqueue_any", _pack_records(records))

    async def mend_lane(self, kind: str, of: str, member: str) -> Any:
        return await self._call("mend_lane", [kind, of, member])

    async def step(self, step: Step) -> Any:
        return await self._evaluate(self._scripts["step"], self._step_words(step), self._client)

    def step_command(self, step: Step) -> tuple[Word, ...]:
        """Make the command of a step, for another client to send. It may raise MissingScriptError."""
        return ("EVALSHA", self._scripts["step"].digest, *self._step_words(step))

    async def heartbeat(self, worker: str, leases: Sequence[Lease], lease: timedelta, reports: Sequence[Report]) -> Any:
        remember_ms = milliseconds(WORKER_MEMORY + LAST_SEEN_PRECISION)
        words: list[Word] = [worker, milliseconds(lease), remember_ms, len(reports)]
        for report in reports:
            words += pack_report(report)
        for held in leases:
            words += (held.id, held.token)
        return await self._call("heartbeat", words, extra=(self._keys.worker(worker),))

    async def take_back(self, leases: Iterable[Lease | Ack]) -> Any:
        words: list[Word] = [MOST_TAKEN_BACK]
        for lost in leases:
            words += (lost.id, lost.token)
        return await self._call("take_back", words)

    async def cancel(self, targets: Sequence[Target]) -> Any:
        words: list[Word] = []
        for target in targets:
            words += (target.id, target.state or "-")
        return await self._call("cancel", words)

    async def recount(self, digest: bytes, wrong: bytes, *, counted: int) -> Any:
        return await self._call("recount", [digest, wrong, counted])

    async def requeue(self, targets: Sequence[Target]) -> Any:
        words: list[Word] = []
        for target in targets:
            words += (target.id, target.state or "-", int(target.attempts is not None), target.attempts or b"")
        return await self._call("requeue", words)

    async def purge(self, state: State, *, older_than: timedelta, limit: int, ids: Sequence[str] | None) -> Any:
        chosen: Sequence[Word] = ("all",) if ids is None else ("ids", *ids)
        return await self._call("purge", [state, milliseconds(older_than), limit, *chosen])

    async def pause_queue(self, queue: str, *, paused: bool) -> Any:
        return await self._call("pause_queue", [queue, int(paused), MOST_PAUSED])

    async def watch(self, watch: Watch) -> Any:
        return await self._evaluate(self._scripts["watch"], self._watch_words(watch), self._client)

    def watch_command(self, watch: Watch) -> tuple[Word, ...]:
        """Make the command of a watch, for another client to send. It may raise MissingScriptError."""
        return ("EVALSHA", self._scripts["watch"].digest, *self._watch_words(watch))

    async def read_records(
        self,
        query: RecordQuery,
        *,
        limit: int = 0,
        after: tuple[int, Word] = (-1, ""),
        most: int = 0,
        lowest: int = -1,
        cursor: bytes = b"0",
        positions: Iterable[tuple[int, Word, Word]] = (),
    ) -> Any:
        if isinstance(query, RecordById):
            return await self._call("read_records", [query.id])
        if isinstance(query, RecordsById):
            return await self._call("read_records", ["ids", *query.ids])
        words: list[Word] = [query.state, *after, limit, int(query.payloads), most, lowest, cursor]
        words += (int(query.is_filtered()), query.name or "", query.queue or "", query.attempts_hold or b"")
        words.append("" if query.older_than is None else milliseconds(query.older_than))
        for one in positions:
            words += one
        return await self._call("read_records", words)

    async def overview(self, *, cursor: bytes, most: int) -> Any:
        return await self._call("overview", [cursor, most, milliseconds(WORKER_LISTED), MOST_LISTED_LANES])

    async def fold_history(self, *, most: int) -> Any:
        return await self._call("fold_history", [most])

    async def read_history(self, periods: Iterable[str], *, most: int) -> Any:
        return await self._call("read_history", [most, *periods])

    async def put_schedule(
        self, key: str, schedule: StoredSchedule | None, *, revision: int, records: Sequence[NewRecord]
    ) -> Any:
        words: list[Word] = [key, revision]
        if schedule is not None:
            words += (
                int(schedule.paused),
                "-" if schedule.next_tick is None else stamp(schedule.next_tick),
                "-" if schedule.last_tick is None else stamp(schedule.last_tick),
                schedule.last_record_id or "-",
                schedule.queue,
                schedule.spec,
                *(_pack_records(records) if records else ()),
            )
        (is_stored,) = await self._store("put_schedule", words, extra=self._keys.schedules)
        return is_stored

    async def read_schedules(self, query: ScheduleByKey | SchedulesDue | SchedulesAfter) -> Any:
        words: tuple[Word, ...]
        match query:
            case ScheduleByKey():
                words = ("one", query.key)
            case SchedulesDue():
                words = ("due", query.limit)
            case SchedulesAfter():
                words = ("page", query.limit, *(() if query.after is None else (query.after,)))
        return await self._call("read_schedules", words, extra=self._keys.schedules)

    async def wake(self, queues: Sequence[str], *, client: Client) -> Any:
        return await self._evaluate(self._scripts["wake"], self._words(queues, ()), client)

    async def types(self, queues: Iterable[str] = ()) -> Any:
        found = await self._evaluate_types(queues)
        if found:
            return found
        names = [to_text(name) for name in await self._client.execute("SMEMBERS", self._keys.queues)]
        for start in range(0, len(names), _QUEUES_PER_CALL):
            found += await self._evaluate_types(names[start : start + _QUEUES_PER_CALL])
        return found

    async def _evaluate_types(self, queues: Iterable[str]) -> Any:
        types = self._keys.types(queues)
        return await self._evaluate(self._scripts["types"], (len(types), *types, *types.values()), self._client)

    async def _store(self, name: str, arguments: Sequence[Word], *, extra: Sequence[str] = ()) -> Any:
        """Call a script that stores records. If it finds damaged shapes, repair them and call it again."""
        for _ in range(_REPAIRS):
            differing, *reply = await self._call(name, arguments, extra=extra)
            if not differing:
                return reply
            for digest, stored in zip(differing[::2], differing[1::2], strict=True):
                if digest_of(stored) == digest:
                    raise DriverError(
                        "the limits of this job have the same digest as other stored ones, so they cannot be stored; "
                        "change one of them by a little, for example the timeout"
                    )
                text = arguments[arguments.index(digest) + 1]
                await self._client.execute("HSET", self._keys.shape, digest, text)
        raise StoreUnavailable("the stored limits of this job were damaged again each time that they were repaired")

    async def _call(self, name: str, arguments: Sequence[Word], *, extra: Sequence[str] = ()) -> Any:
        return await self._evaluate(self._scripts[name], self._words(arguments, extra), self._client)

    def _step_words(self, step: Step) -> tuple[Word, ...]:
        return self._words(_pack_step(step), (self._keys.worker(step.worker),))

    def _watch_words(self, watch: Watch) -> tuple[Word, ...]:
        words: tuple[Word, ...] = (watch.watcher, len(watch.add), *watch.add, *watch.remove)
        return self._words(words, (self._keys.changed(watch.watcher),))

    def _words(self, arguments: Sequence[Word], extra: Sequence[str]) -> tuple[Word, ...]:
        """Return the words after the digest: the number of keys, the keys, and the arguments. See head.lua."""
        named = self._keys.named_by_calls
        return (len(named) + len(extra), *named, *extra, self._now(), *arguments)

    async def _evaluate(self, script: Script, words: tuple[Word, ...], client: Client) -> Any:
        for tries_left in reversed(range(_LOADS)):
            try:
                return await client.execute("EVALSHA", script.digest, *words)
            except WrongTypeError as error:
                # If it finds none, it has deleted a wake-up of another type.
                found = await self.types()
                if found or not tries_left:
                    raise wrong_type(found) from error
            except MissingScriptError:
                await client.at(self._keys.queues, "SCRIPT LOAD", script.text)
        raise StoreUnavailable(
            f"Redis lost a script each of the {_LOADS} times it was loaded; does something keep calling SCRIPT FLUSH?"
        )


def wrong_type(found: Sequence[Any]) -> StoreDamaged:
    """Return the error for the keys that types.lua found."""
    for key, kind, expected in found:
        return StoreDamaged(
            f"the key {to_text(key)} is a {kind.decode()} and should be a {expected.decode()}: "
            "another program has written it; rename or delete it"
        )
    return StoreDamaged(
        "a key had another type than it should, and is gone, or belongs to one worker or one lane: restart the worker"
    )


def _pack_records(records: Sequence[NewRecord]) -> list[Word]:
    """Return the arguments of add_records.lua."""
    shapes = dict(shape_of(record) for record in records)
    limits = {record.lane.limit: pack_limit(record.lane) for record in records if record.lane is not None}
    words: list[Word] = [len(shapes), len(limits)]
    for digest, text in shapes.items():
        words += (digest, text)
    for name, numbers in limits.items():
        words += (name, numbers)
    for record in records:
        words += pack_record(record)
    return words


def _pack_step(step: Step) -> list[Word]:
    """Return the arguments of step.lua, which names them in the same order."""
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
        MOST_TAKEN_IDS,
        milliseconds(WORKER_MEMORY),
        milliseconds(LAST_SEEN_PRECISION),
        int(step.wait is not None),
        int(step.leaving),
        step.last_token,
        step.about or b"",
        len(step.queues),
        len(step.reports),
        *step.queues,
    ]
    for report in step.reports:
        words += pack_report(report)
    for ack in step.acks:
        words += pack_ack(ack)
    return words
