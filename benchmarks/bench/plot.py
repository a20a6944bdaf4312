"""Plots as plain SVG: panels of bars for the rows, and panels of lines for cost with size."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

OWN = "#1f6feb"
LOOP = "#9aa4b2"
OTHER = "#c9d1d9"
LINES = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df")
INK = "#1f2328"
PANEL_WIDTH = 400
BAR = 20
LABEL = 130
THOUSAND, TEN = 1000, 10
VALUE = 80
MOST_LENGTH = 5


@dataclass(frozen=True)
class Bar:
    """A bar of a panel."""

    label: str
    value: float
    color: str


@dataclass(frozen=True)
class Panel:
    """Bars with a title."""

    title: str
    bars: Sequence[Bar]


def text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal", size: int = 12) -> str:
    """Return a piece of text."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}" '
        f'fill="{INK}">{escape(words)}</text>'
    )


def short(value: float) -> str:
    """Return a number with about three digits."""
    if value >= THOUSAND:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= TEN else f"{value:.2f}"


def _bars(panel: Panel, left: float, top: float) -> str:
    # A bar that is far longer than the others is cut off, so that the others keep some length.
    values = [bar.value for bar in panel.bars]
    greatest = min(max(values), MOST_LENGTH * statistics.median(values)) or 1
    room = PANEL_WIDTH - LABEL - VALUE
    parts = [text(left, top, panel.title, weight="bold", size=14)]
    for number, bar in enumerate(panel.bars):
        y = top + 12 + number * BAR
        width = max(1.0, min(1, bar.value / greatest) * room)
        parts += [
            text(left + LABEL - 8, y + 13, bar.label, anchor="end"),
            f'<rect x="{left + LABEL}" y="{y + 2}" width="{width:.1f}" height="{BAR - 5}" rx="2" fill="{bar.color}"/>',
            text(left + LABEL + width + 6, y + 13, ("» " if bar.value > greatest else "") + short(bar.value)),
        ]
    return "\n".join(parts)


def bars(panels: Sequence[Panel], *, columns: int = 2) -> str:
    """Return a picture of panels of bars."""
    rows = [panels[first : first + columns] for first in range(0, len(panels), columns)]
    top, parts = 30.0, list[str]()
    for row in rows:
        parts += [_bars(panel, 20 + number * (PANEL_WIDTH + 20), top) for number, panel in enumerate(row)]
        top += max(len(panel.bars) for panel in row) * BAR + 50
    return _picture(columns * (PANEL_WIDTH + 20) + 20, top - 10, parts)


@dataclass(frozen=True)
class Curve:
    """Points of a line: sizes, and costs."""

    label: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """Lines with a title, over a logarithmic axis of sizes."""

    title: str
    curves: Sequence[Curve]


CHART_HEIGHT = 180


def _lines(chart: Chart, left: float, top: float) -> str:
    sizes = sorted({x for curve in chart.curves for x, _ in curve.points})
    greatest = max((y for curve in chart.curves for _, y in curve.points), default=1) * 1.1 or 1
    low, high = math.log10(sizes[0]), math.log10(sizes[-1])
    bottom, begin, room = top + CHART_HEIGHT, left + 40, PANEL_WIDTH - 60

    def across(size: float) -> float:
        return begin + (math.log10(size) - low) / ((high - low) or 1) * room

    def up(cost: float) -> float:
        return bottom - cost / greatest * (CHART_HEIGHT - 20)

    parts = [
        text(left, top, chart.title, weight="bold", size=14),
        f'<path d="M{begin} {top + 15}V{bottom}H{begin + room}" fill="none" stroke="{LOOP}"/>',
        *[text(across(size), bottom + 16, f"{size:,.0f}", anchor="middle") for size in sizes],
        *[text(begin - 6, up(part * greatest) + 4, short(part * greatest), anchor="end") for part in (0.5, 0.9)],
    ]
    for number, curve in enumerate(chart.curves):
        color = LINES[number % len(LINES)]
        route = " ".join([f"{across(x):.1f},{up(y):.1f}" for x, y in curve.points])
        parts += [
            f'<polyline points="{route}" fill="none" stroke="{color}" stroke-width="2"/>',
            *[f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{color}"/>' for x, y in curve.points],
            f'<rect x="{left + 40}" y="{bottom + 26 + number * 18}" width="14" height="10" fill="{color}"/>',
            text(left + 60, bottom + 35 + number * 18, curve.label),
        ]
    return "\n".join(parts)


def lines(charts: Sequence[Chart], *, columns: int = 2) -> str:
    """Return a picture of charts of lines."""
    height = CHART_HEIGHT + 60 + 18 * max(len(chart.curves) for chart in charts)
    parts = [
        _lines(chart, 20 + number % columns * (PANEL_WIDTH + 20), 30 + number // columns * height)
        for number, chart in enumerate(charts)
    ]
    return _picture(columns * (PANEL_WIDTH + 20) + 20, 30 + math.ceil(len(charts) / columns) * height, parts)


def _picture(width: float, height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="system-ui, sans-serif">'
    )
    return "\n".join([head, f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>', *parts, "</svg>", ""])
