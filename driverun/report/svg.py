"""Drawings for a report: plain SVG text, coloured by the style sheet of the page around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from driverun.report.wording import number_text, short_duration

WIDTH, HEIGHT = 460, 250  #: of a chart, in its own units
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 34

_SPANS_S = (
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    20,
    30,
    60,
    120,
    300,
    600,
    1200,
    1800,
    3600,
    7200,
    14400,
    21600,
    43200,
)
_DAY_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a chart. Values that are not finite break it."""

    name: str
    points: Sequence[tuple[float, float]]  #: x ascending
    style: str = "a"  #: which colour: "a", "b"
    faint: Sequence[tuple[float, float]] = ()  #: drawn thinner behind it, such as samples between the points


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place on the x axis with something to say."""

    x: float
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One row of a timeline, in seconds from the timeline's start."""

    label: str
    note: str  #: at the right end of the label's line
    title: str
    start_s: float
    end_s: float
    style: str  #: "done", "stopped", "failed", "running"
    lost_fraction: float = 0.0  #: how much of its end was done again


def nice_ticks(low: float, high: float, count: int = 5, *, whole: bool = False) -> list[float]:
    """About `count` round numbers from `low` to `high`, the ends included only where they are round.

    Steps are 1, 2 or 5 times a power of ten; with `whole`, never below 1.
    """
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low] if math.isfinite(low) else []
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 0.0
    if power == 0.0:
        return [low]  # so close together that no float lies between
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    if whole:
        step = max(1.0, float(round(step)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step)))
    return [round(number * step, digits) + 0.0 for number in range(first, last + 1)]


def line_chart(
    lines: Sequence[Line], *, title: str, x_label: str, x_max: float | None = None, marks: Sequence[Mark] = ()
) -> str:
    """A chart with axes and hover titles, as an `<svg>` element. The legend is left to the page."""
    finite = [
        point for line in lines for point in (*line.points, *line.faint) if all(map(math.isfinite, point))
    ]
    if not finite:
        return ""
    x_high = max(x_max or 0.0, *(x for x, _ in finite), 1.0)
    y_low, y_high = _padded([y for _, y in finite])
    plot_width, plot_height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        # Divided before subtracting, so that values near the greatest float do not overflow.
        share = (y / 2 - y_low / 2) / (y_high / 2 - y_low / 2)
        return _LEFT + x / x_high * plot_width, _TOP + (1 - share) * plot_height

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    y_ticks = nice_ticks(y_low, y_high, 5)
    for tick, text in zip(y_ticks, tick_labels(y_ticks), strict=True):
        _, y = place(0, tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 7}" y="{y + 3.5:.1f}" text-anchor="end">{text}</text>')
    base = HEIGHT - _BOTTOM
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>')
    for tick in nice_ticks(0, x_high, 6, whole=True):
        x, _ = place(tick, y_low)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{base + 16}" text-anchor="middle">{tick:,.0f}</text>'
        )
    middle = _LEFT + plot_width / 2
    parts.append(
        f'<text class="label" x="{middle:.1f}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>'
    )
    for mark in marks:
        x, _ = place(mark.x, y_low)
        parts.append(
            f'<g class="mark"><title>{escape(mark.title)}</title>'
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{base}"/>'
            f'<path d="M{x - 3.5:.1f} {_TOP - 5}h7l-3.5 5z"/></g>'
        )
    for line in lines:
        parts.append(f'<g class="line {escape(line.style)}">')
        parts += [f'<path class="faint" d="{path}"/>' for path in _paths([place(*p) for p in line.faint])]
        parts += [f'<path d="{path}"/>' for path in _paths([place(*p) for p in line.points])]
        shown = [point for point in line.points if all(map(math.isfinite, point))]
        radius = 2.6 if len(shown) <= 40 else 1.2
        for point in shown:
            x, y = place(*point)
            text = escape(f"{line.name}, {x_label} {point[0]:g}: {number_text(point[1])}")
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}"><title>{text}</title></circle>')
        parts.append("</g>")
    parts.append("</svg>")
    return "".join(parts)


