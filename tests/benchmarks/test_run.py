"""A run of the benchmarks with few jobs, from the command to the report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("uvloop")
ROOT = Path(__file__).parents[2]


def test_a_tiny_run_measures_flowli_and_a_loop_and_writes_the_report(tmp_path: Path) -> None:
    words = ["--mode", "tiny", "--only", "Flowli,redis-py loop", "--phases", "throughput", "pickup", "idle"]
    words += ["--no-stores", "--output", str(tmp_path)]
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    text = (tmp_path / "benchmarks.md").read_text()
    assert "## Not measured" not in text
    figures = text.split("## Figures")[1].splitlines()
    measured = [line.split(" | ")[1] for line in figures if line.startswith(("| drain, 1", "| enq", "| idle", "| byt"))]
    assert len(measured) == 6
    assert "-" not in measured
    assert (tmp_path / "benchmarks.svg").read_text().startswith("<svg")
