"""Records in the memory of this process: for tests and small apps, and the specification of every other driver.

`_driver` is the contract, method by method, and the page to read; `_store` is where each record is, `_index` how what
comes first is found, `_wakeups` who is told.
"""

from flowli_core.drivers.memory._driver import MemoryDriver

__all__ = ["MemoryDriver"]
