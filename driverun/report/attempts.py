"""The part of a report that tells of attempts, with what each interruption cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape

from driverun.report.interruptions import Interruption, interruptions_of
from driverun.report.markup import pill, table
from driverun.report.summary import AttemptSummary, RunSummary
from driverun.report.svg import Bar, timeline
from driverun.report.wording import count_text, duration_text, time_text
from driverun.runs.record import AttemptState

_COLOURS = {
    AttemptState.RUNNING: "busy",
    AttemptState.INTERRUPTED: "warn",
    AttemptState.SUCCEEDED: "good",
    AttemptState.FAILED: "bad",
    AttemptState.CANCELLED: "calm",
}
_BARS = {
    AttemptState.RUNNING: ("running", "at work"),
    AttemptState.INTERRUPTED: ("stopped", "interrupted"),
    AttemptState.SUCCEEDED: ("done", "to the end"),
    AttemptState.FAILED: ("failed", "failed"),
    AttemptState.CANCELLED: ("idle", "cancelled"),
}


def attempts_section(summary: RunSummary, until: datetime | None) -> str:
    """What was lost in words, a timeline, a table.

    Args:
        until: where an attempt that is at work ends, for now.
    """
    attempts = summary.attempts
    if not attempts:
        return '<section><h2>Attempts</h2><p class="soft">No worker has taken it up yet.</p></section>'
    interruptions = {item.after: item for item in interruptions_of(attempts)}
    rows = [_attempt_row(attempt, interruptions.get(attempt.number), until) for attempt in attempts]
    heads = ["No.", "Worker", "State", "Started (UTC)", "Time", "From step", "To step", "Repeated", "Ended"]
    return (
        f"<section><h2>Attempts</h2>{_cost(summary, tuple(interruptions.values()))}"
        f"{_timeline(summary, until, interruptions)}"
        f"{table(heads, rows, numeric=(0, 4, 5, 6, 7), why=8)}</section>"
    )


def _cost(summary: RunSummary, interruptions: Sequence[Interruption]) -> str:
    if not interruptions:
        return "<p>It was not interrupted.</p>"
    repeated = sum(item.steps_repeated or 0 for item in interruptions)
    pause_s = sum(item.pause_s for item in interruptions)
    share = f" ({repeated / summary.step:.1%} of all)" if summary.step and repeated else ""
    times = "once" if len(interruptions) == 1 else f"{len(interruptions)} times"
    # The last word of an attempt that died is a heartbeat; what it computed after that, nobody knows.
    at_least = "At least " if any(item.died for item in interruptions) else ""
    again = f"{count_text(repeated, 'step')} {'was' if repeated == 1 else 'were'} computed again{share}"
    return f"<p>Interrupted {times}. {at_least}{again}, and {duration_text(pause_s)} passed between attempts.</p>"


def _attempt_row(attempt: AttemptSummary, ended: Interruption | None, until: datetime | None) -> list[str]:
    if not attempt.owned:
        ended = None
    repeated = ended.steps_repeated if ended is not None else None
    state = pill(attempt.state.value, _COLOURS[attempt.state])
    reason = attempt.reason
    if not reason and attempt.state is AttemptState.SUCCEEDED:
        reason = "results published"
    return [
        f"{attempt.number}",
        f"<code>{escape(attempt.worker)}</code>",
        state,
        f'<span class="w">{time_text(attempt.started_at)}</span>',
        duration_text(at_work_s(attempt, until)),
        f"{attempt.first_step:,}" if attempt.first_step is not None else "–",
        f"{attempt.last_step:,}" if attempt.last_step is not None else "–",
        f"{repeated:,}" if repeated is not None else "–",
        escape(reason),
    ]


def _timeline(summary: RunSummary, until: datetime | None, interruptions: Mapping[int, Interruption]) -> str:
    owned = [attempt for attempt in summary.attempts if attempt.owned]
    if not owned:
        return ""
    begin = owned[0].started_at
    bars = [
        _attempt_bar(attempt, interruptions.get(attempt.number), begin=begin, until=until)
        for attempt in owned
    ]
    words = dict(_BARS.values())
    keys = [
        f'<span><span class="key box {style}"></span>{words[style]}</span>'
        for style in dict.fromkeys(bar.style for bar in bars)
    ]
    if any(bar.lost_fraction > 0 for bar in bars):
        keys.append('<span><span class="key box again"></span>computed again by the next attempt</span>')
    legend = f'<p class="timelegend">{" ".join(keys)}</p>'
    return timeline(bars, title="Attempts over time") + legend


def _attempt_bar(
    attempt: AttemptSummary,
    ended: Interruption | None,
    *,
    begin: datetime,
    until: datetime | None,
) -> Bar:
    first, last = attempt.first_step, attempt.last_step
    steps = last - first if first is not None and last is not None else 0
    repeated = (ended.steps_repeated if ended is not None else None) or 0
    reached = f"steps {first:,} to {last:,}" if first is not None and last is not None else "no training"
    notes = [reached]
    if ended is not None:
        notes += [f"{repeated:,} repeated"] if repeated else []
        notes.append(f"next after {duration_text(ended.pause_s)}")
    return Bar(
        label=f"Attempt {attempt.number}",
        note=", ".join(notes),
        title=f"Attempt {attempt.number}, {attempt.worker}: {', '.join(notes)}",
        start_s=(attempt.started_at - begin).total_seconds(),
        end_s=(end_of(attempt, until) - begin).total_seconds(),
        style=_BARS[attempt.state][0],
        lost_fraction=repeated / steps if steps > 0 else 0.0,
    )


def end_of(attempt: AttemptSummary, until: datetime | None) -> datetime:
    """When it ended; of one at work, how far the report looks."""
    return attempt.ended_at or max(attempt.started_at, until or attempt.started_at)


def at_work_s(attempt: AttemptSummary, until: datetime | None) -> float:
    """For how long it has been at it, in seconds."""
    return (end_of(attempt, until) - attempt.started_at).total_seconds()
