"""Random damage to one value or one key of a prefix: everything that it does not touch goes on."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core.drivers.redis import RedisDriver
from tests.redis.server import connect, shared_url
from tests.support.damage import Damage, Figures, outlive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowli_core.clock import Clock

_NUMBERS = (b"", b"0", b"-1", b"1e400", b"nan", b"inf", b"1.5", b"9" * 30, b"99999999999999999", b"9" * 5000, b"0x10")
_TYPES = ("string", "list", "set", "hash", "zset", "stream")


class RedisStore:
    """A prefix of its own, and a client to damage it with."""

    def __init__(self, prefix: str, admin: Any, seed: int) -> None:
        self._prefix = prefix
        self._root = f"{{{prefix}}}:1:"
        self._admin = admin
        self._rng = random.Random(seed)  # noqa: S311 - no secret

    def driver(self, clock: Clock) -> RedisDriver:
        return RedisDriver.from_url(shared_url(), prefix=self._prefix, clock=clock)

    def damage(self) -> Damage:
        """Damage one value, or, in one of ten cases, make a key one of another type."""
        rng = self._rng
        key = rng.choice(sorted(self._admin.keys(self._root.replace("{", "{").replace("[", "\\[") + "*"))).decode()
        if rng.random() < 0.1:
            return self._change_type(key)
        kind = self._admin.type(key).decode()
        name = key.removeprefix(self._root)
        if kind == "hash":
            return self._damage_hash(key, name)
        if kind == "zset":
            return self._damage_zset(key, name)
        member = rng.choice(sorted(self._admin.smembers(key)))
        if rng.random() < 0.5:
            self._admin.srem(key, member)
            return Damage(f"{name} lost {member!r}", self._victims(name, member))
        self._admin.sadd(key, junk := self._junk(member))
        return Damage(f"{name} has {junk!r}", self._victims(name, member))

    def _damage_hash(self, key: str, name: str) -> Damage:
        rng, fields = self._rng, self._admin.hgetall(key)
        field = rng.choice(sorted(fields))
        match rng.randrange(8):
            case 0:
                self._admin.hdel(key, field)
                return Damage(f"{name} lost {field!r}", self._victims(name, field, fields[field]))
            case 1:
                junk = self._junk(field)
                self._admin.hset(key, junk, fields[field])
                return Damage(f"{name} has {junk!r} like {field!r}", self._victims(name, junk))
            case _:
                value = self._junk(fields[field])
                self._admin.hset(key, field, value)
                what = f"{name} of {field!r} is {value[:80]!r} instead of {fields[field][:80]!r}"
                return Damage(what, self._victims(name, field, fields[field]))

    def _damage_zset(self, key: str, name: str) -> Damage:
        rng = self._rng
        member, score = rng.choice(sorted(self._admin.zrange(key, 0, -1, withscores=True)))
        match rng.randrange(4):
            case 0:
                self._admin.zrem(key, member)
                what = f"{name} lost {member!r}"
            case 1:
                junk = self._junk(member)
                self._admin.zadd(key, {junk: score})
                what = f"{name} has {junk!r}"
            case _:
                score = rng.choice(["-inf", "+inf", -1, 0.5, 1e17, -1e300, 1e300])
                self._admin.zadd(key, {member: score})
                what = f"{name} of {member!r} is {score}"
        return Damage(what, self._victims(name, member))

    def _change_type(self, key: str) -> Damage:
        was = self._admin.type(key).decode()
        new = self._rng.choice([kind for kind in _TYPES if kind != was])
        self._admin.delete(key)
        match new:
            case "string":
                self._admin.set(key, "x")
            case "list":
                self._admin.rpush(key, "x")
            case "set":
                self._admin.sadd(key, "x")
            case "hash":
                self._admin.hset(key, "x", "1")
            case "zset":
                self._admin.zadd(key, {"x": 1})
            case _:
                self._admin.xadd(key, {"x": "1"})
        name = key.removeprefix(self._root)
        return Damage(f"{name} is a {new}", stops_all=not name.startswith(("wake:", "worker:", "history")))

    def _victims(self, name: str, field: bytes, value: bytes = b"") -> frozenset[str]:
        """Return what a damage to a field of a key touches."""
        if name == "shape":
            records = self._admin.hgetall(f"{self._root}record").items()
            return frozenset(record_id.decode() for record_id, blob in records if blob.startswith(field))
        found = {field.decode(errors="replace")}
        if name == "holder":
            found.add(value.decode(errors="replace"))
        return frozenset(found)

    def _junk(self, value: bytes) -> bytes:
        """Return a value that is cut, changed at a byte, or replaced."""
        rng = self._rng
        match rng.randrange(6):
            case 0:
                return value[: rng.randrange(len(value) + 1)]
            case 1:
                return rng.randbytes(rng.choice([1, 8, 40]))
            case 2:
                return rng.choice(_NUMBERS)
            case 3 if value:
                place = rng.randrange(len(value))
                return value[:place] + rng.randbytes(1) + value[place + 1 :]
            case 4:
                parts = value.split(b" ")
                parts[rng.randrange(len(parts))] = rng.choice(_NUMBERS)
                return b" ".join(parts)
            case _:
                return value + rng.choice([b"\n", b"\0", b" ", b"\xff", b"x" * 70_000])


@pytest.fixture
def admin() -> Iterator[Any]:
    client = connect(shared_url())
    yield client
    client.close()


async def damage_at_random(admin: Any, seed: int, figures: Figures) -> None:
    prefix = f"damage-{seed}"
    try:
        await outlive(RedisStore(prefix, admin, seed), figures)
    except Exception as error:
        error.add_note(f"seed {seed}")
        raise
    finally:
        admin.delete(*admin.keys(f"{{{prefix}}}*"))


@pytest.mark.parametrize("seed", range(60))
async def test_jobs_that_a_damaged_value_does_not_touch_run(admin: Any, seed: int) -> None:
    await damage_at_random(admin, seed, Figures())


@pytest.mark.faults
async def test_jobs_that_none_of_2_000_damaged_values_touches_run(admin: Any) -> None:
    figures = Figures()
    for seed in range(1_000, 3_000):
        await damage_at_random(admin, seed, figures)
    sys.stderr.write(f"{figures}\n")
