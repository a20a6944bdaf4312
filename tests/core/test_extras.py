"""Modules that need an optional package: without it, their import says which extra to install."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("flowli_fastapi", "fastapi", "fastapi"),
        ("flowli_starlette", "starlette", "starlette"),
        ("flowli_litestar", "litestar", "litestar"),
        ("flowli_core.dashboard", "jinja2", "dashboard"),
        ("flowli_core.metrics", "prometheus_client", "metrics"),
        ("flowli_core.tracing", "opentelemetry", "otel"),
    ],
)
def test_an_import_without_its_package_names_the_extra(module: str, package: str, extra: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ModuleNotFoundError: {module} needs ")
    assert last.endswith(f"pip install 'flowli[{extra}]'")
