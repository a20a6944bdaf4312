"""Databases for the tests of the outbox: a SQLite file, and servers of PostgreSQL and MariaDB if they are installed."""

from __future__ import annotations

import atexit
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

PATIENCE = 60.0

_numbers = itertools.count(1)


class DatabaseServer:
    """A server process on a free port of this machine, in a folder of its own. It ends with the tests, or by `stop`.

    The servers refuse to run as root, so they then run as the user `nobody`.
    """

    def __init__(self, initialize: list[str], start: list[str], *, url: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="flowli-database-"))
        self._user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self._start = start
        port = _free_port()
        self._places = {"data": str(self.folder / "data"), "folder": str(self.folder), "port": str(port)}
        self.url = url.format(**self._places)
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody")
        self._process = self._run(initialize)
        assert self._process.wait(PATIENCE) == 0, self.log()
        self.start()
        atexit.register(self.end)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = self._run(self._start)
        end = time.monotonic() + PATIENCE
        while True:
            assert self._process.poll() is None, self.log()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(self._places["port"]))) == 0 and self._answers():
                    return
            assert time.monotonic() < end, self.log()
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Kill it, and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        """Return what it has written."""
        return (self.folder / "log").read_text(errors="replace")

    def new_database(self) -> str:
        """Make an empty database. Return its address, without the name of a driver."""
        name = f"test_{next(_numbers)}"
        engine = create_engine(self._driver_url(), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url.rpartition("/")[0] + f"/{name}"

    def _answers(self) -> bool:
        engine = create_engine(self._driver_url())
        try:
            with engine.connect():
                return True
        except Exception:
            return False
        finally:
            engine.dispose()

    def _driver_url(self) -> str:
        return self.url.replace("postgresql:", "postgresql+psycopg:").replace("mysql:", "mysql+pymysql:")

    def _run(self, words: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [word.format(**self._places, user=self._user) for word in words],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=self._user if os.geteuid() == 0 else None,
                extra_groups=[] if os.geteuid() == 0 else None,
            )


@cache
def postgres() -> DatabaseServer:
    """Return the PostgreSQL of all tests. Skips the test if none is installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb", path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, folders)]))
    if found is None:
        pytest.skip("PostgreSQL is not installed: there is no initdb")
    programs = Path(found).resolve().parent
    return DatabaseServer(
        [str(programs / "initdb"), "-D", "{data}", "-A", "trust", "-U", "flowli", "--no-sync"],
        [
            *(str(programs / "postgres"), "-D", "{data}", "-p", "{port}", "-k", "{folder}", "-F"),
            *("-c", "listen_addresses=127.0.0.1", "-c", "max_prepared_transactions=4"),
        ],
        url="postgresql://flowli@127.0.0.1:{port}/postgres",
    )


@cache
def mariadb() -> DatabaseServer:
    """Return the MariaDB of all tests. Skips the test if none is installed."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    server, install = shutil.which("mariadbd", path=path), shutil.which("mariadb-install-db", path=path)
    if server is None or install is None:
        pytest.skip("MariaDB is not installed: there is no mariadbd")
    return DatabaseServer(
        [install, "--no-defaults", "--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db"],
        [
            server,
            "--no-defaults",
            "--datadir={data}",
            "--port={port}",
            "--socket={folder}/socket",
            "--bind-address=127.0.0.1",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-flush-method=nosync",
            "--innodb-doublewrite=0",
            "--innodb-buffer-pool-size=32M",
        ],
        url="mysql://root@127.0.0.1:{port}/mysql",
    )


DATABASES = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql-asyncpg": "postgresql+asyncpg",
    "postgresql-psycopg": "postgresql+psycopg",
    "mariadb": "mysql+aiomysql",
}
"""The driver of SQLAlchemy for each database, by the name of the test's parameter."""


def new_database(kind: str, folder: Path) -> str:
    """Make an empty database, and return its address for an AsyncEngine. Skips the test if its server is missing."""
    if kind == "sqlite":
        return f"sqlite+aiosqlite:///{folder / 'application.db'}"
    url = (mariadb() if kind == "mariadb" else postgres()).new_database()
    return f"{DATABASES[kind]}:{url.partition(':')[2]}"


@cache
def shared_database(kind: str) -> str:
    """Make the database that the tests of a server share, and return its address. SQLite has none."""
    return new_database(kind, Path())


def for_plain_code(url: str) -> str:
    """Return the address for an Engine."""
    return url.replace("+aiosqlite", "").replace("+asyncpg", "+psycopg").replace("+aiomysql", "+pymysql")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
