"""The command line, and the parts of it that an adapter offers under a command of its own.

`flowli` is built with click, which is small, has no dependencies, comes with uvicorn, and brings shell completion.
`import flowli_core` does not import this package.

An adapter makes a click group whose context object is a `RegistryLoader`, and adds the `operations` to it. A
command that runs a worker takes `run_options`, makes `RunOptions` of them, and runs `Worker(...).run()` with `run`.
"""

from flowli_core.cli._common.operation import RegistryLoader
from flowli_core.cli._common.process import run
from flowli_core.cli._main import main, operations
from flowli_core.cli._worker.options import RunOptions, run_options
from flowli_core.cli._worker.serve import Worker

__all__ = [
    "RegistryLoader",
    "RunOptions",
    "Worker",
    "main",
    "operations",
    "run",
    "run_options",
]
