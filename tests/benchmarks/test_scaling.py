"""The simulation of many workers, and the costs that it takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scaling import Costs, Drained, costs_of, simulate

ROOT = Path(__file__).parents[2]
US = 1e-6


def drained(*, jobs: int, steps: int) -> Drained:
    """Return a drain in which a step costs the server 100 us and a job 5 us, and the worker 200 us and 10 us."""
    server, worker = (100 * steps + 5 * jobs) * US, (200 * steps + 10 * jobs) * US
    return Drained(jobs, rate=1.0, steps=steps, server=server, worker=worker)


def test_two_drains_give_the_costs() -> None:
    costs = costs_of(drained(jobs=1_000, steps=100), drained(jobs=10_000, steps=200))
    found = [value / US for value in (costs.server_step, costs.server_job, costs.worker_step, costs.worker_job)]
    assert found == pytest.approx([100, 5, 200, 10])


def test_one_worker_is_limited_by_its_core() -> None:
    costs = Costs(server_step=0, server_job=US, worker_step=0, worker_job=20 * US)
    found = simulate(costs, workers=1, slots=100, duration=0)
    assert found.rate == pytest.approx(50_000, rel=0.02)
    assert found.busy == pytest.approx(0.05, rel=0.1)


def test_jobs_that_wait_are_limited_by_the_slots() -> None:
    costs = Costs(server_step=10 * US, server_job=US, worker_step=10 * US, worker_job=10 * US)
    one, ten = [simulate(costs, workers=workers, slots=100, duration=0.1).rate for workers in (1, 10)]
    assert one == pytest.approx(1_000, rel=0.05)
    assert ten == pytest.approx(10 * one, rel=0.05)


def test_many_workers_are_limited_by_the_server() -> None:
    """A step carries 50 jobs, so each costs 10 us and a fiftieth of a step."""
    costs = Costs(server_step=100 * US, server_job=10 * US, worker_step=0, worker_job=20 * US)
    found = [simulate(costs, workers=workers, slots=100, duration=0) for workers in (2, 10, 100)]
    assert [one.rate for one in found] == pytest.approx([1 / (12 * US)] * 3, rel=0.03)
    assert found[-1].busy == pytest.approx(1)


def test_it_measures_and_writes_the_tables(tmp_path: Path) -> None:
    pytest.importorskip("uvloop")
    output = tmp_path / "figures.md"
    words = [sys.executable, "-m", "benchmarks.scaling", "--jobs", "400", "--output", str(output)]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    rows = [line for line in output.read_text().splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[-6:]] == ["| 1", "| 2", "| 4", "| 10", "| 30", "| 100"]
