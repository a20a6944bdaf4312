"""The checks of the server and the keys that `flowli doctor` shows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from flowli_core.driver import Check
from flowli_core.drivers.redis._audit import Finding
from flowli_core.drivers.redis._clients import Client
from flowli_core.drivers.redis._clients._errors import PermissionMissingError
from flowli_core.drivers.redis._keys import LAYOUT
from flowli_core.drivers.redis._scripts import Scripts
from flowli_core.drivers.redis._server import facts_of
from flowli_core.errors import DriverError

_DRIFT = 1.0
_NEARLY_FULL = 0.9
_MIB = 1024 * 1024
_SHOWN = 5

_NO_INFO = Check(
    name="server",
    value="this Redis user may not call INFO",
    verdict="warning",
    cure="ACL SETUSER ... +info, so that eviction policy and persistence can be checked",
)


async def check_connection(client: Client, scripts: Scripts, *, at: str) -> list[Check]:
    """Check the server, its clock, the user's permissions, and the layout. `at` is a key of the prefix."""
    facts: dict[str, str] = {}
    try:
        for section in ("server", "memory", "persistence", "replication"):
            facts |= facts_of(await client.at(at, "INFO", section))
        checks = check_facts(facts)
    except PermissionMissingError:
        checks = [_NO_INFO]
    asked = time.time()
    seconds, micros = await client.at(at, "TIME")
    checks.append(check_clock(int(seconds) + int(micros) / 1e6, asked, time.time()))
    refused = (await scripts.check()).decode()
    checks.append(
        Check(name="ACL", value=f"{refused} is refused", verdict="bad", cure="see the driver's documentation")
        if refused
        else Check(name="ACL", value="all needed commands are allowed")
    )
    return [*checks, Check(name="layout", value=str(LAYOUT))]


def check_facts(facts: Mapping[str, str]) -> list[Check]:
    """Check the version, eviction policy, memory and persistence, from the facts of INFO."""
    name = "Valkey" if "valkey_version" in facts else "Redis"
    version = facts.get("valkey_version") or facts.get("redis_version", "unknown")
    mode = facts.get("redis_mode") or facts.get("server_mode", "standalone")
    checks = [Check(name="server version", value=f"{name} {version}, {mode}, {facts.get('role', 'role unknown')}")]
    policy = facts.get("maxmemory_policy", "unknown")
    is_safe = policy == "noeviction"
    checks.append(
        Check(
            name="eviction policy",
            value=policy,
            verdict="ok" if is_safe else "bad",
            cure="" if is_safe else "the server may evict jobs: CONFIG SET maxmemory-policy noeviction",
        )
    )
    return [*checks, _memory(facts), _persistence(facts)]


def _memory(facts: Mapping[str, str]) -> Check:
    used, most = int(facts.get("used_memory", 0)), int(facts.get("maxmemory", 0))
    value = f"{used / _MIB:.1f} MiB of {most / _MIB:.1f} MiB" if most else f"{used / _MIB:.1f} MiB, no limit"
    if most and used > most * _NEARLY_FULL:
        cure = "a full server refuses new jobs: raise maxmemory, or purge"
        return Check(name="memory", value=value, verdict="warning", cure=cure)
    return Check(name="memory", value=value)


def _persistence(facts: Mapping[str, str]) -> Check:
    has_aof = facts.get("aof_enabled") == "1"
    failed: list[str] = []
    failed += ["the last append failed"] if facts.get("aof_last_write_status", "ok") != "ok" else []
    failed += ["the last snapshot failed"] if facts.get("rdb_last_bgsave_status", "ok") != "ok" else []
    value = "append-only file" if has_aof else "snapshots at most"
    if failed:
        return Check(name="persistence", value=f"{value}; {', '.join(failed)}", verdict="bad", cure="check its disk")
    if not has_aof:
        cure = "a crash of the server loses everything since the last snapshot: CONFIG SET appendonly yes"
        return Check(name="persistence", value=value, verdict="warning", cure=cure)
    return Check(name="persistence", value=value)


def check_clock(server: float, asked: float, answered: float) -> Check:
    """Compare the server's time with ours before and after the call. The drift is at least what is shown."""
    drift = max(asked - server, server - answered, 0.0)
    is_close = drift < _DRIFT
    return Check(
        name="clock",
        value=f"{drift:.1f} s off this machine's clock" if drift else "same as this machine's",
        verdict="ok" if is_close else "warning",
        cure="" if is_close else "jobs use the server's time; run NTP on both",
    )


def check_findings(findings: Sequence[Finding] | DriverError) -> Check:
    """Summarize the findings of fsck, or the error that prevented it."""
    if isinstance(findings, DriverError):
        return Check(name="fsck", value="not done", verdict="warning", cure=str(findings))
    if not findings:
        return Check(name="fsck", value="no faults")
    shown = [f"{found.key} {found.id}: {found.problem}" for found in findings[:_SHOWN]]
    more = [f"and {len(findings) - _SHOWN} more"] if len(findings) > _SHOWN else []
    return Check(name="fsck", value="\n".join([*shown, *more]), verdict="bad", cure="see the driver's documentation")
