"""The part of a report that shows how training went."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from driverun.report.curves import Curves, FitCurves, Series
from driverun.report.svg import Line, Mark, line_chart
from driverun.report.wording import count_text

OPEN_FITS = 3  #: the curves of further fits are folded away


def curves_section(curves: Curves) -> str:
    """The charts of all fits, each metric with its validation."""
    fits = [fit for fit in curves.fits if fit.series]
    if not fits:
        return '<section><h2>Curves</h2><p class="soft">No curves: no epoch has ended yet.</p></section>'
    parts = ["<section><h2>Curves</h2>"]
    if any(fit.resumes for fit in fits):
        parts.append('<p class="soft">A dotted line shows where training was taken up again.</p>')
    for position, fit in enumerate(fits):
        title = f"Fit {fit.fit + 1}, {count_text(epochs_trained(fit), 'epoch')}"
        charts = [chart for group in _paired(fit.series) if (chart := _chart(fit, group))]
        single = " single" if len(charts) == 1 else ""
        grid = f'<div class="charts{single}">{"".join(charts)}</div>'
        if len(fits) == 1:
            parts.append(grid)
        elif position < OPEN_FITS:
            parts.append(f"<h3>{title}</h3>{grid}")
        else:
            parts.append(f"<details><summary>{title}</summary>{grid}</details>")
    return "".join([*parts, "</section>"])


def _paired(series: Sequence[Series]) -> list[list[Series]]:
    """Each metric with its validation, in order of first appearance."""
    groups: dict[str, list[Series]] = {}
    for item in series:
        groups.setdefault(item.metric.removeprefix("val_"), []).append(item)
    return [sorted(group, key=lambda item: item.metric.startswith("val_")) for group in groups.values()]


def _chart(fit: FitCurves, group: Sequence[Series]) -> str:
    metric = group[0].metric.removeprefix("val_")
    lines, keys = [], []
    for item in group:
        is_validation = item.metric.startswith("val_")
        name, style = ("validation", "b") if is_validation else ("training", "a")
        lines.append(
            Line(
                name=name,
                style=style,
                points=[(point.epoch, point.value) for point in item.points],
                faint=[(point.epoch, point.value) for point in item.samples],
            )
        )
        keys.append(f'<span class="key {style}"></span>{name}')
    marks = [
        Mark(x=resume.epoch, title=f"attempt {resume.attempt} took up at step {resume.step:,}")
        for resume in fit.resumes
    ]
    drawing = line_chart(lines, title=f"{metric} over epochs", x_label="epoch", marks=marks)
    legend = f'<span class="legend">{"".join(keys)}</span>' if len(group) > 1 else ""
    broken = sum(not math.isfinite(value) for line in lines for _, value in line.points)
    note = f'<p class="soft">{count_text(broken, "value")} not finite.</p>' if broken else ""
    return f"<figure><figcaption><span>{escape(metric)}</span>{legend}</figcaption>{drawing}{note}</figure>"


def epochs_trained(fit: FitCurves) -> int:
    """How many epochs of it have ended."""
    return max((round(item.points[-1].epoch) for item in fit.series if item.points), default=0)
