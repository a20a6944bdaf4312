"""The overview names what needs attention, the worst first, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from flowli_core import JobHistory, Overview, QueueCounts, ScheduleRecord, StateCounts
from flowli_core._jobs.history import Durations
from flowli_core._jobs.parked import ParkedJobs
from flowli_core._jobs.workers import WorkerRecord
from flowli_core.dashboard._attention import Situation, find_problems
from flowli_core.diagnosis import Check
from flowli_core.testing import ManualClock
from tests.support.laned import lanes_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WORKER = WorkerRecord(name="host:1", seen=NOW, is_alive=True, queues=("default",), jobs=frozenset({"clean"}))
WELL = Situation(
    overview=Overview(now=NOW), workers=[WORKER], parked=[], schedules=[], jobs={"clean": "default"}, last_hour=[]
)


def waiting(queue: str, count: int = 1, *, since: timedelta = timedelta(0), paused: bool = False) -> Overview:
    """Return an overview with jobs that wait in a queue."""
    return Overview(
        now=NOW,
        counts=QueueCounts.of({queue: StateCounts(queued=count)}),
        oldest={queue: NOW - since},
        paused={queue: NOW - timedelta(minutes=12)} if paused else {},
    )


def history(job: str, *, completed: int, failed: int) -> JobHistory:
    none = Durations()
    return JobHistory(
        job=job,
        queue="default",
        enqueued=0,
        completed=completed,
        failed=failed,
        cancelled=0,
        retried=0,
        recovered=0,
        waits=none,
        runs=none,
    )


def schedule(key: str, *, next_tick: datetime | None, readable: bool = True) -> ScheduleRecord:
    return ScheduleRecord(
        key=key,
        name="clean",
        queue="default",
        next_tick=next_tick,
        last_tick=None,
        last_record_id=None,
        paused=False,
        readable=readable,
    )


def said(situation: Situation) -> list[tuple[str, str]]:
    return [(problem.level, problem.text) for problem in find_problems(situation)]


def test_nothing_needs_attention_while_all_is_well() -> None:
    assert said(WELL) == []


def test_jobs_wait_and_no_worker_is_alive() -> None:
    found = replace(WELL, overview=waiting("default"), workers=[replace(WORKER, is_alive=False)])
    assert said(found) == [
        ("bad", "No worker is alive, so no job runs."),
        ("warning", "Worker host:1 was last seen 0 s ago."),
    ]


def test_an_empty_store_without_a_worker_is_noticed() -> None:
    assert said(replace(WELL, workers=[])) == [("warning", "No worker is alive, so no job runs.")]


def test_a_queue_that_no_worker_serves_is_named_with_its_jobs() -> None:
    assert said(replace(WELL, overview=waiting("bulk", 1_200))) == [
        ("bad", "1,200 jobs wait in the queue bulk, which no worker serves.")
    ]


def test_a_declared_job_that_no_worker_runs_is_named() -> None:
    assert said(replace(WELL, jobs={"send": "default"})) == [
        ("warning", "No worker runs the job send of the queue default.")
    ]


def test_parked_jobs_are_named_with_the_reason() -> None:
    parked = ParkedJobs(name="old_name", reason="this worker knows no job 'old_name'", count=2, oldest=NOW)
    assert said(replace(WELL, parked=[parked])) == [
        ("bad", "2 jobs of old_name cannot run, the oldest for 0 s: this worker knows no job 'old_name'")
    ]


def test_many_failures_need_attention_and_few_are_noted() -> None:
    hour = [history("few", completed=99, failed=1), history("many", completed=9, failed=1)]
    assert said(replace(WELL, last_hour=hour)) == [
        ("warning", "1 of 10 jobs of many failed in the last hour."),
        ("note", "1 of 100 jobs of few failed in the last hour."),
    ]


def test_a_job_that_waits_for_long_is_noticed_unless_its_queue_is_paused() -> None:
    old = timedelta(minutes=6)
    text = "The oldest job of the queue default has waited for 6 min 0 s."
    assert said(replace(WELL, overview=waiting("default", since=old))) == [("warning", text)]
    assert said(replace(WELL, overview=waiting("default", since=old, paused=True))) == [
        ("note", "The queue default has been paused for 12 min 0 s.")
    ]


def test_a_lane_that_could_run_is_named_and_a_blocked_one_is_not() -> None:
    """The value of a lane is not shown: it comes from inputs, which are hidden from some."""
    clock = ManualClock(NOW - timedelta(minutes=3))
    overview = replace(waiting("default"), lanes=lanes_of(clock)[:3], lane_count=3)
    text = "A lane of the limit api in the queue default could have started a job 3 min 0 s ago."
    assert said(replace(WELL, overview=overview)) == [("warning", text)]


def test_a_job_that_waits_for_long_in_a_queue_with_a_blocked_lane_is_only_noted() -> None:
    overview = replace(waiting("default", since=timedelta(hours=2)), lanes=lanes_of(ManualClock(NOW))[:1], lane_count=1)
    text = "The oldest job of the queue default has waited for 2 h 0 min. Lanes of the queue have reached their limits."
    assert said(replace(WELL, overview=overview)) == [("note", text)]


def test_schedules_that_cannot_be_read_or_were_not_fired_are_named() -> None:
    late = schedule("late", next_tick=NOW - timedelta(minutes=3))
    broken = schedule("broken", next_tick=None, readable=False)
    soon = schedule("soon", next_tick=NOW)
    assert said(replace(WELL, schedules=[late, broken, soon])) == [
        ("bad", "The schedule late was due 3 min 0 s ago, and no worker has fired it."),
        ("bad", "The schedule broken cannot be read: it is damaged, or a later release wrote it."),
    ]


def test_many_problems_of_a_kind_are_counted() -> None:
    late = [schedule(f"late{number}", next_tick=NOW - timedelta(minutes=3)) for number in range(8)]
    assert [text for _, text in said(replace(WELL, schedules=late))][5:] == ["and 3 more like this"]


def test_a_store_that_keeps_nothing_needs_attention() -> None:
    lost = Check(name="persistence", value="neither a log nor snapshots", verdict="bad", cure="a restart loses all")
    late = Check(name="clock", value="3 s off", verdict="warning")
    sound = Check(name="memory", value="1 MiB")
    text = "Store, persistence: neither a log nor snapshots; a restart loses all."
    assert said(replace(WELL, checks=[sound, late, lost])) == [("bad", text), ("note", "Store, clock: 3 s off.")]
    assert said(replace(WELL, checks=[lost], is_private=True)) == [("note", text)], "it was chosen for a test"
