from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from driverun.report.curves import Curves, read_curves
from driverun.report.page import Report, report_html
from driverun.report.summary import LeaseSummary, RunSummary
from driverun.runs.record import AttemptState, Exactness, Failure
from driverun.runs.state import RunState, WaitingFor
from tests.report.samples import RUN_FILE, RUN_ID, at, attempt, epoch_ended, event, run

VOID = {"meta", "link", "br", "img", "input", "hr"}
HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Checks that tags are closed in order; gathers text, tags and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def curves() -> Curves:
    begun = event("fit_begun", fit=0, step=0, epochs=3, steps_per_epoch=100)
    first = begun + epoch_ended(0, 0, 100, loss=1.0, val_loss=1.5, accuracy=0.5)
    resumed = event("resumed", fit=0, step=130, epoch=1, step_in_epoch=30)
    rest = epoch_ended(0, 1, 200, loss=0.5, val_loss=0.75, accuracy=0.75) + epoch_ended(0, 2, 300, loss=0.25)
    return read_curves([(1, first), (2, resumed + rest)])


def page(summary: RunSummary, **fields: object) -> Page:
    return Page(report_html(Report(summary=summary, **fields)))  # type: ignore[arg-type]


def full() -> Report:
    return Report(
        summary=run(),
        curves=curves(),
        run_file=RUN_FILE,
        environment={"host": "lab", "versions": {"keras": "3.15.1"}, "devices": ["CPU: 2 cores"]},
        log_tail="Epoch 3/3\n",
    )


def test_a_page_tells_all_about_a_run() -> None:
    shown = Page(report_html(full()))
    for wanted in (
        "mnist", RUN_ID, "SUCCEEDED", "exact", "The same bits as a run that was never interrupted.",
        "0.2500", "0.5000", "0.4375",  # final metrics
        "Interrupted once. At least 30 steps were computed again (10.0% of all), and 30 s passed between attempts.",
        "it ended without a word", "work1", "2.00 MB", "500 kB", "2025-03-01 12:01:28",
        "train.py --fast", "data/mnist.npz", "optimizer.name", "adam", "seed", "keras", "3.15.1",
        "CPU: 2 cores", "5a" * 32, "0b" * 32, "c0de" * 16, f"runs/{RUN_ID}.0002.work2/results", "Epoch 3/3",
        "*.tmp",
    ):  # fmt: skip
        assert wanted in shown.text, wanted


def test_a_page_loads_nothing_and_runs_nothing() -> None:
    html = report_html(full())
    shown = Page(html)
    assert {"script", "iframe", "img", "object", "embed", "base", "form"}.isdisjoint(shown.tags)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html)
    assert all(value == "data:," for name, value in shown.attributes if name in ("src", "href"))
    assert not any(name.startswith("on") for name, _ in shown.attributes)


def test_a_page_suits_dark_rooms_phones_and_paper() -> None:
    html = report_html(full())
    assert "prefers-color-scheme:dark" in html
    assert "@media print" in html
    assert 'name="viewport"' in html


def test_the_same_run_gives_the_same_page() -> None:
    assert report_html(full()) == report_html(full())


def test_training_and_validation_share_a_chart() -> None:
    shown = Page(report_html(full()))
    assert shown.tags.count("figure") == 2  # loss with val_loss, accuracy
    assert "validation, epoch 2: 0.7500" in shown.text
    assert "attempt 2 took up at step 130" in shown.text


@pytest.mark.parametrize("state", list(RunState))
def test_a_run_without_anything_has_a_page(state: RunState) -> None:
    shown = page(RunSummary(run_id=RUN_ID, name="mnist", state=state))
    assert state.value in shown.text
    assert "No metrics have been reported." in shown.text
    assert "No curves: no epoch has ended yet." in shown.text
    assert "No worker has taken it up yet." in shown.text
    assert "exact" not in shown.text


