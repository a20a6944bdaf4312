"""The command line: `flowli worker app.jobs:jobs`, and what one types to see and to steer what runs.

Made with click: it is small, has no dependency of its own, comes with every uvicorn, and brings completion for shells.
`import flowli_core` imports nothing of it.
"""

from __future__ import annotations

from flowli_core.cli._main import main

__all__ = ["main"]
