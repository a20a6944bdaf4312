"""`python -m flowli_core.cli`, where the `flowli` script is not on the path."""

import sys

from flowli_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
