"""Wrong usage is reported in one line, with the right exit code and without a traceback of our own code."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from flowli_core.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP = """
from flowli_core import Jobs, job
from flowli_core.drivers.memory import MemoryDriver

@job(int)
async def double(input: int) -> int:
    return 2 * input

class AppJobs(Jobs[None]):
    double = double

jobs = AppJobs(context=None, driver=MemoryDriver())
without_driver = AppJobs(context=None)

def make():
    return jobs

number = 3

async def make_later():
    return jobs

def make_nothing():
    return None
"""


@pytest.fixture(autouse=True)
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "home.py").write_text(APP)
    (tmp_path / "broken.py").write_text("import nonesuch\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("home", "broken"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("worker nowhere:jobs", 2, "there is no module 'nowhere': looked for nowhere.py in"),
        ("worker hoome:jobs", 2, "did you mean home?"),
        ("worker home.py:jobs", 2, "did you mean home:jobs?"),
        ("worker src/home.py", 2, "did you mean src.home:jobs?"),
        ("worker home:jbos", 2, "module 'home' has no 'jbos'; did you mean home:jobs?"),
        ("worker home:nothing", 2, "its registries are jobs, without_driver"),
        ("worker home:double", 2, "'home:double' is a Job, not a Jobs(...); did you mean home:jobs?"),
        ("worker home:number", 2, "'home:number' is an int, not a Jobs(...); did you mean home:jobs?"),
        ("worker home:make_later --factory", 2, "'home:make_later' is an async function; a factory must be a plain"),
        ("worker home:AppJobs", 2, "is the class AppJobs; name an instance"),
        ("worker home:make", 2, "add --factory"),
        ("worker home:jobs --factory", 2, "omit --factory"),
        ("worker home:make_nothing --factory", 2, "returned a NoneType, not a Jobs(...)"),
        ("worker :", 2, "must be module:attribute"),
        ("worker \x1b[31m", 2, "\\x1b[31m"),
        ("worker", 2, "name the registry: "),
        ("worker home:without_driver", 1, "this registry has no driver"),
        ("worker home:jobs --app-dir nowhere", 2, "'nowhere' is not a directory"),
        ("worker home:jobs --concurrency 0", 2, "concurrency must be a whole number from 1"),
        ("worker home:jobs --workers 0", 2, "0 is not in the range"),
        ("worker home:jobs --lease 5", 2, "lease is not a duration"),
        ("worker home:jobs --lease 5", 2, 'did you mean "5s"?'),
        ("worker home:jobs --lease 1ms", 2, "lease must be from 1s to 24h, got 1ms"),
        ("worker home:jobs --lease 10ms", 2, "lease must be from 1s to 24h"),
        ("worker home:jobs --drain soon", 2, "drain is not a duration"),
        ("worker home:jobs --queues a*b", 2, "name of a queue may have letters"),
        ("worker home:jobs --queues mail=3,bulk", 2, "give a whole number as weight to each queue"),
        ("worker home:jobs --queues mail=x", 2, "give a whole number as weight to each queue"),
        ("worker home:jobs --queues mail=1,mail=2", 2, "give each queue one weight"),
        ("worker home:jobs --queues =3", 2, "name of a queue must not be empty"),
        ("worker home:jobs --queues mail=101", 2, "the weight of mail must be"),
        ("worker home:jobs --log-format xml", 2, "'xml' is not one of"),
        ("worker home:jobs --nonsense", 2, "No such option"),
        ("wroker", 2, "Did you mean 'worker'?"),
    ],
)
def test_wrong_usage_is_reported_in_one_line(
    words: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split(" ")) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert message in lines[0]


def test_the_traceback_of_a_module_that_fails_has_no_frames_of_our_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worker", "broken:jobs"]) == 2
    text = capsys.readouterr().err
    assert "No module named 'nonesuch'" in text
    assert "flowli_core" not in text
    assert text.splitlines()[-1] == "flowli: importing 'broken' failed with ModuleNotFoundError, see above"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "1",
        "1:",
        "1:3",
        "1:x:3",
        "1:1:3",
        "1:3:0",
        "1:3:4:5",
        "-1:7:8",
        "1:99999:3",
        "1:3:" + "9" * 5000,
        "1:3:\u0663",
    ],
)
def test_a_malformed_link_to_a_parent_is_reported_in_one_line(
    value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWLI_WORKER_READY", value)
    assert main(["worker", "home:jobs"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("flowli: FLOWLI_WORKER_READY is set by `flowli worker` for its own processes only")


def test_the_traceback_of_a_module_hides_the_password_of_a_url(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, password in enumerate(("hunter2#x", "hunter2/x", "hunter2 x", "hunter2@x")):
        source = f"RedisDriver.from_url('redis://:{password}@db:port')"
        (tmp_path / f"unsafe{number}.py").write_text(f"from flowli_core.drivers.redis import RedisDriver\n{source}\n")
        assert main(["worker", f"unsafe{number}:jobs"]) == 2
        text = capsys.readouterr().err
        assert "DefinitionError: url " in text
        assert "hunter2" not in text
        assert "://...@db:port" in text


def test_jobs_that_no_other_process_would_see_are_stored_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    for words in (["enqueue", "double", "2", "--app", "home:jobs"], ["worker", "home:jobs", "--burst"]):
        sys.modules.pop("home", None)
        caplog.clear()
        assert main(words) == 0
        message = "MemoryDriver() keeps jobs in the memory of this process: other processes do not see them"
        assert message in [line.getMessage() for line in caplog.records]


def test_enqueue_does_not_wait_for_a_job_that_no_worker_can_see(capsys: pytest.CaptureFixture[str]) -> None:
    sys.modules.pop("home", None)
    assert main(["enqueue", "double", "2", "--wait", "--app", "home:jobs"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "no worker sees the jobs of MemoryDriver(), so --wait would not end; `flowli run double`" in err


def test_doctor_calls_a_store_that_keeps_nothing_bad(capsys: pytest.CaptureFixture[str]) -> None:
    sys.modules.pop("home", None)
    assert main(["doctor", "home:jobs"]) == 1
    assert "bad\tpersistence\tthe memory of this process\t" in capsys.readouterr().out


def test_ctrl_c_while_the_application_is_imported_prints_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "slow.py").write_text("raise KeyboardInterrupt\n")
    for words in (["worker", "slow:jobs"], ["status", "slow:jobs"]):
        assert main(words) == 130
        assert "Traceback" not in capsys.readouterr().err


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"flowli {version('flowli')}\n"


def test_without_a_command_the_usage_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Usage: flowli" in capsys.readouterr().err
