"""Common rules of schedules are put into words; others are left to their expression."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flowli_core.dashboard._recurrence import describe_cron, describe_interval


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/15 * * * *", "every 15 minutes"),
        ("5 * * * *", "every hour at :05"),
        ("0 */6 * * *", "every 6 hours at :00"),
        ("30 7 * * *", "every day at 07:30"),
        ("30 7 * * mon-fri", "Monday to Friday at 07:30"),
        ("30 7 * * 1-5", "Monday to Friday at 07:30"),
        ("0 9 * * 7", "every Sunday at 09:00"),
        ("*/10 * * * SUN", "every 10 minutes, every Sunday"),
        ("0 3 1 * *", "on day 1 of each month at 03:00"),
        ("0 3 L * *", "on the last day of each month at 03:00"),
        ("@hourly", "every hour"),
        ("@daily", "every day at 00:00"),
        ("*/7 * * * *", ""),
        ("0 */5 * * *", ""),
        ("0,30 8 * * *", ""),
        ("0 8 1 1 *", ""),
        ("0 8 1 * mon", ""),
        ("0 8 * * fri#2", ""),
        ("0 8 * * mon,tue", ""),
        ("0 8 1-7 * *", ""),
        ("", ""),
    ],
)
def test_a_cron_expression_is_put_into_words_if_it_is_common(expression: str, words: str) -> None:
    assert describe_cron(expression) == words


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (timedelta(days=1), "every day"),
        (timedelta(hours=36), "every 36 hours"),
        (timedelta(minutes=15), "every 15 minutes"),
        (timedelta(seconds=1), "every second"),
        (timedelta(milliseconds=1500), "every 1500ms"),
    ],
)
def test_an_interval_is_put_into_words(interval: timedelta, words: str) -> None:
    assert describe_interval(interval) == words
