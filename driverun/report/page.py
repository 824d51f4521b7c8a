"""One self-contained HTML page that tells all about a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from typing import Any

from driverun import __version__
from driverun.report.attempts import at_work_s, attempts_section, end_of
from driverun.report.charts import curves_section, epochs_trained
from driverun.report.curves import Curves
from driverun.report.markup import fact, pairs, pill, printable, sentence, table
from driverun.report.style import CSS
from driverun.report.summary import RunSummary, timestamp
from driverun.report.wording import (
    EXACTNESS_MEANS,
    EXACTNESS_NAMES,
    WAITING_NAMES,
    count_text,
    duration_text,
    number_text,
    size_text,
    time_text,
)
from driverun.runs.record import Exactness, RunFile
from driverun.runs.state import RunState

_STATE_COLOURS = {
    RunState.QUEUED: "calm",
    RunState.RUNNING: "busy",
    RunState.INTERRUPTED: "warn",
    RunState.SUCCEEDED: "good",
    RunState.FAILED: "bad",
    RunState.CANCELLED: "calm",
}
_EXACTNESS_COLOURS = {
    Exactness.EXACT: "good",
    Exactness.STEP_EXACT: "good",
    Exactness.APPROXIMATE: "warn",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that a page tells of. The same values give the same page, byte for byte."""

    summary: RunSummary
    curves: Curves = field(default_factory=Curves)
    run_file: RunFile | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)  #: of the newest attempt
    log_tail: str = ""  #: the last lines of the newest log
    as_of: datetime | None = None  #: the moment it tells of, where a run is still at work

    @property
    def until(self) -> datetime | None:
        """How far it looks: where an attempt that is at work ends, for now."""
        return self.as_of or (self.summary.lease.heard_at if self.summary.lease is not None else None)


def report_html(report: Report) -> str:
    """The page. It loads nothing and runs nothing; everything in it that a job chose is escaped."""
    summary = report.summary
    sections = (
        _head(report),
        _failure(report),
        _exactness(summary),
        _metrics(report),
        curves_section(report.curves),
        attempts_section(summary, report.until),
        _checkpoints(summary),
        _computed(report),
        _environment(report.environment),
        _log(report),
    )
    body = "\n".join(section for section in sections if section)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # An icon that is none keeps browsers from asking a server for one.
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(summary.name)} · {summary.state.value}</title>\n<style>{CSS}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n{_foot(report)}\n</main>\n</body>\n</html>\n"
    )


def _head(report: Report) -> str:
    summary = report.summary
    badge = pill(EXACTNESS_NAMES[summary.exactness], _EXACTNESS_COLOURS[summary.exactness])
    waiting = ""
    if summary.waiting_for is not None:
        said = (
            sentence(summary.reason) if summary.reason else f"Waits for {WAITING_NAMES[summary.waiting_for]}."
        )
        waiting = f'<p class="id">{escape(said)}</p>'
    elif summary.reason and summary.state is not RunState.FAILED:
        waiting = f'<p class="id">{escape(sentence(summary.reason))}</p>'
    return (
        '<header>\n<p class="over">driverun report</p>\n'
        f'<div class="title"><h1>{escape(summary.name)}</h1>'
        f"{pill(summary.state.value, _STATE_COLOURS[summary.state])}"
        f"{badge if summary.attempts else ''}</div>\n"
        f'<p class="id"><code>{escape(summary.run_id)}</code></p>\n{waiting}'
        f'<dl class="facts">{"".join(_facts(report))}</dl>\n</header>'
    )


def _facts(report: Report) -> Iterator[str]:
    summary = report.summary
    owned = [attempt for attempt in summary.attempts if attempt.owned]
    of_total = f"of {summary.total_steps:,}" if summary.total_steps is not None else ""
    yield fact("Steps", f"{summary.step:,}", of_total)
    epochs = sum(epochs_trained(fit) for fit in report.curves.fits)
    fits = len(report.curves.fits)
    if epochs or summary.epoch is not None:
        yield fact("Epochs", f"{epochs or summary.epoch:,}", f"in {fits} fits" if fits > 1 else "")
    cuts = len(owned) - 1
    yield fact(
        "Attempts",
        f"{len(owned):,}",
        count_text(cuts, "interruption") if cuts > 0 else "not interrupted" if owned else "not begun",
    )
    if owned:
        work_s = sum(at_work_s(attempt, report.until) for attempt in owned)
        whole_s = (end_of(owned[-1], report.until) - owned[0].started_at).total_seconds()
        yield fact("Time at work", duration_text(work_s), f"within {duration_text(whole_s)}")
    if summary.checkpoints:
        new_bytes = sum(checkpoint.new_bytes for checkpoint in summary.checkpoints)
        yield fact("Checkpoints", f"{len(summary.checkpoints):,}", f"{size_text(new_bytes)} uploaded")


def _exactness(summary: RunSummary) -> str:
    if not summary.attempts:
        return ""
    kind = "is-warn" if summary.exactness is Exactness.APPROXIMATE else "is-good"
    name = EXACTNESS_NAMES[summary.exactness].capitalize()
    so_far = "" if summary.state.is_over else " so far"
    means = f"<p><strong>{name}{so_far}.</strong> {EXACTNESS_MEANS[summary.exactness]}</p>"
    reasons = "".join(f"<li>{escape(sentence(reason))}</li>" for reason in summary.exactness_reasons)
    return f'<section class="panel {kind}">{means}{f"<ul>{reasons}</ul>" if reasons else ""}</section>'


