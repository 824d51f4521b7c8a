"""How long a run rests after its errors, and which of them it does not survive."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from driverun.runs.evidence import ClaimEvidence
from driverun.runs.record import Failure
from driverun.runs.retries import backoff_s, tried_again_at, worked_s
from driverun.runs.state import RunState
from tests.runs.test_state import at, attempt, derived, retry


def failed(
    number: int, kind: str = "ValueError", *, first: int = 0, last: int = 7, message: str = "boom"
) -> ClaimEvidence:
    """An attempt that trained from step `first` to `last` and met an error of this kind there."""
    claim = attempt(number, "FAILED")
    assert claim.record is not None
    failure = Failure(kind=kind, message=message, traceback="")
    return replace(claim, record=replace(claim.record, failure=failure, first_step=first, step=last))


@pytest.mark.parametrize(
    ("errors", "expected_s"), [(1, 30.0), (2, 60.0), (3, 120.0), (7, 1920.0), (8, 3600.0), (10_000, 3600.0)]
)
def test_the_rest_doubles_with_each_error_up_to_an_hour(errors: int, expected_s: float) -> None:
    assert backoff_s(errors, first_s=30.0) == expected_s


def test_a_run_rests_from_the_end_of_the_attempt_that_failed() -> None:
    once = derived(failed(1, last=3), max_errors=5)
    assert once.attempts[-1].ended_at is not None
    assert tried_again_at(once, first_s=30.0) == once.attempts[-1].ended_at + timedelta(seconds=30)
    twice = derived(failed(1, last=3), failed(2), max_errors=5)
    assert twice.attempts[-1].ended_at is not None
    assert tried_again_at(twice, first_s=30.0) == twice.attempts[-1].ended_at + timedelta(seconds=60)


def test_who_has_rested_or_was_asked_for_does_not_rest() -> None:
    assert tried_again_at(derived(failed(1), attempt(2, "INTERRUPTED"), max_errors=5), first_s=30.0) is None
    assert tried_again_at(derived(failed(1), retry(17), max_errors=5), first_s=30.0) is None
    assert tried_again_at(derived(failed(1), max_errors=1), first_s=30.0) is None, "it is FAILED"
    assert tried_again_at(derived(attempt(1, "INTERRUPTED"), max_errors=5), first_s=30.0) is None


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("memory", RunState.FAILED), ("Timeout", RunState.FAILED), ("ValueError", RunState.INTERRUPTED)],
)
def test_some_errors_end_a_run_however_many_are_forgiven(kind: str, expected: RunState) -> None:
    assert derived(failed(1, kind), max_errors=5).state is expected
    assert derived(failed(1, kind), retry(17), max_errors=5).state is RunState.INTERRUPTED


def test_the_same_error_at_the_same_step_is_not_tried_a_third_time() -> None:
    run = derived(failed(1), failed(2, first=6), max_errors=5)
    assert run.state is RunState.FAILED
    assert "the same error twice in a row at step 7" in run.reason


def test_errors_are_the_same_by_what_a_listing_shows_of_their_messages() -> None:
    """Who reads the whole of them, as `driverun status RUN` does, says what the worker says that does not."""
    first, second = (f"{'cannot fit ' * 40}{end}" for end in ("a", "b"))
    run = derived(failed(1, message=first), failed(2, first=6, message=second), max_errors=5)
    assert run.state is RunState.FAILED
    run = derived(failed(1, message="cannot fit a"), failed(2, first=6, message="cannot fit b"), max_errors=5)
    assert run.state is RunState.INTERRUPTED


@pytest.mark.parametrize(
    "second",
    [
        failed(2, first=6, last=8),
        failed(2, "KeyError", first=6),
        failed(2, first=7),  # it made no step: perhaps something outside is down
    ],
    ids=["later", "other", "before training"],
)
def test_another_error_is_tried_again(second: ClaimEvidence) -> None:
    assert derived(failed(1), second, max_errors=5).state is RunState.INTERRUPTED


def test_the_time_worked_is_that_of_all_attempts_since_the_last_retry() -> None:
    before = derived(attempt(1, "INTERRUPTED"))
    one_s = worked_s(before)
    assert one_s > 0
    both = derived(attempt(1, "INTERRUPTED"), attempt(2, "FAILED"), attempt(3, "RUNNING"), max_errors=5)
    assert worked_s(both) == 2 * one_s, "what is at work is counted by who works"
    since = derived(attempt(1, "FAILED"), retry(17), attempt(2, "INTERRUPTED"))
    assert since.retried_at == at(17)
    assert worked_s(since) == one_s
