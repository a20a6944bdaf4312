"""Run the benchmarks: `make bench` with QUICK=1, ROUNDS=, ONLY= or SIZE=1."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import datetime as dt
import importlib
import json
import os
import platform
from pathlib import Path

from . import environments, phases, report, size, stores
from .processes import PeerError
from .ratios import Recorded
from .server import Server, started
from .subjects import SUBJECTS, Subject

SIZES = {"full": phases.Sizes(), "quick": phases.QUICK, "tiny": phases.TINY}
COUNTS = {"full": (1_000, 100_000, 1_000_000), "quick": (1_000, 10_000), "tiny": (100, 300)}
BATCHES = {"full": 60, "quick": 20, "tiny": 2}
STORED_JOBS = 20_000
FIRST_ROUND = 0
PHASES: dict[str, phases.Phase] = {
    "throughput": phases.throughput,
    "pair": phases.pair,
    "pickup": phases.pickup,
    "idle": phases.idle,
    "delayed": phases.above_delayed,
}


def chosen(names: str, *, is_quick: bool, run: Recorded) -> list[Subject]:
    """Return the programs to measure, installed. What cannot be installed goes to the failures."""
    wanted = {name.strip() for name in names.split(",")} if names else {subject.name for subject in SUBJECTS}
    found: list[Subject] = []
    for subject in SUBJECTS:
        if subject.name not in wanted or (is_quick and not environments.is_installed(subject)):
            continue
        try:
            if not environments.is_installed(subject):
                print(f"installing {subject.name}", flush=True)
            environments.install(subject)
            run.versions[subject.name] = environments.version(subject)
        except (environments.NotInstalledError, OSError) as error:
            run.failures[subject.name] = str(error)
        else:
            found.append(subject)
    return found


async def measure_round(
    server: Server,
    subjects: list[Subject],
    sizes: phases.Sizes,
    run: Recorded,
    *,
    wanted: list[str],
    is_quick: bool,
) -> None:
    """Measure a round: each phase of all programs in turn. A program that fails is not measured again."""
    number = len(run.rounds)
    found: dict[str, phases.Figures] = {}
    todo = {subject: phases.phases_of(subject, is_first=number == FIRST_ROUND, quick=is_quick) for subject in subjects}
    for name in wanted:
        phase = PHASES[name]
        for subject, its in todo.items():
            if phase not in its or subject.name in run.failures:
                continue
            try:
                figures = await phase(server, subject, sizes.of(subject))
            except PeerError as error:
                run.failures[subject.name] = f"failed in {name}: {error}"
                print(f"{subject.name}: {run.failures[subject.name]}", flush=True)
            else:
                found.setdefault(subject.name, {}).update(figures)
                shown = ", ".join([f"{row} {value:,.2f}" for row, value in figures.items()])
                print(f"round {number + 1}: {subject.name}: {shown}", flush=True)
    run.rounds.append(found)


def about(server: Server, mode: str, rounds: int) -> dict[str, str]:
    """Return what a run was made with."""
    return {
        "on": dt.datetime.now(dt.UTC).date().isoformat(),
        "with": f"{server.version()}, Python {platform.python_version()}",
        "on a machine of": f"{os.cpu_count()} cores ({platform.machine()})",
        "in": f"{rounds} round{'s' * (rounds != 1)} of `make bench{' QUICK=1' * (mode != 'full')}`",
    }


def write(run: Recorded, folder: Path) -> None:
    """Write the report and its pictures."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "benchmarks.md").write_text(report.markdown(run))
    (folder / "benchmarks.svg").write_text(report.picture(run))
    if run.sizes:
        (folder / "benchmarks-size.svg").write_text(size.picture(run.sizes))


async def _measure(server: Server, given: argparse.Namespace) -> Recorded:
    run = Recorded(about=about(server, given.mode, given.rounds))
    sizes = SIZES[given.mode]
    subjects = chosen(given.only, is_quick=given.mode != "full", run=run)
    for _ in range(given.rounds):
        await measure_round(server, subjects, sizes, run, wanted=given.phases, is_quick=given.mode == "quick")
        if given.stores:
            run.stores.append(await stores.measure(dataclasses.replace(sizes, jobs=min(sizes.jobs, STORED_JOBS))))
    if given.size:
        run.sizes = await size.measure(server, counts=COUNTS[given.mode], batches=BATCHES[given.mode])
    return run


def main() -> None:
    """Read the arguments, measure, print, and write the report."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--mode", choices=SIZES, default="full")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", default="")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES))
    parser.add_argument("--size", action="store_true")
    parser.add_argument("--no-stores", dest="stores", action="store_false")
    parser.add_argument("--output", type=Path, default=environments.BENCHMARKS.parent / "docs")
    given = parser.parse_args()
    given.rounds = given.rounds or (5 if given.mode == "full" else 1)
    with started() as server, asyncio.Runner(loop_factory=importlib.import_module("uvloop").new_event_loop) as runner:
        run = runner.run(_measure(server, given))
    print(report.printed(run))
    write(run, given.output)
    environments.ROOT.mkdir(exist_ok=True)
    (environments.ROOT / "last.json").write_text(json.dumps(dataclasses.asdict(run)))


if __name__ == "__main__":
    main()
