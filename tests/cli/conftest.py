"""The registry of a test, and commands that run in the process of the test."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from flowli_core.cli import main
from tests.cli.app import WorkerJobs, make_jobs
from tests.cli.operated import APP, Output
from tests.redis.server import clean_up, fresh_prefix, shared_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


@pytest.fixture
async def jobs(tmp_path: Path) -> AsyncIterator[WorkerJobs]:
    """The registry that worker processes of the test also open."""
    async with make_jobs(tmp_path) as made:
        yield made


@pytest.fixture(params=["sqlite", "redis"])
def flowli(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Callable[..., Output]]:
    """Run a command on a new store, and return its output."""
    (tmp_path / "operated.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("FLOWLI_TEST_STORE", str(request.param))
    if request.param == "redis":
        monkeypatch.setenv("FLOWLI_TEST_URL", shared_url())
        monkeypatch.setenv("FLOWLI_TEST_PREFIX", fresh_prefix())
    monkeypatch.setenv("FLOWLI_APP", "operated:make")
    monkeypatch.setenv("FLOWLI_FACTORY", "1")

    def run_command(*words: str) -> Output:
        code = main(list(words))
        captured = capsys.readouterr()
        return Output(code, captured.out, captured.err)

    yield run_command
    sys.modules.pop("operated", None)
    clean_up()
