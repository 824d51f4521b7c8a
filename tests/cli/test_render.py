from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from driverun.cli import render
from driverun.report.diff import Difference, DifferenceKind
from driverun.report.summary import LeaseSummary
from driverun.runs.record import AttemptState, Exactness, Failure
from driverun.runs.state import RunState, WaitingFor
from tests.report.samples import RUN_ID, at, attempt, run

NOW = at(200)


@dataclass(frozen=True, kw_only=True)
class Row:
    cut: int = 1
    how: str = "mid-epoch"
    step_reached: int | None = 1311
    committed_step: int | None = 1204
    resumed_at: int | None = 1204
    steps_repeated: int | None = 107
    result: str = "ok"
    is_ok: bool = True


@dataclass(frozen=True, kw_only=True)
class Found:
    subject: str
    message: str
    remedy: str = ""
    is_fault: bool = False


def lines(text: str) -> list[str]:
    return text.split("\n")


def test_runs_are_aligned_lines_where_there_is_no_terminal() -> None:
    waiting = run(
        run_id="digits-ffffffffffff", state=RunState.QUEUED, waiting_for=WaitingFor.DATA, step=0,
        total_steps=None, epoch=None, attempts=(), checkpoints=(), committed_step=None,
    )  # fmt: skip
    head, first, second = lines(render.runs_table([run(), waiting], now=NOW))
    assert head.split() == ["RUN", "STATE", "STEP", "EPOCH", "CHECKPOINT", "EXACTNESS", "NOTE"]
    assert first.split() == [RUN_ID, "SUCCEEDED", "300/300", "3", "1", "min", "ago", "exact"]
    assert second.split()[:6] == ["digits-ffffffffffff", "QUEUED", "0", "-", "-", "-"]
    assert second.endswith("waits for data that is not on the root yet")
    assert first.index("SUCCEEDED") == second.index("QUEUED") == head.index("STATE")
    assert "\x1b" not in head + first + second


def test_no_runs_says_what_to_do() -> None:
    assert render.runs_table([], now=NOW) == "No runs yet: driverun submit JOB"


