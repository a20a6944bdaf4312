"""The names of valkey-py: `Valkey`, also from `Sentinel.master_for`, and `ValkeyCluster`, all of `valkey.asyncio`."""

from __future__ import annotations

from typing import Any

from valkey import exceptions
from valkey.asyncio import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection, Valkey, ValkeyCluster
from valkey.asyncio.cluster import ClusterNode
from valkey.asyncio.retry import Retry
from valkey.backoff import EqualJitterBackoff, NoBackoff

from flowli_core.drivers.redis._clients._limits import LEAST_PAUSE, LONGEST_PAUSE
from flowli_core.drivers.redis._clients._redis_like import Library


def _retry(times: int) -> Retry:
    backoff = EqualJitterBackoff(base=LEAST_PAUSE, cap=LONGEST_PAUSE) if times else NoBackoff()
    return Retry(backoff, times, supported_errors=(exceptions.ConnectionError,))


def _cluster_retry(times: int) -> dict[str, Any]:
    return {"cluster_error_retry_attempts": times, "connection_error_retry_attempts": 0}


_LIBRARY = Library(
    name="valkey",
    standalone=Valkey,
    cluster=ValkeyCluster,
    cluster_node=ClusterNode,
    pool=ConnectionPool,
    connections={"tcp": Connection, "tls": SSLConnection, "unix": UnixDomainSocketConnection},
    errors=(exceptions.ValkeyError, exceptions.ValkeyClusterException, OSError),
    broken=exceptions.ConnectionError,
    refused=exceptions.ResponseError,
    retry=_retry,
    cluster_retry=_cluster_retry,
)
adopt, from_url = _LIBRARY.adopt, _LIBRARY.from_url
