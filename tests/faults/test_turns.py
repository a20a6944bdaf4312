"""Turns of lanes: however much one tenant has queued, the job of another starts after a round."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flowli_core import Jobs, Limit, Runner, job
from tests.support.figures import note_figures
from tests.support.running import running, soon, until
from tests.support.stores import STORES, driver_of

SLOTS = 10


def tenant_of(input: str) -> str:
    """Return the tenant that an input names."""
    return input.split(" ", maxsplit=1)[0]


@dataclass
class Starts:
    """The tenants in the order of the starts of their jobs, and when each run started or ended."""

    order: list[str] = field(default_factory=list[str])
    ends: list[float] = field(default_factory=list[float])
    quiet: float = 0
    """The start of the quiet tenant's job."""


@job(str, limit=Limit(by=tenant_of))
async def serve(input: str, ctx: Starts) -> None:
    """Take 10 ms."""
    if tenant_of(input) == "quiet":
        ctx.quiet = time.monotonic()
    ctx.order.append(tenant_of(input))
    await asyncio.sleep(0.01)
    ctx.ends.append(time.monotonic())


class TenantJobs(Jobs[Starts]):
    serve = serve


async def starts_behind(store: str, folder: Path, queued: int) -> None:
    """Queue jobs of one tenant and then one of another, which must start within a round."""
    with driver_of(store, folder) as driver:
        starts = Starts()
        async with TenantJobs(context=starts, driver=driver) as jobs:
            for first in range(0, queued, 1000):
                await jobs.serve.enqueue_many([f"noisy {number}" for number in range(first, min(first + 1000, queued))])
            async with running(Runner(jobs, concurrency=SLOTS)):
                await until(lambda: len(starts.order) >= 3 * SLOTS)
                await soon(jobs.serve.enqueue("quiet 0"))
                stored, before = time.monotonic(), len(starts.order)
                await until(lambda: starts.quiet > 0)
                between = max(starts.order.index("quiet") - before, 0)
                freed = min([end for end in starts.ends if end > stored], default=starts.quiet)
    note_figures(
        f"{store}: {queued} jobs of a noisy tenant queued: that of another started "
        f"{(starts.quiet - freed) * 1000:.1f} ms after the first free slot, after {between} others"
    )
    assert between <= 2 * SLOTS


@pytest.mark.parametrize("store", STORES)
async def test_a_job_starts_within_a_round_behind_a_noisy_tenant(store: str, tmp_path: Path) -> None:
    await starts_behind(store, tmp_path, 500)


@pytest.mark.faults
@pytest.mark.parametrize("store", STORES)
async def test_a_job_starts_within_a_round_behind_100_000_others(store: str, tmp_path: Path) -> None:
    await starts_behind(store, tmp_path, 100_000)
