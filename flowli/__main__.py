"""The `flowli` script, also `python -m flowli`. If it is interrupted while the command is loaded, it exits quietly.

It is not a part of `flowli_core`, because the import of that package is what may be interrupted.
"""

import os
import signal
import sys

_INTERRUPTED = 130


def main() -> int:
    """Load and run the command line, and return its exit code."""
    # A shell starts background processes with SIGINT ignored; that remains so.
    is_handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_handled:
        # An exception would be raised in the middle of an import, which may print it or go on.
        signal.signal(signal.SIGINT, _exit)
    from flowli_core.cli import main as run_command  # noqa: PLC0415 - see above

    if is_handled:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run_command()


def _exit(_: int, __: object) -> None:
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
