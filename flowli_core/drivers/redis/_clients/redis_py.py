"""The names of redis-py: `Redis`, also from `Sentinel.master_for`, and `RedisCluster`, all of `redis.asyncio`."""

from __future__ import annotations

from typing import Any

from redis import exceptions
from redis.asyncio import Connection, ConnectionPool, Redis, RedisCluster, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff

from flowli_core.drivers.redis._clients._limits import LEAST_PAUSE, LONGEST_PAUSE
from flowli_core.drivers.redis._clients._redis_like import Library


def _retry(times: int) -> Retry:
    backoff = ExponentialWithJitterBackoff(base=LEAST_PAUSE, cap=LONGEST_PAUSE) if times else NoBackoff()
    return Retry(backoff, times, supported_errors=(exceptions.ConnectionError,))


def _cluster_retry(times: int) -> dict[str, Any]:
    return {"retry": _retry(times)}


_LIBRARY = Library(
    name="redis",
    standalone=Redis,
    cluster=RedisCluster,
    cluster_node=ClusterNode,
    pool=ConnectionPool,
    connections={"tcp": Connection, "tls": SSLConnection, "unix": UnixDomainSocketConnection},
    errors=(exceptions.RedisError, exceptions.RedisClusterException, OSError),
    broken=exceptions.ConnectionError,
    refused=exceptions.ResponseError,
    retry=_retry,
    cluster_retry=_cluster_retry,
)
adopt, from_url = _LIBRARY.adopt, _LIBRARY.from_url
