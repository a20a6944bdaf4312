"""The files in dist: their contents, and the wheel in an environment of its own. `make package` runs these tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest

from flowli_core import __version__

pytestmark = pytest.mark.package

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("flowli", "flowli_core", "flowli_fastapi", "flowli_litestar", "flowli_starlette")
WHEEL = ROOT / "dist" / f"flowli-{__version__}-py3-none-any.whl"
SOURCES = ROOT / "dist" / f"flowli-{__version__}.tar.gz"
INFO = f"flowli-{__version__}.dist-info"
LICENSES = {"LICENSE", "flowli_core/dashboard/static/vendor/uPlot.LICENSE"}

OPTIONAL = {
    "aiosqlite",
    "coredis",
    "fastapi",
    "hiredis",
    "jinja2",
    "litestar",
    "opentelemetry-api",
    "prometheus-client",
    "redis",
    "sqlalchemy",
    "starlette",
    "uvicorn",
    "uvloop",
    "valkey",
    "watchfiles",
}
"""The libraries that no one gets without asking for them."""

BROUGHT = {"fastapi": {"starlette", "opentelemetry-api"}, "redis": {"hiredis"}}
"""Those of them that others depend on."""

EXTRAS = {
    "": "",
    "redis": "from flowli_core.drivers.redis import RedisDriver; RedisDriver.from_url('redis://localhost')",
    "valkey": "from flowli_core.drivers.redis import RedisDriver; RedisDriver.from_url('valkey://localhost')",
    "coredis": "import coredis; from flowli_core.drivers.redis import RedisDriver; RedisDriver(coredis.Redis())",
    "starlette": "import flowli_starlette",
    "fastapi": "import flowli_fastapi",
    "litestar": "import flowli_litestar",
    "uvloop": "import uvloop",
    "reload": "import watchfiles",
    "metrics": "from flowli_core.metrics import PrometheusMetrics",
    "otel": "from flowli_core.tracing import OpenTelemetry",
    "dashboard": "import uvicorn; from flowli_core.dashboard import Dashboard",
    "sqlalchemy": "from flowli_core.sqlalchemy import SqlOutbox",
}
"""A program for each extra."""

PROGRAM = """
import asyncio, sys
from flowli_core import Jobs, Runner, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.drivers.sqlite import SqliteDriver

@job(int)
async def double(input: int) -> int:
    return 2 * input

class AppJobs(Jobs[None]):
    double = double

async def main(driver):
    async with AppJobs(context=None, driver=driver) as jobs:
        receipt = await jobs.double.enqueue(21)
        await Runner(jobs).run_once()
        return (await jobs.double.get(receipt)).result

assert asyncio.run(main(MemoryDriver())) == asyncio.run(main(SqliteDriver("jobs.sqlite3"))) == 42
"""


def tracked(*paths: str) -> set[str]:
    """Return the files under version control."""
    git = shutil.which("git")
    assert git is not None
    done = subprocess.run([git, "ls-files", *paths], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


def run(folder: Path, *command: str | Path) -> str:
    """Run a command without what this process has on its path, and return its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install(folder: Path, extra: str) -> Path:
    """Install the wheel with an extra into a new environment, and return its folder of programs."""
    venv.create(folder / ".venv", with_pip=True)
    programs = folder / ".venv" / ("Scripts" if sys.platform == "win32" else "bin")
    target = f"{WHEEL}[{extra}]" if extra else str(WHEEL)
    run(folder, programs / "python", "-m", "pip", "install", "--quiet", target)
    return programs


def test_the_wheel_has_the_files_of_the_packages_and_no_others() -> None:
    """That includes the scripts of Lua and SQL, templates, styles and the markers of types."""
    info = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", *(f"licenses/{path}" for path in LICENSES)}
    names = zipfile.ZipFile(WHEEL).namelist()
    assert len(names) == len(set(names))
    assert set(names) == tracked(*PACKAGES) | {f"{INFO}/{name}" for name in info}
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert {Path(name).suffix for name in names} >= {".lua", ".sql", ".html", ".css", ".js", ".tmpl"}


def test_the_sources_have_all_files_under_version_control_but_pictures() -> None:
    with tarfile.open(SOURCES) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    pictures = {name for name in tracked() if name.startswith("docs/screenshots/")}
    assert names == tracked() - pictures | {"PKG-INFO"}


def test_the_metadata_has_what_an_index_shows() -> None:
    metadata = BytesParser().parsebytes(zipfile.ZipFile(WHEEL).read(f"{INFO}/METADATA"))
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "MIT"
    assert set(metadata.get_all("License-File", [])) == LICENSES
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert {line.partition(",")[0] for line in metadata.get_all("Project-URL", [])} == set(PROJECT["urls"])
    assert metadata["Description-Content-Type"] == "text/markdown"


@pytest.mark.skipif(os.environ.get("GITHUB_REF_TYPE") != "tag", reason="this is no release")
def test_a_release_has_the_version_of_its_tag_and_a_section_in_the_changelog() -> None:
    assert os.environ["GITHUB_REF_NAME"] == f"v{__version__}"
    assert f"\n## {__version__} - 20" in (ROOT / "CHANGELOG.md").read_text()


def test_every_extra_is_installed_here() -> None:
    assert set(EXTRAS) - {""} == set(PROJECT["optional-dependencies"]) - {"all", "dev"}


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_is_enough_by_itself_and_brings_nothing_else(extra: str, tmp_path: Path) -> None:
    programs = install(tmp_path, extra)
    run(tmp_path, programs / "python", "-W", "error", "-c", f"{PROGRAM}\n{EXTRAS[extra]}")
    assert run(tmp_path, programs / "flowli", "--version") == f"flowli {__version__}\n"
    assert run(tmp_path, programs / "python", "-m", "flowli", "--version") == f"flowli {__version__}\n"
    listed = run(tmp_path, programs / "python", "-m", "pip", "list", "--format", "freeze")
    installed = {line.partition("==")[0].lower().replace("_", "-") for line in listed.splitlines()}
    named = {re.split(r"[^\w-]", one)[0] for one in PROJECT["optional-dependencies"].get(extra, [])}
    assert named & OPTIONAL <= installed & OPTIONAL <= named | BROUGHT.get(extra, set())
    run(tmp_path, programs / "python", "-m", "pip", "check")


@pytest.mark.parametrize("framework", ["fastapi", "starlette", "litestar"])
def test_a_new_service_has_the_requirements_that_its_tests_need(framework: str, tmp_path: Path) -> None:
    """The command that makes it needs no extra."""
    programs = install(tmp_path, "")
    run(tmp_path, programs / "flowli", "init", "--framework", framework, "shop")
    folder = tmp_path / "shop"
    # Names the wheel, because the version under test is in no index.
    lines = (folder / "requirements.txt").read_text().splitlines()
    lines[0] = re.sub(r"flowli(\[.*\]).*", rf"{WHEEL}\1", lines[0])
    (tmp_path / "requirements.txt").write_text("\n".join(lines))
    run(tmp_path, programs / "python", "-m", "pip", "install", "--quiet", "--requirement", "requirements.txt")
    assert "2 passed" in run(folder, programs / "pytest", "-W", "error", "-q")
    (folder / "seen.py").write_text("from app.main import app\n")
    run(folder, programs / "python", "-W", "error", "seen.py")
