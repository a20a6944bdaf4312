"""Times and durations are short, and exact beside it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flowli_core.dashboard._texts import show_distance, show_duration, show_time

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ahead", "text"),
    [
        (timedelta(0), "now"),
        (timedelta(seconds=5), "in 5 s"),
        (-timedelta(minutes=3, seconds=2), "3 min 2 s ago"),
        (-timedelta(minutes=43, seconds=27), "43 min ago"),
        (timedelta(hours=10, minutes=8), "in 10 h"),
        (timedelta(days=2, hours=3), "in 2 d 3 h"),
    ],
)
def test_a_time_is_shown_by_its_distance(ahead: timedelta, text: str) -> None:
    shown = show_distance(NOW + ahead, NOW)
    assert f">{text}</time>" in shown
    assert f'title="{NOW + ahead:%Y-%m-%d %H:%M:%S} UTC"' in shown


def test_a_time_is_shown_in_utc() -> None:
    element = '<time datetime="2026-01-01T12:00:00.000+00:00" title="2026-01-01 12:00:00 UTC" data-local>'
    assert show_time(NOW) == f"{element}2026-01-01 12:00:00 UTC</time>"
    assert (show_time(None), show_distance(None, NOW)) == ("", "")


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (None, "-"),
        (timedelta(microseconds=1400), "1 ms"),
        (timedelta(milliseconds=999), "999 ms"),
        (timedelta(milliseconds=1_250), "1.2 s"),
        (timedelta(seconds=75), "1 min 15 s"),
    ],
)
def test_a_measured_duration_is_rounded(duration: timedelta | None, text: str) -> None:
    assert show_duration(duration) == text
