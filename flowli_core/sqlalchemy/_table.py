"""The table of an outbox, and the layout of its rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.dialects.mysql import MEDIUMTEXT, VARCHAR

from flowli_core.durations import ZERO
from flowli_core.lanes import Lane, Rate
from flowli_core.new_records import NewRecord

VERSION = 1
"""The version of the layout of a stored record."""

_KINDS = {
    "id": str,
    "name": str,
    "queue": str,
    "input": bytes,
    "key": str | None,
    "policy": bytes,
    "max_recoveries": int,
}
"""The types of the fields of a record that JSON does not ensure."""

_LATER_FIELDS = {
    field.name: field.default
    for field in fields(NewRecord)
    if field.name in {"on_conflict", "max_wait", "unique_for", "lane"}
}
"""The fields that earlier releases with this version do not know, and their defaults."""

_LONGEST_TEXT = 255
_ID = String(_LONGEST_TEXT).with_variant(
    VARCHAR(_LONGEST_TEXT, charset="ascii", collation="ascii_bin"), "mysql", "mariadb"
)
"""MySQL compares texts without regard to case, but ids are ASCII texts whose case matters."""

_LONG_TEXT = Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")
"""A TEXT of MySQL holds 64 KiB only."""


def outbox_table(metadata: MetaData, *, name: str = "flowli_outbox", schema: str | None = None) -> Table:
    """Add the table of an outbox to a MetaData, so that `create_all` and Alembic see it. Return it.

    Times are in milliseconds since 1970. A row exists from the commit of its transaction until the store has accepted
    its record. `claimed_until` is when another process may send it.
    """
    return Table(
        name,
        metadata,
        Column("number", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
        Column("id", _ID, nullable=False),
        Column("transaction_id", String(36), nullable=False),
        Column("job", String(_LONGEST_TEXT), nullable=False),
        Column("queue", String(_LONGEST_TEXT), nullable=False),
        Column("created_at", BigInteger(), nullable=False),
        Column("claimed_until", BigInteger(), nullable=False),
        Column("claimed_by", String(36), nullable=True),
        Column("record", _LONG_TEXT, nullable=False),
        Index(f"{name}_id", "id"),
        Index(f"{name}_transaction", "transaction_id", "number"),
        schema=schema,
    )


def make_rows(
    records: Sequence[NewRecord], *, transaction: str, now: int, claimed_until: int
) -> list[dict[str, object]]:
    """Return the rows of records that one transaction stores at `now`."""
    return [
        {
            "id": record.id,
            "transaction_id": transaction,
            "job": record.name,
            "queue": record.queue,
            "created_at": now,
            "claimed_until": claimed_until,
            "claimed_by": None,
            "record": pack(record),
        }
        for record in records
    ]


def pack(record: NewRecord) -> str:
    """Write a record as JSON, in ASCII.

    Fields of later releases are left out if the record does not use them. So other processes may run an earlier one.
    """
    unused = {name for name, default in _LATER_FIELDS.items() if getattr(record, name) == default}
    wire = {name: value for name, value in asdict(record).items() if name not in unused}
    return json.dumps({"version": VERSION, **wire}, default=_plain)


def unpack(wire: str, *, age: timedelta) -> NewRecord:
    """Read a record whose row was written `age` ago: its delay, its longest wait and its expiry count from then.

    Raises ValueError if it cannot be read.
    """
    try:
        found: dict[str, Any] = json.loads(wire)
        version = found.pop("version")
        if version != VERSION:
            raise ValueError(f"its layout is {version!r}, and this release reads {VERSION}")
        due, expires = _read_when(found["due"]), found["expires"] and _read_when(found["expires"])
        found["due"] = due if isinstance(due, datetime) else max(due - age, ZERO)
        if isinstance(expires, timedelta):
            found["expires"] = due + expires if isinstance(due, datetime) else expires - max(age - due, ZERO)
        else:
            found["expires"] = expires
        for name in ("input", "meta", "policy"):
            found[name] = None if found[name] is None else found[name].encode("utf-8", "surrogateescape")
        for name in ("keep_completed", "keep_failed", "keep_id", "unique_for", "max_wait"):
            if name in found:
                found[name] = timedelta(milliseconds=found[name])
        if "max_wait" in found:
            found["max_wait"] = max(found["max_wait"] - age, ZERO)
        if "lane" in found:
            found["lane"] = _read_lane(found["lane"])
        record = NewRecord(**found)
    except (TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    _check(record, _KINDS)
    if record.on_conflict not in ("keep", "replace"):
        raise ValueError("its on_conflict is unknown")
    return record


def _check(value: object, kinds: Mapping[str, Any]) -> None:
    for name, kind in kinds.items():
        if not isinstance(part := getattr(value, name), kind):
            raise ValueError(f"its {name} is of the type {type(part).__name__}")  # noqa: TRY004 - a damaged row


def _read_lane(wire: dict[str, Any]) -> Lane:
    rate = wire["rate"] and Rate(wire["rate"]["count"], timedelta(milliseconds=wire["rate"]["period"]))
    lane = Lane(wire["limit"], wire["value"], wire["concurrency"], rate)
    _check(lane, {"limit": str, "value": str, "concurrency": int | None})
    if lane.rate is not None:
        _check(lane.rate, {"count": int})
    return lane


def _read_when(when: str | int) -> datetime | timedelta:
    return datetime.fromisoformat(when) if isinstance(when, str) else timedelta(milliseconds=when)


def _plain(value: object) -> object:
    match value:
        case bytes():
            return value.decode("utf-8", "surrogateescape")
        case timedelta():
            return value // timedelta(milliseconds=1)
        case datetime():
            return value.isoformat()
        case _:
            raise TypeError(f"a record has a part of the type {type(value).__name__}")
