"""The scene of a fault test on the shared Redis server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.scene import Scene, scene
from tests.redis.conftest import nothing_left_behind, prefix, server
from tests.redis.server import shared_url

__all__ = ["nothing_left_behind", "prefix", "server", "shared"]


@pytest.fixture
async def shared(tmp_path: Path, prefix: str) -> AsyncIterator[Scene]:
    """A scene on the server that all tests share."""
    async with scene(tmp_path, shared_url(), prefix) as made:
        yield made
