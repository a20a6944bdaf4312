"""The files around the code (CI, hooks, servers, changelog) are valid, and name things that exist."""

import inspect
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from flowli_core._wire.codec import MAX_DEPTH, MAX_PAYLOAD
from flowli_core.cli._dashboard.command import dashboard
from flowli_core.cli._worker.health_server import MAX_CONNECTIONS
from flowli_core.dashboard import Action, Dashboard
from flowli_core.drivers.redis._keys import COLUMNS
from flowli_fastapi import Healthz, jobs_router

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+)(?: [a-z-]+)*:", MAKEFILE, re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def matrices() -> list[Any]:
    jobs = [job for path in WORKFLOWS for job in loaded(path)["jobs"].values()]
    return [job["strategy"]["matrix"] for job in jobs if "strategy" in job]


def test_workflows_and_hooks_run_only_make_targets_that_exist() -> None:
    runs = [
        step["run"]
        for path in WORKFLOWS
        for job in loaded(path)["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    hooks = [hook["entry"] for repo in loaded(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert runs
    assert hooks
    for command in [*runs, *hooks]:
        program, target, *_ = command.split()
        assert program == "make", command
        assert target in TARGETS, command


def test_every_supported_python_is_tested() -> None:
    claimed = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line}
    assert PROJECT["requires-python"] == f">={min(claimed)}"
    for matrix in matrices():
        assert claimed <= set(matrix["python"])


def test_what_publishes_has_no_secret_and_follows_the_check_of_the_package() -> None:
    jobs = loaded(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text()
    assert [name for name, job in jobs.items() if job.get("permissions") == {"id-token": "write"}] == ["publish"]
    assert jobs["publish"]["needs"] == "package"
    assert {"run": "make package"} in jobs["package"]["steps"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_the_forms_of_issues_are_complete(path: Path) -> None:
    form = loaded(path)
    if path.stem != "config":
        assert form["name"]
        assert form["description"]
        assert all(part["attributes"] for part in form["body"])
        ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
        assert len(set(ids)) == len(ids)


def test_the_links_to_the_repository_agree() -> None:
    (source,) = {url for name, url in PROJECT["urls"].items() if name == "Source"}
    assert all(url.startswith(source) for url in PROJECT["urls"].values())


def test_the_servers_of_the_compose_file_are_tested() -> None:
    images = {service["image"] for service in loaded(ROOT / "compose.yaml")["services"].values()}
    assert images <= {image for matrix in matrices() for image in matrix.get("image", [])}


def test_the_changelog_has_entries_under_known_headings() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "\n## Unreleased\n" in text
    assert set(re.findall(r"^### (.*)", text, re.MULTILINE)) <= {"Added", "Changed", "Fixed", "Removed"}


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.md")), ids=lambda path: path.name)
def test_the_links_of_a_document_lead_to_files_and_headings_that_exist(path: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        file, _, heading = link.partition("#")
        if "://" not in link:
            target = ROOT / file if file else path
            assert target.exists(), link
            assert not heading or heading in anchors(target), link


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_security_page_names_options_and_limits_that_exist() -> None:
    """A promise about an option that was renamed misleads those who rely on it."""
    text = (ROOT / "SECURITY.md").read_text()
    for function, *options in (
        (jobs_router, "allow_anonymous", "show_payloads"),
        (Healthz, "errors"),
        (Dashboard, "allow_anonymous", "show_payloads", "read_only"),
    ):
        for option in options:
            assert option in inspect.signature(function).parameters
            assert f"`{option}=True`" in text
    for action in get_args(Action):
        assert f'`"{action}"`' in text
    assert "--allow-remote" in {name for option in dashboard.params for name in option.opts}
    for limit in (f"{MAX_PAYLOAD // 1024} KiB", f"{MAX_DEPTH} levels", f"{MAX_CONNECTIONS} connections"):
        assert limit in text


def test_the_architecture_lists_every_redis_key() -> None:
    first_cells = re.findall(r"^\| (`.*?) \|", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    assert set(COLUMNS) <= set(re.findall(r"`(\w+)`", " ".join(first_cells)))


def test_the_architecture_lists_every_module_of_the_private_packages() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    layout = re.findall(r"^  (\S.*?)(?:    |$)", text.partition("```\n")[2].partition("```")[0], re.MULTILINE)
    assert {path.name for path in (ROOT / "flowli_core").glob("*.py")} <= set(" ".join(layout).split())
    for package, row in re.findall(r"^\| `(_\w+)` \| (.*) \|$", text, re.MULTILINE):
        listed = {name for group in re.findall(r"(?:^|· )([^:]*):", row) for name in re.findall(r"`(\w+)`", group)}
        assert listed == {path.stem for path in (ROOT / "flowli_core" / package).glob("[!_]*.py")}, package
