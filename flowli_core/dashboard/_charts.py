"""The charts of the overview: which numbers of the history each one draws."""

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Literal

from flowli_core._jobs.history import Durations, History, HistoryPoint
from flowli_core.dashboard._texts import show_duration, show_number

Unit = Literal["jobs", "ms"]

_P95 = 0.95
_MS = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The values of a line or of bars, one for each point. `tone` gives the colour, `total` is shown beside the label.

    Stacked bars stand on those of the series before.
    """

    label: str
    tone: str
    values: tuple[float | None, ...]
    total: str
    kind: Literal["bars", "line"] = "line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart: the starts of the points in seconds since 1970, the length of a point, and the series."""

    title: str
    unit: Unit
    times: tuple[float, ...]
    step: float
    series: tuple[Series, ...]

    @property
    def spec(self) -> dict[str, object]:
        """The data for the script that draws the chart."""
        return asdict(self)


def make_charts(history: History) -> list[Chart]:
    """Return the charts of a history."""
    times = tuple(point.start.timestamp() for point in history.points)
    step = history.resolution.total_seconds()
    per = "minute" if history.resolution == timedelta(minutes=1) else "hour"

    def chart(title: str, unit: Unit, *series: Series) -> Chart:
        return Chart(title=title, unit=unit, times=times, step=step, series=series)

    return [
        chart(
            f"Jobs per {per}",
            "jobs",
            _counts(history, "completed", "completed", "bars"),
            _counts(history, "enqueued", "enqueued", "line"),
        ),
        chart(
            f"Failures per {per}",
            "jobs",
            _counts(history, "failed", "failed", "bars"),
            _counts(history, "retried", "retried", "bars"),
        ),
        chart("95th percentile", "ms", _p95(history, "waits", "waited"), _p95(history, "runs", "ran")),
    ]


def _counts(history: History, name: str, tone: str, kind: Literal["bars", "line"]) -> Series:
    values = tuple(float(getattr(point, name)) for point in history.points)
    total = show_number(getattr(history.total, name))
    return Series(label=name, tone=tone, values=values, total=total, kind=kind)


def _p95(history: History, name: str, label: str) -> Series:
    def of(durations: Durations) -> timedelta | None:
        return durations.quantile(_P95)

    def values(point: HistoryPoint) -> float | None:
        found = of(getattr(point, name))
        return None if found is None else found / _MS

    total = show_duration(of(getattr(history.total, name)))
    return Series(label=label, tone=label, values=tuple(map(values, history.points)), total=total)
