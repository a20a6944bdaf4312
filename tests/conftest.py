"""The app that sends mail, over a store whose time stands still."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import ManualClock
from tests.support import figures
from tests.support.counting import CountingDriver
from tests.support.mailing import START, AppJobs, ran

if TYPE_CHECKING:
    from collections.abc import Generator

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background processes with SIGINT ignored, and the commands that tests interrupt would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("short", deadline=None)
examples = os.environ.get("FLOWLI_FUZZ_EXAMPLES")
if examples is not None:
    settings.register_profile("long", deadline=None, max_examples=int(examples))
settings.load_profile("short" if examples is None else "long")


_exit_codes: list[int] = []


@atexit.register
def leave() -> None:
    """Leave the process before the interpreter takes down its modules: pydantic_core crashes there after all tests.

    Registered before all other functions of the tests, so it is called after them: they stop servers.
    """
    if _exit_codes:
        if (coverage := sys.modules.get("coverage")) and (measured := coverage.Coverage.current()):
            # In a process of pytest-xdist it would be saved after this.
            measured.stop()
            measured.save()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_exit_codes[-1])


def pytest_sessionfinish(exitstatus: int) -> None:
    """Note the exit code of the tests."""
    _exit_codes.append(int(exitstatus))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape lone surrogates in what a test has logged: the process that shows the reports could not read them."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures of the long tests."""
    if figures.lines:
        terminalreporter.section("figures")
        for line in figures.lines:
            terminalreporter.write_line(line)


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the store."""
    return ManualClock(START)


@pytest.fixture
def driver(clock: ManualClock) -> CountingDriver:
    """The store, which nothing was done to yet."""
    ran.clear()
    return CountingDriver(MemoryDriver(clock=clock))


@pytest.fixture
def jobs(driver: CountingDriver) -> AppJobs:
    """The app."""
    return AppJobs(context=None, driver=driver)
