"""A folder for the processes of a test, and the registry over it; and commands, typed in this process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from flowli_core.cli import main
from tests.cli.app import ToldJobs, make_jobs
from tests.cli.operated import APP, Typed
from tests.redis.server import clean_up, fresh_prefix, shared_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


@pytest.fixture
async def jobs(tmp_path: Path) -> AsyncIterator[ToldJobs]:
    """The registry, seen from the process of the test."""
    async with make_jobs(tmp_path) as made:
        yield made


@pytest.fixture(params=["sqlite", "redis"])
def flowli(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Callable[..., Typed]]:
    """Type a command against a store of its own."""
    (tmp_path / "operated.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("FLOWLI_TEST_STORE", str(request.param))
    if request.param == "redis":
        monkeypatch.setenv("FLOWLI_TEST_URL", shared_url())
        monkeypatch.setenv("FLOWLI_TEST_PREFIX", fresh_prefix())
    monkeypatch.setenv("FLOWLI_APP", "operated:make")
    monkeypatch.setenv("FLOWLI_FACTORY", "1")

    def type_it(*words: str) -> Typed:
        code = main(list(words))
        told = capsys.readouterr()
        return Typed(code, told.out, told.err)

    yield type_it
    sys.modules.pop("operated", None)
    clean_up()
