"""For how long a worker lets a run rest that could not go on there."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from driverun.execution.holding_back import LONGEST_REST_S, REST_S, TRIES, HeldBack
from driverun.execution.outcome import Outcome
from driverun.runs.record import AttemptState, Failure

RUN = "job-0123456789ab"
KEPT = Outcome.interrupted("the disk is full")


def test_each_try_that_moves_nothing_doubles_the_rest_until_the_run_is_left() -> None:
    held = HeldBack()
    rests = [held.note(RUN, KEPT, now_s=0.0, may_give_up=True) for _ in range(TRIES)]
    assert rests == [REST_S, 2 * REST_S, math.inf]
    assert held.holds(RUN, now_s=1e9)
    assert list(held.ends()) == []


def test_who_does_not_give_up_tries_again_and_again() -> None:
    held = HeldBack()
    rests = [held.note(RUN, KEPT, now_s=0.0, may_give_up=False) for _ in range(10)]
    assert rests[-1] == LONGEST_REST_S


def test_progress_is_a_new_beginning() -> None:
    held = HeldBack()
    for _ in range(5):
        assert held.note(RUN, replace(KEPT, moved_on=True), now_s=0.0, may_give_up=True) == REST_S


def test_after_its_rest_the_run_may_be_taken_up_and_why_it_rested_is_still_known() -> None:
    held = HeldBack()
    held.note(RUN, KEPT, now_s=5.0, may_give_up=True)
    assert list(held.ends()) == [(RUN, 5.0 + REST_S)]
    assert held.holds(RUN, now_s=4.9 + REST_S)
    assert not held.holds(RUN, now_s=5.0 + REST_S)
    assert held.reason(RUN) == "the disk is full"


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(state=AttemptState.SUCCEEDED, reason=""),
        Outcome.failed(Failure(kind="ValueError", message="wrong", traceback="")),
        replace(KEPT, superseded=True),
    ],
)
def test_a_run_that_is_over_or_anothers_is_not_held_back(outcome: Outcome) -> None:
    held = HeldBack()
    held.note(RUN, KEPT, now_s=0.0, may_give_up=True)
    assert held.note(RUN, outcome, now_s=0.0, may_give_up=True) is None
    assert not held.holds(RUN, now_s=0.0)
    assert held.reason(RUN) is None
