"""A guide to the packages of Flowli, for those who try `import flowli`. It has no names but `__version__`.

    from flowli_core import Jobs, Runner, job
    from flowli_core.drivers.sqlite import SqliteDriver    # or memory, redis
    from flowli_fastapi import get_jobs, jobs_lifespan     # or flowli_starlette, flowli_litestar

`python -m flowli` is the same as the command `flowli`.
"""

from typing import TYPE_CHECKING

__all__ = ["__version__"]

__version__: str

# Type checkers report the names that are not here themselves.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Return the version, and say where a name of the core is."""
        # Importing the core takes a while, and the command handles Ctrl-C before that.
        if name == "__version__" or not name.startswith("_"):
            import flowli_core  # noqa: PLC0415

            if name == "__version__":
                return flowli_core.__version__
            if name in flowli_core.__all__:
                raise ImportError(f"{name} is in flowli_core: from flowli_core import {name}")
        raise AttributeError(f"module 'flowli' has no attribute {name!r}")
