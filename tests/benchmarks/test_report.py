"""The figures of a run of the benchmarks, their ratios, and the report."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from benchmarks.bench import phases, report, size
from benchmarks.bench.plot import short
from benchmarks.bench.ratios import GOALS, Goal, Recorded
from benchmarks.bench.subjects import BULLMQ, LOOP, OURS, POP, SUBJECTS

COMMON = {"one": 4_000.0, "flight": 20_000.0, "many": 40_000.0, "p50": 1.0, "p99": 2.0, "idle": 0.4, "bytes": 300.0}


def recorded() -> Recorded:
    """Return three rounds, in which the machine is slow in the second and fails to measure one peer in the third."""
    return Recorded(
        about={"on": "a day"},
        versions={OURS: "1", BULLMQ: "6"},
        rounds=[
            {
                OURS: {**COMMON, "drain": 40_000.0 * speed, "drain by two": 60_000.0 * speed, "server us": 9.0},
                BULLMQ: {**COMMON, "drain": 8_000.0 * speed, "server us": 40.0},
                LOOP: {"drain": 100_000.0 * speed, "one": 5_000.0},
                POP: {"p50": 0.8, "p99": 1.6},
                **({"repid": {"drain": 20_000.0 * speed}} if number < 2 else {}),
            }
            for number, speed in enumerate((1.0, 0.25, 1.5))
        ],
        failures={"saq": "failed in pickup: it said nothing"},
    )


def goal(what: str) -> Goal:
    return next(one for one in GOALS if one.what == what)


def test_a_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    run = Recorded(about={}, rounds=[{OURS: {"drain": a}, "x": {"drain": b}} for a, b in ((9, 3), (1, 1), (8, 2))])
    assert run.ratio("drain", "x") == 3
    assert run.median(OURS, "drain") == 8


def test_a_round_without_a_figure_is_left_out_of_a_ratio() -> None:
    assert recorded().ratio("drain", "repid") == 2
    assert recorded().ratio("drain", "saq") is None
    assert recorded().median("saq", "drain") is None


def test_the_best_peer_is_no_loop_and_has_the_least_time() -> None:
    run = recorded()
    assert run.best_peer("drain") == "repid"
    assert run.best_python_peer("flight") is None
    assert run.best_peer("p50") == BULLMQ
    run.rounds[0]["saq"] = {"server us": 30.0, "drain": 1.0}
    assert run.best_peer("server us") == "saq"


@pytest.mark.parametrize(
    ("what", "expected", "is_met"),
    [
        ("drain, one process, beside BullMQ", 5, True),
        ("drain, one process, beside the ideal loop", 0.4, False),
        ("drain, two processes, beside one", 1.5, False),
        ("server time per drained job, beside BullMQ", 0.225, True),
        ("enqueue one by one, beside one bare script call", 0.8, False),
        ("pickup p50, beside a bare blocking pop", 1.25, False),
        ("commands per second of an idle worker", 0.4, True),
        ("bytes per queued job", 300, True),
    ],
)
def test_goals(what: str, expected: float, is_met: bool) -> None:  # noqa: FBT001
    _, value = goal(what).measured(recorded())
    assert value is not None
    assert value == pytest.approx(expected)
    assert goal(what).is_met(value) is is_met


def test_the_report_says_what_is_not_met_and_what_failed() -> None:
    text = report.markdown(recorded())
    assert "| drain, one process, beside the best in Python (repid) | at least 4.00 | 2.00 | **no** |" in text
    assert "| drain, one process, beside BullMQ | at least 4.00 | 5.00 | yes |" in text
    assert (
        "| server time per drained job above delayed jobs, beside above none | at most 1.10 | - | not measured |"
        in text
    )
    assert "- saq: failed in pickup: it said nothing" in text
    assert "| server us per drained job | 4.44x |" in text
    assert "saq" not in report.absolute(recorded())
    assert "NOT MET" in report.printed(recorded())


def test_the_plots_are_pictures() -> None:
    assert len(ET.fromstring(report.picture(recorded())).findall(".//{*}rect")) > 10  # noqa: S314 - our own
    lines = [
        {"store": "redis", "records": records, "label": label, "enqueue": 1.0, "reserve": 2.0, "settle": records / 1000}
        for records in (1_000, 100_000)
        for label in ("1 queue, no lanes", "1,000 queues, no lanes", "1 queue, 1 lane", "1 queue, 1000 lanes")
    ]
    assert len(ET.fromstring(size.picture(lines)).findall(".//{*}polyline")) == 4  # noqa: S314 - our own
    assert "| redis | 100,000 | 1 queue, 1 lane | 1.0 | 2.0 | 100.0 |" in size.markdown(lines)


def test_percentiles_and_numbers() -> None:
    times = [float(number) for number in range(200)]
    assert (phases.percentile(times, 50), phases.percentile(times, 99), phases.percentile([1.0], 99)) == (100, 198, 1)
    assert [short(value) for value in (0.126, 12.34, 12_345.6)] == ["0.13", "12.3", "12,346"]


def test_each_program_has_an_environment_and_says_what_it_guarantees() -> None:
    assert len({one.name for one in SUBJECTS}) == len(SUBJECTS)
    assert all(one.setting and one.guarantees for one in SUBJECTS)
    slow = phases.Sizes(jobs=800, divide=8).of(next(one for one in SUBJECTS if one.slow))
    assert slow.jobs == 100
