"""The files for systemd, Kubernetes and Docker use variables that the worker reads, and leave it time to drain."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowli_core.cli._worker.command import worker
from flowli_core.durations import duration

DEPLOY = Path(__file__).parents[2] / "examples" / "deploy"
RELEASE_TIME = timedelta(seconds=9)
"""5 for handlers that ignore their cancellation, 2 for the last calls to the store, 2 for threads that still run."""

VARIABLES = {option.envvar for option in worker.params}


def pod() -> Any:
    (manifest,) = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    return manifest["spec"]["template"]["spec"]


def test_kubernetes_leaves_time_to_drain() -> None:
    variables = {one["name"]: one.get("value") for one in pod()["containers"][0]["env"]}
    drain = duration(variables["FLOWLI_DRAIN"], argument="drain")
    assert timedelta(seconds=pod()["terminationGracePeriodSeconds"]) > drain + RELEASE_TIME


def test_kubernetes_probes_use_the_health_port_and_paths_of_the_worker() -> None:
    (container,) = pod()["containers"]
    (port,) = container["ports"]
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert variables["FLOWLI_HEALTH_PORT"] == str(port["containerPort"])
    assert container["livenessProbe"]["httpGet"] == {"path": "/live", "port": port["name"]}
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": port["name"]}


def test_systemd_leaves_time_to_drain() -> None:
    unit = (DEPLOY / "flowli-worker.service").read_text()
    (drain,), (limit,) = re.findall(r"FLOWLI_DRAIN=(\S+)", unit), re.findall(r"TimeoutStopSec=(\d+)", unit)
    assert timedelta(seconds=int(limit)) > duration(drain, argument="drain") + RELEASE_TIME


def test_docker_asks_the_worker_whether_it_is_ready() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    (port,) = re.findall(r"FLOWLI_HEALTH_PORT=(\d+)", text)
    assert f"urlopen('http://127.0.0.1:{port}/ready'" in text


@pytest.mark.parametrize("name", ["kubernetes.yaml", "flowli-worker.service", "Dockerfile"])
def test_the_worker_reads_every_variable(name: str) -> None:
    named = set(re.findall(r"FLOWLI_[A-Z_]+(?==|, value)", (DEPLOY / name).read_text()))
    assert named
    assert named <= VARIABLES
