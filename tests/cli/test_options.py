"""The options of a worker: their variables, their defaults, and what the parent of several gives to each."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from flowli_core import Runner
from flowli_core.cli._worker.command import worker
from flowli_core.cli._worker.options import WorkerOptions
from flowli_core.durations import duration

OPTIONAL = ("coredis", "fastapi", "litestar", "opentelemetry", "prometheus_client", "redis", "uvloop", "valkey")


def parse(*words: str) -> WorkerOptions:
    given: dict[str, Any] = dict(worker.make_context("worker", list(words)).params)
    del given["target"]
    return WorkerOptions(**given)


@pytest.mark.parametrize(
    "words",
    [
        "-A app:jobs",
        "-A app:jobs --health-port 8000 --health-host ::1 --workers 4 --reload",
        "-A app:make --factory --app-dir src --queues a=2,b=1 -c 3 --burst --drain 0s --lease 90s --stall-limit 1500ms",
        "-A app:jobs --log-level debug --log-format json",
    ],
)
def test_a_worker_of_several_gets_the_options_of_its_parent(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWLI_QUEUES", "of-the-environment")
    options = parse(*words.split(), *([] if "--queues" in words else ["--queues", ""]))
    for name, value in options.variables_of(2).items():
        monkeypatch.setenv(name, value)
    port = None if options.health_port is None else options.health_port + 2
    assert parse() == replace(options, workers=1, reload=False, health_port=port)


def test_the_defaults_are_those_of_a_runner() -> None:
    options, runner = parse(), inspect.signature(Runner).parameters
    assert options.concurrency == runner["concurrency"].default
    for name in ("lease", "stall_limit"):
        assert getattr(options, name) == duration(runner[name].default, argument=name)


def test_only_the_health_host_option_serves_the_health_port_to_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse("--health-port", "8000", "--workers", "2", "--log-format", "json").health_host == "127.0.0.1"
    assert parse("--health-port", "8000", "--health-host", "0.0.0.0").health_host == "0.0.0.0"  # noqa: S104 - the test
    for name in ("HOST", "UVICORN_HOST", "FLOWLI_HOST", "FLOWLI_HEALTH_PORT"):
        monkeypatch.setenv(name, "8000")
    assert parse().health_host == "127.0.0.1"
    monkeypatch.setenv("FLOWLI_HEALTH_HOST", "::")
    assert parse().health_host == "::"


def test_the_command_needs_no_optional_package() -> None:
    code = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL})); from flowli_core.cli import main; main(['-h'])"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert "Usage: flowli" in done.stdout, done.stderr