def _failure(report: Report) -> str:
    summary = report.summary
    if summary.state is not RunState.FAILED:
        return ""
    failure = summary.failure
    kind = failure.kind if failure is not None else "Failed"
    message = summary.reason or (failure.message if failure is not None else "")
    parts = [f"<p><strong>{escape(kind)}.</strong> {escape(message)}</p>"]
    if failure is not None and failure.traceback:
        parts.append(f"<pre>{escape(failure.traceback.rstrip())}</pre>")
    return f'<section class="panel is-bad">{"".join(parts)}</section>'


def _metrics(report: Report) -> str:
    """One row for a metric, with what it was in training, in validation and in `evaluate`."""
    rows: dict[str, dict[str, float]] = {}
    for name, value in report.summary.metrics.items():
        source, _, metric = name.partition(".")
        if source == "fit":
            column = "validation" if metric.startswith("val_") else "training"
            rows.setdefault(metric.removeprefix("val_"), {})[column] = value
        else:
            rows.setdefault(metric or name, {})[source if metric else "value"] = value
    title = "Final metrics" if report.summary.state is RunState.SUCCEEDED else "Latest metrics"
    if not rows:
        return f'<section><h2>{title}</h2><p class="soft">No metrics have been reported.</p></section>'
    present = dict.fromkeys(column for row in rows.values() for column in row)
    usual = ("training", "validation", "evaluate")
    columns = [*(name for name in usual if name in present), *(name for name in present if name not in usual)]
    body = [
        [escape(metric), *(number_text(row[name]) if name in row else "" for name in columns)]
        for metric, row in rows.items()
    ]
    heads = ["Metric", *(escape(name.capitalize()) for name in columns)]
    body_html = table(heads, body, numeric=range(1, len(heads)), narrow=True)
    return f"<section><h2>{title}</h2>{body_html}</section>"


def _checkpoints(summary: RunSummary) -> str:
    if not summary.checkpoints:
        return ""
    rows = [
        [
            f"{item.step:,}",
            f"{item.attempt}",
            size_text(item.size_bytes),
            size_text(item.new_bytes),
            f'<span class="w">{time_text(item.created_at)}</span>',
        ]
        for item in summary.checkpoints
    ]
    heads = ["Step", "Attempt", "Size", "New", "Committed (UTC)"]
    body_html = table(heads, rows, numeric=(0, 1, 2, 3), narrow=True, tall=len(rows) > 14)
    return (
        "<section><h2>Checkpoints</h2>"
        '<p class="soft">Those kept on the root. “New” is what had to be uploaded for one: '
        f"parts that had not changed were there already.</p>{body_html}</section>"
    )


def _computed(report: Report) -> str:
    """What the run computes, and the digests by which two runs are told to be the same."""
    summary = report.summary
    computed = dict(report.run_file.computed) if report.run_file is not None else {}
    params = computed.pop("params", None)
    code = summary.code_sha256 or computed.get("code_sha256")
    digests = {"state": summary.state_sha256, "outputs": summary.outputs_sha256, "code": code}
    parts = []
    if settings := _settings(summary, computed):
        parts.append(f"<div><h3>Job</h3>{pairs(settings)}</div>")
    if params:
        parts.append(f"<div><h3>Parameters</h3>{pairs(params)}</div>")
    if shown := {name: value for name, value in digests.items() if value}:
        parts.append(f"<div><h3>Digests (SHA-256)</h3>{pairs(shown, code=True)}</div>")
    if summary.results_path is not None:
        parts.append(f"<div><h3>Results</h3><p><code>{escape(summary.results_path)}</code></p></div>")
    if not parts:
        return ""
    return f'<section><h2>What was computed</h2><div class="columns">{"".join(parts)}</div></section>'


def _settings(summary: RunSummary, computed: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for, without the defaults that say nothing."""
    settings: dict[str, Any] = {"job": summary.job} if summary.job is not None else {}
    entrypoint = computed.get("entrypoint")
    if isinstance(entrypoint, Mapping):
        argv = entrypoint.get("argv") or ()
        settings["entrypoint"] = " ".join(str(part) for part in (entrypoint.get("value") or "", *argv))
    data = computed.get("data") or ()
    sources = [str(item.get("source")) for item in data if isinstance(item, Mapping)]
    if sources:
        settings["data"] = sources
    for name, value in computed.items():
        if name not in ("code_sha256", "entrypoint", "data", "outputs", "repeat") and value not in (
            None,
            [],
            {},
        ):
            settings[name] = value
    if computed.get("repeat"):
        settings["repeat"] = computed["repeat"]
    outputs = computed.get("outputs")
    if isinstance(outputs, Mapping):
        settings |= {f"outputs {name}": value for name, value in outputs.items() if value not in ([], ["**"])}
    return settings


def _environment(environment: Mapping[str, Any]) -> str:
    if not environment:
        return ""
    plain = {name: value for name, value in environment.items() if not isinstance(value, Mapping)}
    parts = [f"<div>{pairs(plain)}</div>"] if plain else []
    parts += [
        f"<div><h3>{escape(str(name).replace('_', ' ').capitalize())}</h3>{pairs(value)}</div>"
        for name, value in environment.items()
        if isinstance(value, Mapping) and value
    ]
    return f'<section><h2>Environment</h2><div class="columns">{"".join(parts)}</div></section>'


def _log(report: Report) -> str:
    if not report.log_tail.strip():
        return ""
    text = f"<pre>{escape(printable(report.log_tail.rstrip()))}</pre>"
    if report.summary.state is not RunState.FAILED:
        text = f"<details><summary>Show the last lines</summary>{text}</details>"
    return f"<section><h2>Log</h2>{text}</section>"


def _foot(report: Report) -> str:
    parts = [f"driverun {escape(__version__)}"]
    if report.summary.created_at is not None:
        parts.append(f"submitted {timestamp(report.summary.created_at)}")
    if report.as_of is not None:
        parts.append(f"as of {timestamp(report.as_of)}")
    return f"<footer>{' · '.join(parts)}</footer>"
