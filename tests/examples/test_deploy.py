"""The files for systemd, Kubernetes and Docker use variables that the worker reads, and leave it time to drain.

`make test-deploy` also checks them with tools of others, where these are installed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from flowli_core.cli import main
from flowli_core.cli._worker.command import worker
from flowli_core.durations import duration
from tests.adapters.servers import free_port

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples" / "deploy"
RELEASE_TIME = timedelta(seconds=9)
"""5 for handlers that ignore their cancellation, 2 for the last calls to the store, 2 for threads that still run."""

VARIABLES = {option.envvar for option in worker.params}


def pod() -> Any:
    (manifest,) = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    return manifest["spec"]["template"]["spec"]


def dockerfile() -> str:
    return (DEPLOY / "Dockerfile").read_text()


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
    text = dockerfile()
    (port,) = re.findall(r"FLOWLI_HEALTH_PORT=(\d+)", text)
    assert f"urlopen('http://127.0.0.1:{port}/ready'" in text


@pytest.mark.parametrize("name", ["kubernetes.yaml", "flowli-worker.service", "Dockerfile"])
def test_the_worker_reads_every_variable(name: str) -> None:
    named = set(re.findall(r"FLOWLI_[A-Z_]+(?==|, value)", (DEPLOY / name).read_text()))
    assert named
    assert named <= VARIABLES


def docker_variables() -> dict[str, str]:
    return dict(re.findall(r"(FLOWLI_\w+)=(\S+)", dockerfile()))


def kubernetes_variables() -> dict[str, str]:
    return {one["name"]: one["value"] for one in pod()["containers"][0]["env"] if "value" in one}


def systemd_variables() -> dict[str, str]:
    (line,) = re.findall(r"^Environment=(.*)", (DEPLOY / "flowli-worker.service").read_text(), re.MULTILINE)
    return dict(one.split("=", 1) for one in line.split())


@contextmanager
def worker_of_a_new_service(
    folder: Path, variables: dict[str, str], *before: str
) -> Generator[subprocess.Popen[bytes]]:
    """Run a worker that has completed a job, and kill it at the end if it still runs."""
    assert main(["init", str(folder)]) == 0
    environment = os.environ | variables
    flowli = [sys.executable, "-m", "flowli"]
    enqueue = ["enqueue", "send_welcome", '{"email": "ada@example.com"}', "--wait", "--timeout", "30s"]
    with subprocess.Popen(
        [*before, *flowli, "worker"], cwd=folder, env=environment, stderr=subprocess.DEVNULL
    ) as worker:
        try:
            subprocess.run([*flowli, *enqueue], cwd=folder, env=environment, check=True, capture_output=True)
            yield worker
        finally:
            worker.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.parametrize("variables", [docker_variables, kubernetes_variables, systemd_variables])
def test_the_worker_of_a_new_service_runs_with_the_variables_of_each_file(
    variables: Callable[[], dict[str, str]], tmp_path: Path
) -> None:
    """systemd sends SIGTERM to the first process only, too."""
    port, given = str(free_port()), variables()
    own_port = {"FLOWLI_HEALTH_PORT": port} if "FLOWLI_HEALTH_PORT" in given else {}
    with worker_of_a_new_service(tmp_path, given | own_port) as worker:
        if own_port:
            (health,) = re.findall(r"^HEALTHCHECK .*\n +CMD (\[.*\])", dockerfile(), re.MULTILINE)
            _, *arguments = json.loads(health.replace(docker_variables()["FLOWLI_HEALTH_PORT"], port))
            subprocess.run([sys.executable, *arguments], check=True)
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                path = pod()["containers"][0][probe]["httpGet"]["path"]
                assert httpx2.get(f"http://127.0.0.1:{port}{path}", trust_env=False).status_code == 200
        worker.terminate()
        assert worker.wait(30) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_worker_stops_on_sigterm_as_process_1_of_a_container(workers: str, tmp_path: Path) -> None:
    """The kernel ignores a signal to process 1 that the process does not handle."""
    given = docker_variables() | {"FLOWLI_HEALTH_PORT": "", "FLOWLI_WORKERS": workers}
    isolated = ["unshare", "--pid", "--fork", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*isolated, "true"], check=False).returncode:
        pytest.skip("only root can make such a process, on Linux")
    with worker_of_a_new_service(tmp_path, given, *isolated) as parent:
        (process_1,) = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        os.kill(int(process_1), signal.SIGTERM)
        assert parent.wait(30) == 0


CHECKS = [
    "kubernetes-validate --strict examples/deploy/kubernetes.yaml",
    "hadolint examples/deploy/Dockerfile",
    "check-jsonschema --builtin-schema vendor.compose-spec compose.yaml",
    "check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml .github/workflows/release.yml",
    "check-jsonschema --builtin-schema custom.github-workflows-require-timeout .github/workflows/release.yml",
    "check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml",
    "check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/idea.yml",
    "check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml",
    "yamllint --strict .github compose.yaml examples .pre-commit-config.yaml",
]


def run_tool(command: str, *more: Path) -> None:
    program, *arguments = shlex.split(command)
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed; make test-deploy brings it, but for systemd-analyze")
    done = subprocess.run([found, *arguments, *more], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "", done.stderr


@pytest.mark.parametrize("command", CHECKS, ids=lambda command: " ".join(command.split()[:3:2]))
def test_a_tool_finds_no_fault_in_a_file(command: str) -> None:
    run_tool(command)


def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    """It looks for the program of the unit, which is not on this machine."""
    text = (DEPLOY / "flowli-worker.service").read_text()
    (program,) = re.findall(r"^ExecStart=(\S+)", text, re.MULTILINE)
    unit = tmp_path / "flowli-worker.service"
    unit.write_text(text.replace(program, sys.executable))
    run_tool("systemd-analyze verify", unit)


def test_a_tool_finds_no_fault_in_the_compose_file_of_a_new_service(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path)]) == 0
    run_tool("check-jsonschema --builtin-schema vendor.compose-spec", tmp_path / "compose.yaml")