@pytest.mark.parametrize("state", list(RunState))
def test_a_terminal_gets_colours(state: RunState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    shown = render.runs_table([run(state=state)], now=NOW, terminal=True, width=160)
    assert state.value in shown
    assert RUN_ID in shown
    assert "\x1b[" in shown


def test_a_long_note_is_folded_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    shown = render.runs_table([run(reason="because " * 40)], now=NOW, terminal=True, width=100)
    assert max(map(len, lines(shown))) <= 100
    assert shown.count("because") == 40


def test_markup_in_a_name_is_only_text() -> None:
    shown = render.runs_table([run(run_id="[red]x[/red]")], now=NOW, terminal=True, width=160)
    assert "[red]x[/red]" in shown


def test_a_job_cannot_take_over_the_terminal() -> None:
    summary = run(reason="\x1b]0;owned\x07 two\nlines", attempts=(attempt(1, 0, 5, 0, 1, reason="\x1b[2J"),))
    for shown in (render.runs_table([summary], now=NOW), render.run_text(summary, now=NOW)):
        assert "\x1b" not in shown
        assert "\x07" not in shown
        assert "owned" in shown
    assert len(lines(render.runs_table([summary], now=NOW))) == 2


def test_one_run_is_told_in_full() -> None:
    shown = render.run_text(run(job="jobs/mnist"), now=NOW)
    for wanted in (
        RUN_ID, "SUCCEEDED", "300/300, 3 epochs finished", "exact. The same bits", "evaluate.loss", "0.4375",
        "once; at least 30 steps computed again, 30 s between attempts", "5a" * 32, "0b" * 32, "jobs/mnist",
        f"runs/{RUN_ID}.0002.work2/results", "it ended without a word", "2025-03-01 12:01:00", "2.00 MB",
        "500 kB", "1 min ago",
    ):  # fmt: skip
        assert wanted in shown, wanted


def test_a_failed_run_shows_message_and_traceback() -> None:
    failure = Failure(kind="ValueError", message="no such column", traceback="Traceback:\n\tline 3\x1b[0m\n")
    shown = render.run_text(run(state=RunState.FAILED, failure=failure), now=NOW)
    assert "because        no such column" in shown
    assert shown.endswith("Traceback:\n\tline 3\N{REPLACEMENT CHARACTER}[0m")
    assert "no such column" in render.runs_table([run(state=RunState.FAILED, failure=failure)], now=NOW)


def test_a_run_at_work_shows_who_works_and_since_when_it_was_heard_of() -> None:
    summary = run(
        state=RunState.RUNNING,
        attempts=(attempt(1, 0, None, 0, 10, state=AttemptState.RUNNING),),
        lease=LeaseSummary(worker="work1", lease_s=60, heard_at=at(190)),
        exactness=Exactness.APPROXIMATE,
        exactness_reasons=("code changed",),
        checkpoints=(),
    )
    shown = render.run_text(summary, now=NOW)
    assert "work1, heard of 10 s ago" in shown
    assert "- code changed" in shown
    assert "3 min 20 s" in shown
    assert "interrupted    never" in shown
    assert "at 300" in render.runs_table([summary], now=NOW)


def test_a_waiting_run_says_for_what() -> None:
    summary = run(
        state=RunState.QUEUED, waiting_for=WaitingFor.AFTER, attempts=(), metrics={}, checkpoints=()
    )
    assert "another run to succeed first" in render.run_text(summary, now=NOW)


def test_one_run_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    shown = render.run_text(run(), now=NOW, terminal=True, width=120)
    assert "\x1b[" in shown
    assert RUN_ID in shown


@pytest.mark.parametrize("terminal", [False, True])
def test_a_drill_has_a_line_for_each_cut(terminal: bool) -> None:
    rows = [Row(), Row(cut=2, how="during a commit", step_reached=None, result="digest differs", is_ok=False)]
    shown = render.drill_table(rows, terminal=terminal, width=120)
    for wanted in ("CUT", "HOW", "RESUMED AT", "mid-epoch", "1,311", "1,204", "107", "ok", "digest differs"):
        assert wanted in shown
    assert len(lines(shown)) == 3


@pytest.mark.parametrize("terminal", [False, True])
def test_problems_come_with_their_remedy(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    found = [
        Found(subject="root", message="./runs is a root"),
        Found(subject="keras", message="3.5 is too old", remedy="pip install -U keras", is_fault=True),
    ]
    shown = lines(render.problems(found, terminal=terminal, width=100))
    assert shown == [
        "fine   root   ./runs is a root",
        "fault  keras  3.5 is too old",
        "       → pip install -U keras",
    ]
    assert render.problems([]) == ""


def test_a_difference_is_one_line() -> None:
    found = Difference(kind=DifferenceKind.STATE, where="x", message="x: 1 against 2")
    assert render.difference_text(found, label_a="a", label_b="b") == "different: x: 1 against 2"
    assert render.difference_text(None, label_a="a", label_b="b").startswith("identical: a and b")


def test_json_is_read_by_every_reader() -> None:
    value: dict[Any, Any] = {"a": float("nan"), "b": [float("inf"), (float("-inf"), 1.5)], "ü": None, 3: True}
    shown = render.json_text(value)
    assert json.loads(shown, parse_constant=pytest.fail) == {
        "a": "NaN",
        "b": ["Infinity", ["-Infinity", 1.5]],
        "ü": None,
        "3": True,
    }
    assert json.loads(render.json_text([run().to_json()]))[0]["run_id"] == RUN_ID


def test_plain_output_needs_no_rich() -> None:
    code = (
        "import sys, driverun.cli.render; sys.exit(any(name.split('.')[0] == 'rich' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_numbers_can_be_read_by_a_pipe() -> None:
    shown = render.run_text(run(metrics={"fit.gain": -0.5}), now=NOW)
    assert "fit.gain  -0.5000" in shown
