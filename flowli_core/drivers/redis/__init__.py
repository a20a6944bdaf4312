"""The Redis driver: `RedisDriver(client, prefix="app")` or `RedisDriver.from_url(url, prefix="app")`."""

from flowli_core.drivers.redis._audit import Finding
from flowli_core.drivers.redis._driver import RedisDriver

__all__ = ["Finding", "RedisDriver"]
