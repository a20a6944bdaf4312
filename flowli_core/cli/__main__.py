"""`python -m flowli_core.cli`: the same as the `flowli` script, if that is not on the path."""

import sys

from flowli_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
