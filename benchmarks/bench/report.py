"""The report of a run: tables in Markdown with ratios first, and the plot beside it."""

from __future__ import annotations

from collections.abc import Sequence

from . import plot, size
from .ratios import GOALS, LESS_IS_BETTER, NOT_PEERS, Recorded
from .subjects import BARE_LOOP, LOOP, OURS, SUBJECTS

ROWS = {
    "drain": "drain, 1 process, jobs/s",
    "drain by two": "drain, 2 processes, jobs/s",
    "server us": "server us per drained job",
    "worker us": "worker us per drained job",
    "one": "enqueue one by one, jobs/s",
    "one server us": "server us per single enqueue",
    "one client us": "client us per single enqueue",
    "flight": "enqueue, 100 in flight, jobs/s",
    "many": "enqueue many, jobs/s",
    "p50": "pickup p50, ms",
    "p99": "pickup p99, ms",
    "idle": "idle, commands/s",
    "bytes": "bytes per queued job",
}
METHOD = """\
One command measures everything in one run, against one server which it starts on a free port, without persistence:

    make bench                    # installs the peers that are missing, in .bench; ROUNDS=5
    make bench QUICK=1            # the peers that are installed, one round
    make bench SIZE=1             # the cost with size as well
    make bench ONLY="Flowli"      # some programs, by name, separated by commas

Each program runs in processes and in an environment of its own, with the newest versions that pip and npm install. A
round measures all programs in turn, row by row, so a busy minute of the machine harms all of them. A ratio is that of
two figures of the same round, and the tables show the median of the rounds. Compare ratios: the absolute figures are
those of one machine on one day.

- Flowli, BullMQ, ardiq and repid were tried with 100, 200 and 400 jobs at a time, and run with the number that drained
  fastest.
- The job does nothing. Its payload is four strings, about a hundred bytes of JSON. Flowli's jobs have a context and a
  payload that pydantic validates when it is enqueued and when it is run.
- A drain is measured from the first to the last execution, as the handlers themselves see them, after the worker has
  started and imported everything. It counts only if the handlers ran exactly as many jobs as were stored, which also
  proves that each enqueue stored what it claims.
- The server's time is the CPU that Redis counts for itself, from the start of the worker until the queue is empty.
  The worker's time is the CPU of its process meanwhile. Neither depends on what else the machine does.
- A single enqueue is awaited before the next one. Its times on the server and in the client are CPU, too.
- A pickup runs from just before the call that enqueues to the first line of the handler, in another process, which
  waits. A job is enqueued every 20 ms.
- An idle worker is watched with MONITOR, which shows the commands that come from clients.
- The memory of a queued job is what the server has allocated more than when it was empty, after all enqueues and
  without clients, for each job.
- The loops are hand-written: they do the least that a queue on Redis must do, and have no names, retries, recovery or
  wake-ups. The bare pop is one BZPOPMIN after the other, and loses what it has popped if it dies."""


TIME = """\
Why some goals are hard to reach, and what it would cost. Shares are from profiles of 2026-12-01 (cProfile for the
client, callgrind for Valkey 9.1), and say more than a clock does.

- **Drain by one process.** The worker's core is the limit: the store works meanwhile. Of its time, 41 % runs the jobs
  (a task for each, the input validated, the handler called, its result packed), 23 % starts them (lease, timeout,
  hooks), 12 % reads the replies and 10 % packs and sends the steps. The tasks stay, because context variables,
  cancellation and timeouts need one for each job. More would take compiled code for an attempt, or fewer guarantees.
- **Drain by two processes.** Two workers and the server want three cores. A job costs the workers and the server
  together 26 to 30 microseconds, so two cores can do at most a third more than one worker does there. With a core for
  each, the server is the limit, at 1.45 times one worker, as the simulation in
  [Scaling](explanation/scaling.md) shows.
- **Server time for a drained job.** About 80,000 instructions. 28 % are the commands themselves, about 20 columns and
  indexes that are read or changed for each job; the rest is Lua: arguments and replies are converted, strings made,
  garbage collected. More would take fewer columns, and so fewer guarantees or answers, or a module for the server.
- **Enqueue one by one.** In the client, 18 % validates the input and proves that it survives the way through JSON,
  and a third writes to the socket and reads from it. On the server the script takes 175,000 instructions and the bare
  one 46,000, because ours checks id, key, shape and pause, counts, keeps the history and wakes a worker. Redis
  Functions would save 11 % of that: see ARCHITECTURE.md.
- **100 in flight.** The client is the limit: 25 microseconds for each job, of which a third makes the record, and a
  third packs it, sends it and reads the reply for the whole batch. Twice as fast would take a validator of our own.
- **Pickup.** Median of 0.72 ms: 0.19 until the client writes, 0.33 in the server (the enqueue, and the step that was
  sent with the wait and runs as soon as it ends), 0.20 in the worker until the handler runs. After 20 ms of sleep all
  three run with cold caches, which doubles them. The bare pop has one command each way, and nothing to validate.
- **Above a million delayed jobs.** The work is the same. The hash and the sorted set no longer fit into the caches:
  the server takes 1.1 times as long above 100,000 records, 1.2 times above 700,000, and 1.4 to 1.5 times above a
  million."""

