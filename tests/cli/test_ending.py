"""The end of a command's process: what its jobs leave running does not keep it."""

import signal
import subprocess
import sys
import time

import pytest

from tests.cli.processes import ROOT

PROGRAM = """
import asyncio, concurrent.futures.thread, os, signal, sys, threading, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from flowli_core.cli._common import ending
from flowli_core.cli._common.process import run, set_up_logs

def sleep():
    time.sleep(60)

async def ignore_cancellation():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

def interrupt_twice():
    # The second time, while the interpreter waits for threads.
    ending._END_WITHIN = 60
    os.kill(os.getpid(), signal.SIGINT)
    while not concurrent.futures.thread._shutdown:
        time.sleep(0.01)
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

def keep(work):
    kept.append(asyncio.ensure_future(work))

kept = []

async def main():
    loop = asyncio.get_running_loop()
    {left}
    await asyncio.sleep(0.05)
    return 7

ending._END_WITHIN = 0.05
# A shell starts background processes with SIGINT ignored, and their children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
set_up_logs(level="warning")
try:
    sys.exit(run(main()))
except KeyboardInterrupt:
    sys.exit(130)
"""


def run_program(left: str) -> tuple[int, str]:
    """Run a command that leaves something running, and return its exit code and what it wrote to stderr."""
    started = time.monotonic()
    command = [sys.executable, "-c", PROGRAM.format(left=left)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    assert time.monotonic() - started < 20
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("left", "name"),
    [
        ("keep(asyncio.to_thread(sleep))", "thread asyncio_0 in sleep"),
        ("keep(loop.run_in_executor(None, time.sleep, 60))", "thread asyncio_0"),
        ("keep(loop.run_in_executor(ThreadPoolExecutor(1, 'own'), sleep))", "thread own_0 in sleep"),
        ("threading.Thread(target=sleep, name='mine').start()", "thread mine in sleep"),
        ("keep(loop.run_in_executor(ProcessPoolExecutor(1), time.sleep, 60))", "process "),
    ],
)
def test_a_thread_or_process_that_a_job_leaves_running_is_named_and_does_not_keep_the_command(
    left: str, name: str
) -> None:
    code, text = run_program(left)
    assert (code, f"exiting although these still run: {name}" in text) == (7, True), text


@pytest.mark.parametrize("left", ["keep(ignore_cancellation())", "keep(asyncio.sleep(60))", "pass"])
def test_a_task_that_a_job_leaves_running_does_not_keep_the_command(left: str) -> None:
    assert run_program(left) == (7, "")


def test_a_command_interrupted_during_a_call_in_a_thread_exits() -> None:
    left = "loop.call_later(0.05, os.kill, os.getpid(), signal.SIGINT); await asyncio.to_thread(sleep)"
    code, text = run_program(left)
    assert code == 128 + signal.SIGINT
    assert "thread asyncio_0 in sleep" in text


def test_a_second_interrupt_ends_a_command_that_waits_for_a_thread_at_its_exit() -> None:
    left = "threading.Thread(target=interrupt_twice, daemon=True).start(); await asyncio.to_thread(sleep)"
    code, text = run_program(left)
    assert (code, "thread asyncio_0 in sleep" in text, "Traceback" in text) == (130, True, False), text


def test_a_second_interrupt_ends_a_command_that_waits_for_its_tasks() -> None:
    left = (
        "ending._END_WITHIN = 60; keep(ignore_cancellation()); "
        "[loop.call_later(n, os.kill, os.getpid(), signal.SIGINT) for n in (0.05, 0.1)]; await asyncio.sleep(60)"
    )
    assert run_program(left) == (130, "")


INTERRUPTED_IMPORT = """
import os, signal, sys
from flowli.__main__ import main

signal.signal(signal.SIGINT, signal.default_int_handler)

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv[1:] = ["--version"]
sys.exit(main())
"""


@pytest.mark.parametrize("module", ["pydantic", "flowli_core.cli"])
def test_a_command_that_is_interrupted_while_it_is_loaded_exits_quietly(module: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED_IMPORT.format(module=module)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
