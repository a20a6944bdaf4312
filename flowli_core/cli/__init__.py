"""The command line: `flowli worker app.jobs:jobs`."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import signal
import sys
import traceback
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from flowli_core import FlowliError, Jobs, Runner
from flowli_core.durations import ZERO, duration
from flowli_core.registry import is_registry

if TYPE_CHECKING:
    from datetime import timedelta

logger = logging.getLogger("flowli")

_USAGE_ERROR = 2


def main(argv: list[str] | None = None) -> int:
    """Run the command line; answer its exit code: 0 for a stop as asked, 1 for an error of ours, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="flowli", description="Typed background jobs.")
    parser.add_argument("--version", action="version", version=f"flowli {version('flowli')}")
    commands = parser.add_subparsers(dest="command", required=True)
    worker = commands.add_parser("worker", help="run the jobs of a registry until SIGTERM or SIGINT")
    worker.add_argument("target", help="where the registry is: module:attribute")
    worker.add_argument("-c", "--concurrency", type=int, default=10, help="how many jobs at a time (10)")
    worker.add_argument("-q", "--queues", help="queues to serve, in order, separated by commas (those of the jobs)")
    worker.add_argument("--lease", default="30s", help="how soon the jobs of a dead worker are found (30s)")
    worker.add_argument("--drain", default="10s", help="how long running jobs may go on after a signal (10s)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        return _worker(arguments)
    except FlowliError as error:
        print(f"flowli: {error}", file=sys.stderr)  # noqa: T201 - a command speaks to its user
        return 1


def _worker(arguments: argparse.Namespace) -> int:
    try:
        jobs = _load(arguments.target)
    except _TargetError as error:
        print(f"flowli: {error}", file=sys.stderr)  # noqa: T201 - a command speaks to its user
        return _USAGE_ERROR
    except Exception:  # noqa: BLE001 - whatever a user's module raises, with its traceback
        traceback.print_exc()
        print(f"flowli: importing {arguments.target!r} failed, see above", file=sys.stderr)  # noqa: T201
        return _USAGE_ERROR
    queues = arguments.queues.split(",") if arguments.queues else None
    runner = Runner(jobs, concurrency=arguments.concurrency, queues=queues, lease=arguments.lease)
    drain = duration(arguments.drain, argument="drain", zero=True)
    served = ", ".join(runner.queues)
    logger.info("the worker starts: %s, queues %s, concurrency %d", arguments.target, served, arguments.concurrency)
    asyncio.run(_run(jobs, runner, drain=drain))
    logger.info("the worker has stopped")
    return 0


async def _run(jobs: Jobs[Any], runner: Runner, *, drain: timedelta) -> None:
    loop = asyncio.get_running_loop()
    stops: set[asyncio.Task[None]] = set()

    def stop() -> None:
        # A second signal waits no longer for what runs.
        task = loop.create_task(runner.stop(drain=ZERO if stops else drain))
        stops.add(task)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        # Not inside of `async with jobs`: run() opens it, with patience for the store and an ear for signals.
        await runner.run()
    finally:
        await jobs.aclose()
    if stops:
        await asyncio.wait(stops)


class _TargetError(Exception):
    pass


def _missing(target: str, error: Exception) -> _TargetError:
    return _TargetError(f"no registry at {target!r} (module:attribute, from the current directory): {error}")


def _load(target: str) -> Jobs[Any]:
    module_name, _, attribute = target.partition(":")
    sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module_name)
    except (ModuleNotFoundError, ValueError, TypeError) as error:
        if isinstance(error, ModuleNotFoundError) and not module_name.startswith(error.name or "\0"):
            raise  # Of something that the module itself imports.
        raise _missing(target, error) from error
    try:
        for name in (attribute or "jobs").split("."):
            found = getattr(found, name)
    except AttributeError as error:
        raise _missing(target, error) from error
    if not is_registry(found):
        msg = f"{target!r} is a {type(found).__name__}, not a Jobs(...)"
        raise _TargetError(msg)
    return found