ENOUGH_ROUNDS = 3


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(["| " + " | ".join(line) + " |" for line in lines])


def _number(value: float | None) -> str:
    return "-" if value is None else plot.short(value)


def goals(run: Recorded) -> str:
    """Return the table of ratios that Flowli wants to reach."""
    rows: list[list[str]] = []
    for goal in GOALS:
        name, value = goal.measured(run)
        wanted = f"{'at most' if goal.at_most else 'at least'} {plot.short(goal.bound)}"
        met = "not measured" if value is None else "yes" if goal.is_met(value) else "**no**"
        rows.append([goal.what + (f" ({name})" if "best" in goal.what and name else ""), wanted, _number(value), met])
    return table(["what", "goal", "measured", "met"], rows)


def relative(run: Recorded) -> str:
    """Return the table of how many times Flowli is as good as each program."""
    names = [name for name in run.names() if name != OURS]
    rows: list[list[str]] = []
    for row, title in ROWS.items():
        cells: list[str] = []
        for name in names:
            ratio = run.ratio(row, name)
            better = None if not ratio else 1 / ratio if row in LESS_IS_BETTER else ratio
            cells.append("-" if better is None else f"{better:.2f}x")
        rows.append([title.split(", jobs")[0], *cells])
    return table(["Flowli is better by", *names], rows)


def absolute(run: Recorded) -> str:
    """Return the table of medians."""
    names = run.names()
    rows = [[title, *[_number(run.median(name, row)) for name in names]] for row, title in ROWS.items()]
    return table(["", *names], rows)


def fairness(run: Recorded) -> str:
    """Return the table of versions, settings and guarantees."""
    return table(
        ["", "version", "setting", "guarantees"],
        [
            [one.name, run.versions.get(one.name, "not installed"), one.setting, one.guarantees]
            for one in SUBJECTS
            if one.name in run.versions or one.name in run.failures
        ],
    )


def markdown(run: Recorded) -> str:
    """Return the whole report."""
    about = ", ".join([f"{name} {value}" for name, value in run.about.items()])
    parts = ["# Benchmarks", f"Measured: {about}.", *_warning(run), goals(run), "![Bars for each row](benchmarks.svg)"]
    parts += ["## Ratios", relative(run), "## Figures, of this machine and day only", absolute(run)]
    if run.failures:
        parts += ["## Not measured", *[f"- {name}: {why}" for name, why in run.failures.items()]]
    if run.stores:
        parts += ["## Memory and SQLite", _stores(run)]
    if run.sizes:
        parts += ["## Cost with size", size.EXPLANATION, "![Lines for each store](benchmarks-size.svg)"]
        parts += [size.markdown(run.sizes)]
    parts += ["## Where the time goes", TIME, "## Method", METHOD, "## What ran, and what it guarantees", fairness(run)]
    return "\n\n".join(parts) + "\n"


def _warning(run: Recorded) -> list[str]:
    if len(run.rounds) >= ENOUGH_ROUNDS:
        return []
    return ["**This was a quick run, so its ratios are rough.** A full one takes the medians of at least three rounds."]


def _stores(run: Recorded) -> str:
    stores = Recorded(about={}, rounds=run.stores)
    rows = [
        [
            name,
            *[_number(stores.median(name, row)) for row in ("one", "many", "drain")],
            _number(stores.ratio("drain", "no store", own=name)),
        ]
        for name in stores.names()
    ]
    note = "Jobs per second with one process. `no store` validates an input, creates a task and awaits it."
    return note + "\n\n" + table(["", "enqueue one by one", "enqueue many", "drain", "drain / no store"], rows)


def picture(run: Recorded) -> str:
    """Return the plot of the rows."""
    panels: list[plot.Panel] = []
    for row, title in ROWS.items():
        medians = {name: value for name in run.names() if (value := run.median(name, row)) is not None}
        ordered = sorted(medians, key=lambda name: medians[name], reverse=row not in LESS_IS_BETTER)
        found = [plot.Bar(name, medians[name], _color(name)) for name in ordered]
        if found:
            panels.append(plot.Panel(f"{title} ({'less' if row in LESS_IS_BETTER else 'more'} is better)", found))
    return plot.bars(panels)


def _color(name: str) -> str:
    if name == OURS:
        return plot.OWN
    return plot.LOOP if name in NOT_PEERS or name in {LOOP, BARE_LOOP} else plot.OTHER


def printed(run: Recorded) -> str:
    """Return what the terminal shows: the goals, and the medians of each program."""
    lines = [f"{'':62} {'goal':>14} {'measured':>9}"]
    for goal in GOALS:
        name, value = goal.measured(run)
        sign = "<=" if goal.at_most else ">="
        met = "" if value is None else "  met" if goal.is_met(value) else "  NOT MET"
        what = goal.what + (f" ({name})" if "best" in goal.what and name else "")
        lines.append(f"{what:62} {sign + ' ' + plot.short(goal.bound):>14} {_number(value):>9}{met}")
    lines.append("")
    lines.append(f"{'':20}" + "".join([f"{row:>14}" for row in ROWS]))
    lines += [f"{name:20}" + "".join([f"{_number(run.median(name, row)):>14}" for row in ROWS]) for name in run.names()]
    lines += [f"{name}: {why}" for name, why in run.failures.items()]
    return "\n".join(lines)
