"""Values as text for a terminal, a pipe or a script.

Every function gives the text to print. On a terminal it holds colours and tables made by rich; elsewhere it
is plain lines, aligned by spaces.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from driverun.report.interruptions import interruptions_of
from driverun.report.shown import shown_json
from driverun.report.summary import RunSummary, timestamp
from driverun.report.wording import (
    EXACTNESS_MEANS,
    EXACTNESS_NAMES,
    WAITING_NAMES,
    age_text,
    count_text,
    duration_text,
    number_text,
    size_text,
    time_text,
    value_text,
)
from driverun.runs.record import Exactness
from driverun.runs.state import RunState, WaitingFor

if TYPE_CHECKING:
    from driverun.execution.approving import Review
    from driverun.execution.timetable import ScheduleSummary
    from driverun.report.compare import Comparison
    from driverun.report.diff import Difference  # zipfile and more, for one command alone

_STATE_STYLES = {
    RunState.QUEUED: "cyan",
    RunState.RUNNING: "bold blue",
    RunState.INTERRUPTED: "yellow",
    RunState.SUCCEEDED: "green",
    RunState.FAILED: "bold red",
    RunState.CANCELLED: "dim",
}


class DrillRow(Protocol):
    """One cut of a drill."""

    @property
    def cut(self) -> int: ...  # number, from 1
    @property
    def how(self) -> str: ...  # "mid-epoch", "during a commit"
    @property
    def step_reached(self) -> int | None: ...
    @property
    def committed_step(self) -> int | None: ...
    @property
    def resumed_at(self) -> int | None: ...
    @property
    def steps_repeated(self) -> int | None: ...
    @property
    def result(self) -> str: ...  # "ok", or what is wrong
    @property
    def is_ok(self) -> bool: ...


class SweepDrillRow(Protocol):
    """One cut of a drill of a sweep."""

    @property
    def cut(self) -> int: ...  # number, from 1
    @property
    def run_id(self) -> str: ...  # that was at work
    @property
    def done(self) -> int: ...  # runs that had succeeded
    @property
    def step_reached(self) -> int | None: ...
    @property
    def committed_step(self) -> int | None: ...
    @property
    def resumed_at(self) -> int | None: ...
    @property
    def result(self) -> str: ...
    @property
    def is_ok(self) -> bool: ...


class Problem(Protocol):
    """Something that is wrong, or is fine, with how to mend it."""

    @property
    def subject(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def remedy(self) -> str: ...  # "" where there is nothing to do
    @property
    def is_fault(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cell:
    text: str
    style: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    head: str
    is_number: bool = False


def json_text(value: Any) -> str:
    """`value` as JSON that every reader accepts; a number that is not finite is its name as text."""
    return shown_json(json.dumps(_sayable(value), indent=2, ensure_ascii=False, allow_nan=False))


def runs_table(
    runs: Sequence[RunSummary], *, now: datetime, terminal: bool = False, width: int | None = None
) -> str:
    """One line for each run.

    Args:
        now: what ages are reckoned from.
        width: of the terminal, in characters; None asks it.
    """
    if not runs:
        return "No runs yet: driverun submit JOB"
    columns = (
        _Column(head="RUN"),
        _Column(head="STATE"),
        _Column(head="STEP", is_number=True),
        _Column(head="EPOCH", is_number=True),
        _Column(head="CHECKPOINT"),
        _Column(head="EXACTNESS"),
        _Column(head="NOTE"),
    )
    rows = [
        (
            _Cell(text=run.run_id),
            _state_cell(run.state),
            _Cell(text=_steps(run)),
            _Cell(text="-" if run.epoch is None else f"{run.epoch:,}"),
            _Cell(text=_last_checkpoint(run, now)),
            _exactness_cell(run),
            _Cell(text=_note(run), style="dim"),
        )
        for run in runs
    ]
    return _table(columns, rows, terminal=terminal, width=width)


def run_text(run: RunSummary, *, now: datetime, terminal: bool = False, width: int | None = None) -> str:
    """All about one run: facts, metrics, attempts, checkpoints."""
    parts = [_facts(run, now=now, terminal=terminal, width=width)]
    if run.metrics:
        metrics = [
            (_Cell(text=name), _Cell(text=number_text(value).replace("−", "-")))
            for name, value in run.metrics.items()
        ]
        columns: Sequence[_Column] = (_Column(head="METRIC"), _Column(head="VALUE", is_number=True))
        parts.append(_table(columns, metrics, terminal=terminal, width=width))
    if run.attempts:
        parts.append(_attempts(run, now=now, terminal=terminal, width=width))
    if run.checkpoints:
        columns = (
            _Column(head="CHECKPOINT AT", is_number=True),
            _Column(head="ATTEMPT", is_number=True),
            _Column(head="SIZE", is_number=True),
            _Column(head="NEW", is_number=True),
            _Column(head="COMMITTED"),
        )
        rows = [
            (
                _Cell(text=f"{item.step:,}"),
                _Cell(text=str(item.attempt)),
                _Cell(text=size_text(item.size_bytes)),
                _Cell(text=size_text(item.new_bytes)),
                _Cell(text=_age(item.created_at, now)),
            )
            for item in run.checkpoints
        ]
        parts.append(_table(columns, rows, terminal=terminal, width=width))
    if run.failure is not None and run.failure.traceback:
        parts.append(_clean(run.failure.traceback.rstrip(), keep="\n\t"))
    return "\n\n".join(parts)


def schedules_text(found: Sequence[ScheduleSummary]) -> str:
    """Every schedule in a block of its own."""
    return "\n".join(_schedule_block(each) for each in found)


def _schedule_block(summary: ScheduleSummary) -> str:
    until = f", until {summary.until}" if summary.until is not None else ""
    last = "-"
    if summary.last_due is not None:
        last = f"{_wall_time(summary.last_due)}  {summary.last_run}"
    lines = [
        f"{_clean(summary.job)}  {_clean(summary.cron)}  {_clean(summary.timezone)}"
        f"  catch_up {summary.catch_up.value}{until}",
        f"  last  {last}",
        f"  next  {next_due_text(summary)}" if not summary.coming else "",
        *(
            f"  {'next' if number == 0 else '    '}  {_wall_time(due)}"
            for number, due in enumerate(summary.coming)
        ),
    ]
    return "\n".join(line for line in lines if line)


def next_due_text(summary: ScheduleSummary) -> str:
    """When a schedule falls due next, or why it does not."""
    if summary.is_suspended:
        return f"suspended; go on with: driverun schedule resume {summary.job}"
    if not summary.coming:
        return "has come to its end"
    return f"falls due next on {_wall_time(summary.coming[0])}"


def _wall_time(moment: datetime) -> str:
    return f"{moment:%a %Y-%m-%d %H:%M %Z}"


def drill_table(rows: Sequence[DrillRow], *, terminal: bool = False, width: int | None = None) -> str:
    """One line for each cut of a drill."""
    columns = (
        _Column(head="CUT", is_number=True),
        _Column(head="HOW"),
        _Column(head="STEP REACHED", is_number=True),
        _Column(head="COMMITTED", is_number=True),
        _Column(head="RESUMED AT", is_number=True),
        _Column(head="REPEATED", is_number=True),
        _Column(head="RESULT"),
    )
    cells = [
        (
            _Cell(text=str(row.cut)),
            _Cell(text=row.how),
            _Cell(text=_count(row.step_reached)),
            _Cell(text=_count(row.committed_step)),
            _Cell(text=_count(row.resumed_at)),
            _Cell(text=_count(row.steps_repeated)),
            _Cell(text=row.result, style="green" if row.is_ok else "bold red"),
        )
        for row in rows
    ]
    return _table(columns, cells, terminal=terminal, width=width)


def sweep_drill_table(
    rows: Sequence[SweepDrillRow], *, terminal: bool = False, width: int | None = None
) -> str:
    """One line for each cut of a drill of a sweep."""
    columns = (
        _Column(head="CUT", is_number=True),
        _Column(head="RUN"),
        _Column(head="DONE", is_number=True),
        _Column(head="STEP REACHED", is_number=True),
        _Column(head="COMMITTED", is_number=True),
        _Column(head="RESUMED AT", is_number=True),
        _Column(head="RESULT"),
    )
    lines = [
        (
            _Cell(text=str(row.cut)),
            _Cell(text=row.run_id),
            _Cell(text=str(row.done)),
            _Cell(text=_count(row.step_reached)),
            _Cell(text=_count(row.committed_step)),
            _Cell(text=_count(row.resumed_at)),
            _Cell(text=row.result, style="green" if row.is_ok else "bold red"),
        )
        for row in rows
    ]
    return _table(columns, lines, terminal=terminal, width=width)


def problems(found: Sequence[Problem], *, terminal: bool = False, width: int | None = None) -> str:
    """One line for each thing looked at, and under a fault how to mend it."""
    lines: list[tuple[_Cell, ...]] = []
    subject_width = max((len(_clean(item.subject)) for item in found), default=0)
    for item in found:
        mark = _Cell(text="fault", style="bold red") if item.is_fault else _Cell(text="fine ", style="green")
        subject = _Cell(text=_clean(item.subject).ljust(subject_width))
        lines.append((mark, _Cell(text="  "), subject, _Cell(text="  "), _Cell(text=_clean(item.message))))
        if item.remedy:
            lines.append((_Cell(text=" " * 7), _Cell(text=f"→ {_clean(item.remedy)}", style="dim")))
    return _lines(lines, terminal=terminal, width=width)


def review_text(review: Review, *, terminal: bool = False, width: int | None = None) -> str:
    """All that would run: who wrote it, what starts, the files, and what is new in them."""
    facts = [
        ("run", review.run_id),
        ("changed by", ", ".join(review.authors)),
        ("code", review.code_sha256),
        ("starts", review.entrypoint),
        ("params", json_text(review.params) if review.params else ""),
        ("installs", ", ".join(review.requirements)),
        ("reads", ", ".join(review.reads)),
        ("gets the secrets", ", ".join(review.secrets)),
        ("compared with", review.before or "nothing: no code of this job has run here"),
    ]
    lines = [
        (_Cell(text=name.ljust(17), style="dim"), _Cell(text=text.replace("\n", " ")))
        for name, text in facts
        if text
    ]
    parts = [_lines(lines, terminal=terminal, width=width)]
    rows = [(_Cell(text=path), _Cell(text=size_text(size))) for path, size in review.files.items()]
    columns = (_Column(head="FILE"), _Column(head="SIZE", is_number=True))
    parts.append(_table(columns, rows, terminal=terminal, width=width))
    parts += [_clean(change.diff, keep="\n\t") for change in review.changes]
    if review.head:
        parts.append(_clean(review.head, keep="\n\t"))
    return "\n\n".join(parts)


def comparison_text(found: Comparison, *, terminal: bool = False, width: int | None = None) -> str:
    """Runs beside each other, and by what they are in order."""
    columns = [
        _Column(head="RUN"),
        _Column(head="STATE"),
        *(_Column(head=name, is_number=True) for name in (*found.params, *found.metrics)),
    ]
    rows = [
        [
            _Cell(text=run.run_id),
            _state_cell(run.state),
            *(_Cell(text=value_text(run.settings.get(name)) or "-") for name in found.params),
            *(_metric_cell(run.metrics.get(name)) for name in found.metrics),
        ]
        for run in found.runs
    ]
    return _table(columns, rows, terminal=terminal, width=width)


def ranking_text(found: Comparison) -> str:
    """By what they are in order, in one line."""
    ranking = found.ranking
    if ranking.metric is None:
        return f"{found.of}: in the order of their submission ({ranking.reason})"
    better = "more" if ranking.is_max else "less"
    return f"{found.of}: best first by {ranking.metric}, where {better} is better ({ranking.reason})"


def _metric_cell(value: float | None) -> _Cell:
    return _Cell(text="-" if value is None else number_text(value).replace("−", "-"))


def difference_text(found: Difference | None, *, label_a: str, label_b: str) -> str:
    """What `diff` has to say, in one or two lines."""
    if found is None:
        return f"identical: {label_a} and {label_b} agree in every variable, value and output"
    return f"different: {_clean(found.message)}"


def _facts(run: RunSummary, *, now: datetime, terminal: bool, width: int | None) -> str:
    facts: list[tuple[str, _Cell]] = [
        ("run", _Cell(text=run.run_id, style="bold")),
        ("state", _state_cell(run.state)),
    ]
    if run.waiting_for is not None:
        facts.append(("waits for", _Cell(text=WAITING_NAMES[run.waiting_for])))
    reason = run.reason or (run.failure.message if run.failure is not None else "")
    if reason:
        facts.append(("because", _Cell(text=reason)))
    epoch = "" if run.epoch is None else f", {count_text(run.epoch, 'epoch')} finished"
    facts.append(("step", _Cell(text=f"{_steps(run)}{epoch}")))
    if run.attempts:
        exactness = _exactness_cell(run)
        facts.append(
            (
                "exactness",
                _Cell(text=f"{exactness.text}. {EXACTNESS_MEANS[run.exactness]}", style=exactness.style),
            )
        )
        facts += [("", _Cell(text=f"- {reason}")) for reason in run.exactness_reasons]
        facts.append(("interrupted", _Cell(text=_cost(run))))
    if run.lease is not None:
        heard = f"{run.lease.worker}, heard of {_age(run.lease.heard_at, now)}"
        facts.append(("worker", _Cell(text=heard)))
    named = (
        ("state_sha256", run.state_sha256),
        ("outputs_sha256", run.outputs_sha256),
        ("results", run.results_path),
        ("job", run.job),
        ("submitted", timestamp(run.created_at) if run.created_at is not None else None),
    )
    facts += [(name, _Cell(text=value)) for name, value in named if value is not None]
    lines = [(_Cell(text=name.ljust(15), style="dim"), cell) for name, cell in facts]
    return _lines(lines, terminal=terminal, width=width)


def _attempts(run: RunSummary, *, now: datetime, terminal: bool, width: int | None) -> str:
    columns = (
        _Column(head="ATTEMPT", is_number=True),
        _Column(head="WORKER"),
        _Column(head="STATE"),
        _Column(head="STARTED (UTC)"),
        _Column(head="TIME", is_number=True),
        _Column(head="FROM", is_number=True),
        _Column(head="TO", is_number=True),
        _Column(head="REASON"),
    )
    rows = [
        (
            _Cell(text=str(attempt.number)),
            _Cell(text=attempt.worker),
            _Cell(text=attempt.state.value, style=_STATE_STYLES[RunState(attempt.state.value)]),
            _Cell(text=time_text(attempt.started_at)),
            _Cell(text=duration_text(((attempt.ended_at or now) - attempt.started_at).total_seconds())),
            _Cell(text=_count(attempt.first_step)),
            _Cell(text=_count(attempt.last_step)),
            _Cell(text=attempt.reason, style="dim"),
        )
        for attempt in run.attempts
    ]
    return _table(columns, rows, terminal=terminal, width=width)


def _cost(run: RunSummary) -> str:
    found = interruptions_of(run.attempts)
    if not found:
        return "never"
    times = "once" if len(found) == 1 else f"{len(found)} times"
    repeated = count_text(sum(item.steps_repeated or 0 for item in found), "step")
    pause = duration_text(sum(item.pause_s for item in found))
    at_least = "at least " if any(item.died for item in found) else ""
    return f"{times}; {at_least}{repeated} computed again, {pause} between attempts"


def _steps(run: RunSummary) -> str:
    return f"{run.step:,}" if run.total_steps is None else f"{run.step:,}/{run.total_steps:,}"


def _last_checkpoint(run: RunSummary, now: datetime) -> str:
    if run.checkpoints:
        newest = max(run.checkpoints, key=lambda item: item.created_at)
        return _age(newest.created_at, now)
    return f"at {run.committed_step:,}" if run.committed_step is not None else "-"


def _note(run: RunSummary) -> str:
    if run.waiting_for is WaitingFor.APPROVAL:
        return f"waits for approval: {run.reason}"
    if run.waiting_for is not None:
        return run.reason or f"waits for {WAITING_NAMES[run.waiting_for]}"
    return run.reason or (run.failure.message if run.failure is not None else "")


def _state_cell(state: RunState) -> _Cell:
    return _Cell(text=state.value, style=_STATE_STYLES[state])


def _exactness_cell(run: RunSummary) -> _Cell:
    if not run.attempts and not run.step:
        return _Cell(text="-")
    style = "yellow" if run.exactness is Exactness.APPROXIMATE else ""
    return _Cell(text=EXACTNESS_NAMES[run.exactness], style=style)


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _age(at: datetime, now: datetime) -> str:
    return age_text((now - at).total_seconds())


def _table(
    columns: Sequence[_Column], rows: Sequence[Sequence[_Cell]], *, terminal: bool, width: int | None
) -> str:
    if terminal:
        return _rich_table(columns, rows, width)
    texts = [[column.head for column in columns], *([_clean(cell.text) for cell in row] for row in rows)]
    widths = [max(len(line[number]) for line in texts) for number in range(len(columns))]
    lines = (
        "  ".join(
            text.rjust(room) if column.is_number else text.ljust(room)
            for text, room, column in zip(line, widths, columns, strict=True)
        )
        for line in texts
    )
    return "\n".join(line.rstrip() for line in lines)


def _rich_table(columns: Sequence[_Column], rows: Sequence[Sequence[_Cell]], width: int | None) -> str:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for number, column in enumerate(columns):
        is_last = number == len(columns) - 1
        table.add_column(
            column.head,
            justify="right" if column.is_number else "left",
            no_wrap=not is_last,
            overflow="fold" if is_last else "ellipsis",
        )
    for row in rows:
        # Text, not markup: a job may be called [red].
        table.add_row(*(Text(_clean(cell.text), style=cell.style) for cell in row))
    return _printed(table, width)


def _lines(lines: Sequence[Sequence[_Cell]], *, terminal: bool, width: int | None) -> str:
    if not terminal:
        return "\n".join("".join(_clean(cell.text) for cell in line).rstrip() for line in lines)
    from rich.text import Text

    text = Text()
    for number, line in enumerate(lines):
        text.append("\n" if number else "")
        for cell in line:
            text.append(_clean(cell.text), style=cell.style)
    return _printed(text, width)


def _printed(renderable: Any, width: int | None) -> str:
    import shutil

    from rich.console import Console

    columns = width if width is not None else shutil.get_terminal_size().columns
    out = io.StringIO()
    # rich obeys NO_COLOR by itself.
    Console(file=out, force_terminal=True, width=columns, highlight=False, emoji=False).print(renderable)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip("\n").split("\n"))


def _clean(text: str, keep: str = "") -> str:
    """`text` without control characters, by which a job could take over the terminal."""
    return "".join(
        char if char.isprintable() or char in keep else " " if char.isspace() else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


def _sayable(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _sayable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sayable(item) for item in value]
    return value
