"""Damage to a value that Redis stores of lanes or keys: each step ends, and `fsck` mends what stops other records."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core.drivers.redis import RedisDriver
from flowli_core.lanes import Lane, Rate
from flowli_core.testing import ManualClock
from tests.conformance.builders import HOUR, Worker, ack, ids, record
from tests.redis.server import shared_url
from tests.support.figures import note_figures

if TYPE_CHECKING:
    from flowli_core.driver import Reserved

ONE, MAIL = Lane("api", "a", concurrency=1), Lane("mail", "b", rate=Rate(2, timedelta(minutes=1)))
A, B, C = "api\na", "mail\nb", "s\nc"
WAITING = ["a2", "a3", "behind", "m2", "m3", "plain", "s1", "s2"]


class Scene:
    """Records that wait in lanes and behind another, with some that are active."""

    def __init__(self, prefix: str, foreign: Any) -> None:
        self.clock, self.redis, self.root = ManualClock(), foreign, f"{{{prefix}}}:1:"
        self.driver = RedisDriver.from_url(shared_url(), prefix=prefix, clock=self.clock)
        self.worker = Worker(self.driver)
        self.held: list[Reserved] = []
        self.ran: list[str] = []

    async def fill(self) -> None:
        await self.driver.open()
        await self.driver.enqueue([record("unique", key="u", unique_for=HOUR)])
        await self.worker.settle(await self.worker.take_one())
        await self.driver.enqueue([record("a1", lane=ONE), record("m1", lane=MAIL), record("first", key="k")])
        self.held = [*await self.worker.take(9)]
        assert sorted(ids(self.held)) == ["a1", "first", "m1"]
        await self.driver.enqueue(
            [
                *[record(name, lane=ONE) for name in ("a2", "a3")],
                *[record(name, lane=MAIL) for name in ("m2", "m3")],
                *[record(name, lane=Lane("s", "c"), max_recoveries=0) for name in ("s1", "s2")],
                record("behind", key="k", on_conflict="replace"),
                record("plain"),
            ]
        )

    async def work(self) -> None:
        """Take and settle all that may run, for some minutes."""
        for _ in range(3):
            for _ in range(9):
                answer = await self.worker.step(*[ack(one) for one in self.held], want=9)
                self.held = [*answer.reserved]
                assert len(set(ids(self.held))) == len(self.held)
                self.ran += ids(self.held)
                if not self.held:
                    break
            self.clock.advance(timedelta(minutes=2))


async def outlive(scene: Scene, command: tuple[str, ...]) -> None:
    """Damage a value, and use the store."""
    name = command[1]
    scene.redis.execute_command(command[0], scene.root + name, *command[2:])
    victims = set[str]()
    if name == "held:q" and (command[0] in {"DEL", "ZREM"} or "1e15" in command):
        victims = {command[-1]} if command[0] != "DEL" else {*WAITING} - {"plain"}
    await scene.driver.overview()
    await scene.work()
    assert "plain" in scene.ran
    await scene.driver.fsck()
    await scene.work()
    assert victims or command[0] != "ZADD" or await scene.driver.fsck() == ()
    assert sorted({*scene.ran} - victims) == sorted({*WAITING} - victims)
    assert len(set(scene.ran)) == len(scene.ran)
    assert victims or (await scene.driver.overview()).lanes == ()
    scene.clock.advance(HOUR)
    await scene.worker.step()
    (answer,) = await scene.driver.enqueue([record("unique 2", key="u")])
    assert answer.disposition == "accepted"
    left = await scene.driver.fsck()
    assert victims or left == ()


SCORES = ["inf", "-inf", "1e300", "-1e300", "-1", "0.5", "1e15"]
VALUES = ["", "nan", "inf", "-inf", "1e300", "-1", "0", "x", "9" * 30, "1e300 1e300 1e300"]
JUNK = ["x", "x\ny", "\n", "x\ny\nz"]
LANES = ("held:", "turn", "lane", "places:", "waits:", "starts:", "limits", "unique", "behind")


def damages(redis: Any, root: str) -> list[tuple[str, ...]]:
    """List the ways to damage a value of lanes and keys: commands without the root of their key."""
    found: list[tuple[str, ...]] = []
    for key in sorted(key.decode() for key in redis.keys(root.replace("{", "\\{") + "*")):
        name = key.removeprefix(root)
        if not name.startswith(LANES):
            continue
        found.append(("DEL", name))
        match redis.type(key):
            case b"zset":
                for member in redis.zrange(key, 0, -1):
                    found.append(("ZREM", name, member.decode()))
                    found += [("ZADD", name, score, member.decode()) for score in SCORES]
                found += [("ZADD", name, "1", junk) for junk in JUNK]
            case b"hash":
                for field in redis.hkeys(key):
                    found.append(("HDEL", name, field.decode()))
                    found += [("HSET", name, field.decode(), value) for value in (*VALUES, "behind", "plain")]
                found += [("HSET", name, junk, "x") for junk in JUNK]
            case b"list":
                found += [("LSET", name, "0", value) for value in VALUES]
                found += [("RPUSH", name, value) for value in VALUES]
            case _:
                found += [("SREM", name, member.decode()) for member in redis.smembers(key)]
                found += [("SADD", name, junk) for junk in (*JUNK, "a2", "m1", "m2", "s1", "plain", "behind")]
    return found


async def damage(foreign: Any, command: tuple[str, ...] | None = None) -> list[tuple[str, ...]]:
    """Damage a filled store, and use it. Without a command, only list the damages that it may have."""
    prefix = "damaged-lanes"
    scene = Scene(prefix, foreign)
    try:
        await scene.fill()
        if command is None:
            return damages(foreign, scene.root)
        await outlive(scene, command)
    except Exception as error:
        error.add_note(f"after this damage: {command}")
        raise
    finally:
        await scene.driver.close()
        foreign.delete(*foreign.keys(f"{{{prefix}}}*"))
    return []


@pytest.mark.parametrize(
    "command",
    [
        ("ZADD", "turn:q", "inf", B),
        ("ZADD", "turn_suspect:q", "1e15", C),
        ("ZADD", "lanes", "1", "x"),
        ("ZADD", "held:q", "1", "x"),
        ("ZADD", "held:q", "1e15", "a2"),
        ("ZADD", "held:q", "inf", "a2"),
        ("SADD", f"places:{A}", "first"),
        ("HSET", "behind", "behind", "behind"),
        ("ZADD", "unique", "inf", "u"),
    ],
)
async def test_a_damaged_value_stops_no_other_record(foreign: Any, command: tuple[str, ...]) -> None:
    await damage(foreign, command)


async def test_values_that_are_damaged_at_random_stop_no_other_record(foreign: Any) -> None:
    rng = random.Random(7)  # noqa: S311 - no secret
    for command in rng.sample(await damage(foreign), 6):
        await damage(foreign, command)


@pytest.mark.faults
async def test_no_damaged_value_stops_another_record(foreign: Any) -> None:
    commands = await damage(foreign)
    for command in commands:
        await damage(foreign, command)
    note_figures(f"{len(commands)} damages to lanes and keys: no other record was stopped")
