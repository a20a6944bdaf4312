"""`flowli init` writes a service that passes its own tests, type check and lint, and serves. It overwrites nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

from flowli_core.cli import main
from flowli_core.drivers.redis import RedisDriver
from tests.adapters.servers import FRAMEWORKS, PATIENCE, free_port
from tests.redis.server import clean_up, connect, fresh_prefix, shared_url

if TYPE_CHECKING:
    from collections.abc import Generator

ROOT = Path(__file__).parents[2]
FILES = {
    ".gitignore",
    "README.md",
    "app/__init__.py",
    "app/jobs.py",
    "app/main.py",
    "compose.yaml",
    "pyproject.toml",
    "requirements.txt",
    "tests/test_app.py",
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def run(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def served(folder: Path) -> Generator[httpx2.Client]:
    """Serve the application of the folder, and wait until it is ready."""
    port = free_port()
    with (
        (folder / "server.log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "app.main:app", "--port", str(port)], cwd=folder, stdout=log, stderr=log
        ) as server,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, trust_env=False) as client,
    ):
        try:
            while server.poll() is None:
                try:
                    client.get("/healthz")
                    break
                except httpx2.TransportError:
                    time.sleep(0.02)
            yield client
        finally:
            server.terminate()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_new_service_passes_its_own_tests(framework: str, tmp_path: Path) -> None:
    assert main(["init", "--framework", framework]) == 0
    assert files_in(tmp_path) == FILES
    assert "2 passed" in run(tmp_path, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert files_in(tmp_path) == FILES


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_new_service_is_typed_and_formatted(framework: str, tmp_path: Path) -> None:
    pytest.importorskip("ruff")
    pytest.importorskip("mypy")
    assert main(["init", "--framework", framework]) == 0
    run(tmp_path, "-m", "ruff", "check", "--no-cache", ".")
    run(tmp_path, "-m", "ruff", "format", "--no-cache", "--check", ".")
    cache = ROOT / ".mypy_cache" / f"init-{framework}"
    assert run(tmp_path, "-m", "mypy", "--cache-dir", str(cache), ".").startswith("Success")


def check_that_it_runs_a_job(folder: Path) -> None:
    with served(folder) as client:
        response = client.post("/signups", json={"email": "ada@example.com"})
        assert response.status_code == 202
        path = f"/signups/{response.json()['id']}"
        while client.get(path).json()["state"] != "completed":
            time.sleep(0.02)
        assert client.get("/signups/other").status_code == 404
    log = (folder / "server.log").read_text()
    assert "jobs of these queues run in this process: default" in log
    assert "to ada@example.com: Welcome" in log


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_new_service_runs_the_job_of_a_request(framework: str, tmp_path: Path) -> None:
    assert main(["init", "--framework", framework]) == 0
    check_that_it_runs_a_job(tmp_path)
    assert (tmp_path / "jobs.sqlite3").exists()


def test_a_new_service_stores_its_jobs_in_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", shared_url())
    prefix = fresh_prefix()
    assert main(["init", prefix]) == 0
    check_that_it_runs_a_job(tmp_path / prefix)
    assert not (tmp_path / prefix / "jobs.sqlite3").exists()
    with connect(shared_url()) as admin:
        assert admin.keys(f"{{{prefix}}}*")
    clean_up()


def test_the_requirements_name_this_version_and_extras_that_exist(tmp_path: Path) -> None:
    for framework in FRAMEWORKS:
        assert main(["init", "--framework", framework, framework]) == 0
        first = (tmp_path / framework / "requirements.txt").read_text().splitlines()[0]
        assert first == f"flowli[{framework},redis,dashboard]>={version('flowli')}"


def test_the_printed_commands_name_files_and_modules_of_the_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder need not be a name of Python, and is quoted for the shell."""
    assert main(["init", "my shop"]) == 0
    out = capsys.readouterr().out
    assert "A FastAPI service with jobs is in my shop." in out
    assert "  cd 'my shop'\n" in out
    assert "  uvicorn app.main:app " in out
    assert files_in(tmp_path / "my shop") == set(re.findall(r"^  (\S+)$", out, re.MULTILINE)) == FILES
    assert 'prefix="my-shop"' in (tmp_path / "my shop" / "app" / "jobs.py").read_text()


@pytest.mark.parametrize("name", ["...", "füße", "3", "import", "x" * 200, "a'b\"c\\n$name{}"])
def test_any_name_of_a_folder_makes_a_valid_service(name: str, tmp_path: Path) -> None:
    pytest.importorskip("ruff")
    assert main(["init", name]) == 0
    for path in (tmp_path / name).rglob("*.py"):
        compile(path.read_text(), path.name, "exec")
    run(tmp_path / name, "-m", "ruff", "format", "--no-cache", "--check", ".")
    (prefix,) = re.findall(r'prefix="(.*)"', (tmp_path / name / "app" / "jobs.py").read_text())
    RedisDriver.from_url("redis://localhost", prefix=prefix)


@pytest.mark.parametrize("existing", ["compose.yaml", "app/jobs.py", "app.py", ".gitignore"])
def test_no_file_is_overwritten(existing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "shop" / existing
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    assert main(["init", "shop"]) == 1
    assert capsys.readouterr().err == (
        f"flowli: nothing was written, because shop already has {existing}: name a new folder, as in "
        "`flowli init my-service`\n"
    )
    assert files_in(tmp_path) == {f"shop/{existing}"}
    assert file.read_text() == "mine"


def test_a_link_is_not_followed_to_write_a_file(tmp_path: Path) -> None:
    (tmp_path / "README.md").symlink_to(tmp_path / "elsewhere")
    assert main(["init"]) == 1
    assert files_in(tmp_path) == set()


def test_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["init"]) == 0
    assert files_in(tmp_path) == FILES | {"notes.txt"}


@pytest.mark.parametrize(
    ("folder", "code", "reason"),
    [
        ("file", 2, "Invalid value for '[FOLDER]': Directory 'file' is a file"),
        ("file/shop", 1, "nothing was written, because file/shop cannot be made: Not a directory"),
        ("x" * 300, 1, "name too long"),
    ],
)
def test_a_folder_that_cannot_be_written_to_is_reported_in_one_line(
    folder: str, code: int, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["init", folder]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


def test_a_service_that_cannot_be_written_as_a_whole_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder of the tests is a file, so the last file cannot be written."""
    (tmp_path / "tests").write_text("")
    assert main(["init"]) == 1
    assert "nothing was written, because tests cannot be made: File exists" in capsys.readouterr().err
    assert files_in(tmp_path) == {"tests"}


def test_an_unknown_framework_is_reported_with_those_that_exist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "--framework", "django"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'django' is not one of 'fastapi', 'starlette', 'litestar'" in line
    assert files_in(tmp_path) == set()
