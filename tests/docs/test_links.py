"""The links of the documentation lead somewhere, and its reference is complete."""

from __future__ import annotations

import importlib
import json
import re
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from flowli_core import Jobs
from flowli_core.cli._main import flowli
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.metrics import PrometheusMetrics
from tests.docs.pages import BLOCK, DOCS, PAGES, ROOT, anchors, code

PACKAGES = ("flowli_core", "flowli_fastapi", "flowli_starlette", "flowli_litestar")
DIRECTIVE = re.compile(r"^\.\. (?:auto\w+|py:data):: ([\w.]+)$", re.MULTILINE)
REFERENCE = {name for path in (DOCS / "reference").glob("*.rst") for name in DIRECTIVE.findall(path.read_text())}


@pytest.mark.parametrize("page", PAGES)
def test_each_link_leads_to_a_file_and_a_heading(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", PAGES[page])):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (DOCS / page).parent / path if path else DOCS / page
        if path.startswith("/"):
            file = DOCS / path[1:]
        assert file.is_file() or file.with_suffix(".rst").is_file(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(file.read_text()), f"{page}: {target}"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_has_each_public_name(package: str) -> None:
    assert {f"{package}.{name}" for name in importlib.import_module(package).__all__} <= REFERENCE


def test_each_name_of_the_reference_exists_and_is_documented() -> None:
    for full in REFERENCE:
        module, _, name = full.rpartition(".")
        value: Any = getattr(importlib.import_module(module), name)
        if isinstance(value, type):
            assert value.__doc__, full


@pytest.mark.parametrize("page", PAGES)
def test_each_make_target_exists(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)", code(page)):
        assert re.search(rf"^(?:[\w-]+ )*{target}(?: [\w-]+)*:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES)
def test_each_command_of_flowli_and_each_of_its_options_exists(page: str) -> None:
    for line in re.findall(r"^(?:\$ )?flowli (.+?)(?:  +#.*)?$", code(page), re.MULTILINE):
        command: Any = flowli
        for word in line.split():
            if word in getattr(command, "commands", {}):
                command = command.commands[word]
            elif word.startswith("--"):
                options = [option for parameter in command.params for option in parameter.opts]
                assert word.partition("=")[0] in [*options, "--help", "--version"], f"{page}: flowli {line}"
        assert command is not flowli or line.startswith("--"), f"{page}: flowli {line}"


async def test_the_named_metrics_exist() -> None:
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    async with Jobs[None](context=None, driver=MemoryDriver()) as jobs:
        await metrics.read_store(jobs)
    exported = {f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in registry.collect()}
    assert "flowli_attempts_total" in exported
    page, board = PAGES["how-to/monitoring.md"], (DOCS / "how-to" / "grafana.json").read_text()
    assert exported == set(re.findall(r"`(flowli_[a-z_]+)`", page))
    assert {name.removesuffix("_bucket") for name in re.findall(r"flowli_[a-z_]+", board)} <= exported
    assert json.loads(board)["panels"]
