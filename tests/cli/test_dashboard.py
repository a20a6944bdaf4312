"""`flowli dashboard`: it serves the dashboard on this machine, to whoever has its link."""

from __future__ import annotations

import signal
import socket
import sys
from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.cli.processes import flowli as started

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.app import WorkerJobs
    from tests.cli.operated import Output
    from tests.cli.processes import Flowli


async def read_link(command: Flowli) -> str:
    return (await command.wait_for("Open http")).split()[-1]


async def test_a_link_opens_the_dashboard_until_ctrl_c(jobs: WorkerJobs, tmp_path: Path) -> None:
    receipt = await jobs.count.enqueue(1)
    async with started(tmp_path, "dashboard", "tests.cli.app:jobs", "--port", "0") as command:
        link = await read_link(command)
        async with httpx2.AsyncClient(follow_redirects=True, trust_env=False) as browser:
            assert (await browser.get(link.partition("?")[0])).status_code == 403
            page = await browser.get(link)
            assert page.status_code == 200
            assert "WorkerJobs" in page.text
            assert receipt.id in (await browser.get(page.url.join("jobs?state=queued"))).text
        next_link = await read_link(command)
        assert next_link != link
        command.process.send_signal(signal.SIGINT)
        assert await command.wait_for_exit() == 0
    assert len(command.lines) == 3, command.lines


@pytest.mark.parametrize("words", [(), ("--read-only",)], ids=str)
async def test_a_read_only_dashboard_offers_no_actions(
    jobs: WorkerJobs, tmp_path: Path, words: tuple[str, ...]
) -> None:
    receipt = await jobs.count.enqueue(1)
    async with started(tmp_path, "dashboard", "tests.cli.app:jobs", "--port", "0", *words) as command:
        link = await read_link(command)
        async with httpx2.AsyncClient(follow_redirects=True, trust_env=False) as browser:
            home = (await browser.get(link)).url
            page = await browser.get(home.join(f"job?id={receipt.id}"))
    assert ("Cancel" in page.text) is not bool(words)


def test_a_host_that_other_machines_reach_is_refused(flowli: Callable[..., Output]) -> None:
    for host in ("0.0.0.0", "::"):  # noqa: S104 - the test
        done = flowli("dashboard", "--host", host)
        assert done.code == 2
        assert "--allow-remote" in done.err


def test_a_host_without_an_address_is_refused(flowli: Callable[..., Output], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    done = flowli("dashboard", "--host", "nowhere")
    assert done.code == 2
    assert "--host 'nowhere' has no address" in done.err


def test_a_port_that_is_taken_is_named(flowli: Callable[..., Output]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = flowli("dashboard", "--port", str(port))
    assert done.code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.err


def test_a_missing_package_is_named_by_its_extra(
    flowli: Callable[..., Output], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = flowli("dashboard")
    assert done.code == 2
    assert "pip install 'flowli[dashboard]'" in done.err
