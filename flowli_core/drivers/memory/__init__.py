"""Records in the memory of this process: for tests and small apps, and the specification of every other driver.

Read it beside flowli_core/driver.py: `_driver` has the methods of the contract, `_step` the stages of a step, and
`_store` the states of a record.
"""

from flowli_core.drivers.memory._driver import MemoryDriver

__all__ = ["MemoryDriver"]
