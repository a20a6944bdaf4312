"""The checks of the server and the keys that `flowli doctor` and the dashboard show."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from flowli_core.diagnosis import Check
from flowli_core.drivers.redis._audit import Finding
from flowli_core.drivers.redis._clients import Client
from flowli_core.drivers.redis._clients._errors import PermissionMissingError
from flowli_core.drivers.redis._keys import DEFAULT_PREFIX, LAYOUT
from flowli_core.drivers.redis._packing import to_text
from flowli_core.drivers.redis._scripts import Scripts
from flowli_core.drivers.redis._server import facts_of
from flowli_core.errors import DriverError

_DRIFT = 1.0
_NEARLY_FULL = 0.9
_MIB = 1024 * 1024
_SHOWN = 5


def check_prefix(prefix: str) -> Check:
    """Show the prefix, which an application must not share with another."""
    note = ", the default: another application on this server needs another one" if prefix == DEFAULT_PREFIX else ""
    return _check("prefix", prefix + note)


async def check_server(client: Client, *, at: str) -> list[Check]:
    """Check the server and its clock. `at` is a key of the prefix."""
    facts: dict[str, str] = {}
    try:
        for section in ("server", "memory", "persistence", "replication"):
            facts |= facts_of(await client.at(at, "INFO", section))
        facts |= await _snapshot_facts(client, at)
        checks = check_facts(facts)
    except PermissionMissingError:
        cure = "ACL SETUSER ... +info, so that eviction policy and persistence can be checked"
        checks = [_check("server", "this Redis user may not call INFO", warning=cure)]
    asked = time.time()
    seconds, micros = await client.at(at, "TIME")
    return [*checks, check_clock(int(seconds) + int(micros) / 1e6, asked, time.time())]


async def check_permissions(scripts: Scripts) -> list[Check]:
    """Check the user's permissions, and the layout."""
    refused = (await scripts.check()).decode()
    if refused:
        allowed = _check("ACL", f"{refused} is refused", bad=f"allow it: ACL SETUSER ... +{refused}")
    else:
        allowed = _check("ACL", "all needed commands are allowed")
    return [allowed, _check("layout", str(LAYOUT))]


async def _snapshot_facts(client: Client, at: str) -> dict[str, str]:
    """Return when the server makes snapshots, or nothing if this user may not ask: CONFIG is not needed otherwise."""
    with contextlib.suppress(DriverError):
        reply: Any = await client.at(at, "CONFIG", "GET", "save")
        # The name and the value: as a list or, by RESP3, as a dict.
        values = next(iter(reply.items())) if hasattr(reply, "items") else reply
        return {"save": to_text(values[1])}
    return {}


def check_facts(facts: Mapping[str, str]) -> list[Check]:
    """Check the version, eviction policy, memory and persistence, from the facts of INFO."""
    name = "Valkey" if "valkey_version" in facts else "Redis"
    version = facts.get("valkey_version") or facts.get("redis_version", "unknown")
    mode = facts.get("redis_mode") or facts.get("server_mode", "standalone")
    policy = facts.get("maxmemory_policy", "unknown")
    evicts = "" if policy == "noeviction" else "the server may evict jobs: CONFIG SET maxmemory-policy noeviction"
    return [
        _check("server version", f"{name} {version}, {mode}, {facts.get('role', 'role unknown')}"),
        _check("eviction policy", policy, bad=evicts),
        _check_memory(facts),
        _check_persistence(facts),
    ]


def _check_memory(facts: Mapping[str, str]) -> Check:
    used, limit = int(facts.get("used_memory", 0)), int(facts.get("maxmemory", 0))
    value = f"{used / _MIB:.1f} MiB of {limit / _MIB:.1f} MiB" if limit else f"{used / _MIB:.1f} MiB, no limit"
    if not limit or used <= limit * _NEARLY_FULL:
        return _check("memory", value)
    if used <= limit:
        return _check(
            "memory", value, warning="a full server refuses new jobs: raise maxmemory, or purge finished jobs"
        )
    return _check(
        "memory", value, bad="the server is full and refuses new jobs: raise maxmemory, or purge finished jobs"
    )


def _check_persistence(facts: Mapping[str, str]) -> Check:
    has_aof = facts.get("aof_enabled") == "1"
    value = "append-only file" if has_aof else "no append-only file, only snapshots if configured"
    if not has_aof and facts.get("save") == "":
        cure = "a restart of the server loses every job: CONFIG SET appendonly yes"
        return _check("persistence", "neither an append-only file nor snapshots", bad=cure)
    failed = [
        f"the last {what} failed"
        for what, fact in (("append", "aof_last_write_status"), ("snapshot", "rdb_last_bgsave_status"))
        if facts.get(fact, "ok") != "ok"
    ]
    if failed:
        return _check(
            "persistence", f"{value}; {', '.join(failed)}", bad="check the disk and the free memory of the server"
        )
    cure = "a crash of the server loses everything since the last snapshot: CONFIG SET appendonly yes"
    return _check("persistence", value, warning="" if has_aof else cure)


def check_clock(server: float, asked: float, answered: float) -> Check:
    """Compare the server's time with ours before and after the call. The drift is at least the value shown."""
    drift = max(asked - server, server - answered, 0.0)
    value = f"{drift:.1f} s off this machine's clock" if drift else "same as this machine's"
    return _check("clock", value, warning="" if drift < _DRIFT else "jobs use the server's time; run NTP on both")


def check_findings(findings: Sequence[Finding] | DriverError) -> Check:
    """Summarize the findings of fsck, or the error that prevented it."""
    if isinstance(findings, DriverError):
        return _check("fsck", "not done", warning=str(findings))
    if not findings:
        return _check("fsck", "no faults")
    shown = [f"{found.key} {found.id}: {found.problem}" for found in findings[:_SHOWN]]
    more = [f"and {len(findings) - _SHOWN} more"] if len(findings) > _SHOWN else []
    return _check("fsck", "\n".join([*shown, *more]), bad="see the driver's documentation")


def _check(name: str, value: str, *, warning: str = "", bad: str = "") -> Check:
    """Make a check. A cure given as `warning` or `bad` is also its verdict."""
    return Check(name=name, value=value, verdict="bad" if bad else "warning" if warning else "ok", cure=bad or warning)