def timeline(bars: Sequence[Bar], *, title: str) -> str:
    """Bars over wall time, one row each, as an `<svg>` element that is as wide as the page lets it.

    Horizontal places are percentages, so that text keeps its size on a narrow screen.
    """
    if not bars:
        return ""
    span = max(max(bar.end_s for bar in bars), 1e-3)
    row, top = (38, 4) if len(bars) <= 30 else (12, 4)
    height = top + row * len(bars) + 26
    base = height - 22
    parts = [f'<svg class="timeline" width="100%" height="{height}" role="img" aria-label="{escape(title)}">']
    for tick in duration_ticks(span):
        x = 100 * tick / span
        anchor = "start" if x < 4 else "end" if x > 96 else "middle"
        parts.append(f'<line class="grid" x1="{x:.3f}%" x2="{x:.3f}%" y1="{top}" y2="{base}"/>')
        parts.append(
            f'<text class="tick" x="{x:.3f}%" y="{height - 6}" text-anchor="{anchor}">'
            f"{'start' if tick == 0 else '+' + short_duration(tick)}</text>"
        )
    for number, bar in enumerate(bars):
        y = top + number * row
        if number:
            before = 100 * bars[number - 1].end_s / span
            start = 100 * bar.start_s / span
            joint = y + (15 if row > 20 else 2)
            parts.append(
                f'<line class="pause" x1="{before:.3f}%" x2="{start:.3f}%" y1="{joint}" y2="{joint}"/>'
            )
        parts.append(_bar(bar, span=span, y=y, row=row))
    parts.append(f'<line class="axis" x1="0" x2="100%" y1="{base}" y2="{base}"/></svg>')
    return "".join(parts)


def _bar(bar: Bar, *, span: float, y: float, row: int) -> str:
    thickness = 13 if row > 20 else 8
    width = max(100 * (bar.end_s - bar.start_s) / span, 0.4)
    x = min(100 * bar.start_s / span, 100 - width)
    bar_y = y + (19 if row > 20 else 2)
    parts = [f'<g class="bar {escape(bar.style)}"><title>{escape(bar.title)}</title>']
    if row > 20:
        parts.append(f'<text class="name" x="0" y="{y + 13}">{escape(bar.label)}</text>')
        parts.append(f'<text class="note" x="100%" y="{y + 13}" text-anchor="end">{escape(bar.note)}</text>')
    parts.append(
        f'<rect x="{x:.3f}%" y="{bar_y}" width="{width:.3f}%" height="{thickness}" rx="2"/>',
    )
    lost = min(max(bar.lost_fraction, 0.0), 1.0) * width
    if lost > 0:
        parts.append(
            f'<rect class="lost" x="{x + width - lost:.3f}%" y="{bar_y}" width="{lost:.3f}%" '
            f'height="{thickness}" rx="2"/>'
        )
    parts.append("</g>")
    return "".join(parts)


def duration_ticks(span_s: float, count: int = 6) -> list[float]:
    """About `count` round durations from 0 to `span_s`, in seconds."""
    wanted = span_s / count
    step = next((span for span in _SPANS_S if span >= wanted), 0.0)
    if not step:
        step = _DAY_S * max(1, math.ceil(wanted / _DAY_S))
    if wanted < _SPANS_S[0]:
        step = nice_ticks(0, span_s, count)[1]
    return [number * step for number in range(math.floor(span_s / step + 1e-9) + 1)]


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """The ticks of one axis, all with as many decimals."""
    largest = max((abs(tick) for tick in ticks), default=0.0)
    gap = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else largest
    if largest >= 1e5 or (gap and gap < 1e-4):
        decimals = max(0, math.floor(math.log10(largest)) - math.floor(math.log10(gap))) if gap else 2
        shown = [f"{tick:.{min(decimals, 3)}e}".partition("e") for tick in ticks]
        texts = ["0" if not tick else f"{d}e{int(e)}" for tick, (d, _, e) in zip(ticks, shown, strict=True)]
    else:
        decimals = max(0, -math.floor(math.log10(gap))) if gap else 0
        texts = [f"{tick:.{decimals}f}" for tick in ticks]
    return [text.replace("-", "−") for text in texts]


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """The range of a value axis: a little more than the values take, and 0 where it is near."""
    low, high = min(values), max(values)
    limit = 1e300
    low, high = max(low, -limit), min(high, limit)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        room = abs(high) * 0.1 or 1.0
        return low - room, high + room
    room = (high - low) * 0.06
    bottom = 0.0 if 0 <= low < (high - low) * 0.35 else low - room
    return bottom, high + room


def _paths(points: Sequence[tuple[float, float]]) -> list[str]:
    """Path data of the stretches between places that are not finite; a lone point has no stretch."""
    stretches: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if all(map(math.isfinite, point)):
            stretches[-1].append(point)
        elif stretches[-1]:
            stretches.append([])
    return [
        "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in stretch) for stretch in stretches if len(stretch) > 1
    ]