def test_what_a_job_chose_is_escaped() -> None:
    events = event("fit_begun", fit=0, epochs=1) + epoch_ended(0, 0, 1, **{HOSTILE: 1.0, "loss": 1.0})
    failure = Failure(kind=HOSTILE, message=HOSTILE, traceback=HOSTILE)
    summary = run(
        name=HOSTILE,
        state=RunState.FAILED,
        reason=HOSTILE,
        failure=failure,
        exactness=Exactness.APPROXIMATE,
        exactness_reasons=(HOSTILE,),
        metrics={f"fit.{HOSTILE}": 1.0, HOSTILE: 2.0},
        attempts=(attempt(1, 0, 5, 0, 1, reason=HOSTILE, worker=HOSTILE),),
        results_path=HOSTILE,
        job=HOSTILE,
        code_sha256=HOSTILE,
    )
    html = report_html(
        Report(
            summary=summary,
            curves=read_curves([(1, events)]),
            run_file=RUN_FILE,
            environment={HOSTILE: HOSTILE, "versions": {HOSTILE: [HOSTILE]}},
            log_tail=HOSTILE,
        )
    )
    shown = Page(html)
    assert {"script", "img"}.isdisjoint(shown.tags)
    assert shown.text.count("<script>alert('x')</script>") >= 12
    assert not any(name.startswith("on") for name, _ in shown.attributes)


def test_a_failed_run_shows_its_traceback_and_its_log_first_hand() -> None:
    failure = Failure(kind="ValueError", message="no such column", traceback="Traceback:\n  line 3")
    shown = page(run(state=RunState.FAILED, failure=failure), log_tail="last words\x1b[31m\n")
    assert "ValueError. no such column" in shown.text
    assert "Traceback:\n  line 3" in shown.text
    assert "last words\N{REPLACEMENT CHARACTER}[31m" in shown.text
    assert "details" not in shown.tags


def test_a_run_that_failed_without_a_word_of_its_own_shows_the_reason() -> None:
    shown = page(run(state=RunState.FAILED, reason="ten attempts died", failure=None))
    assert "ten attempts died" in shown.text


def test_an_approximate_run_gives_its_reasons_in_words() -> None:
    shown = page(run(exactness=Exactness.APPROXIMATE, exactness_reasons=("code changed", "data changed.")))
    assert "Code changed." in shown.text
    assert "Data changed." in shown.text


def test_a_waiting_run_says_for_what() -> None:
    shown = page(run(state=RunState.QUEUED, waiting_for=WaitingFor.DATA, attempts=()))
    assert "Waits for data that is not on the root yet." in shown.text


def test_values_that_are_not_finite_are_counted() -> None:
    events = epoch_ended(0, 0, 1, loss=float("nan")) + epoch_ended(0, 1, 2, loss=0.5)
    shown = page(run(metrics={"fit.loss": float("nan")}), curves=read_curves([(1, events)]))
    assert "1 value not finite." in shown.text
    assert "NaN" in shown.text


def test_further_fits_are_folded_away() -> None:
    events = b"".join(epoch_ended(fit, 0, fit + 1, loss=1.0) for fit in range(5))
    shown = page(run(), curves=read_curves([(1, events)]))
    assert shown.tags.count("figure") == 5
    assert shown.tags.count("details") == 2
    assert "Fit 5, 1 epoch" in shown.text


def test_a_run_at_work_is_told_of_up_to_now() -> None:
    summary = run(
        state=RunState.RUNNING,
        attempts=(attempt(1, 0, None, 0, 10, state=AttemptState.RUNNING),),
        lease=LeaseSummary(worker="work1", lease_s=60, heard_at=at(40)),
    )
    assert "40 s" in page(summary).text
    shown = page(summary, as_of=at(75))
    assert "1 min 15 s" in shown.text
    assert "as of 2025-03-01T12:01:15.000Z" in shown.text
    assert "Exact so far." in shown.text


def test_an_attempt_that_lost_its_number_has_a_row_but_no_bar() -> None:
    loser = attempt(1, 1, 2, 0, 1, owned=False, worker="loser")
    shown = page(run(attempts=(*run().attempts, loser)))
    assert "loser" in shown.text
    assert shown.text.count("Attempt 1") == 2  # the label and the title of one bar
