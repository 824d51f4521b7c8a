from __future__ import annotations

from driverun.report.interruptions import interruptions_of
from tests.report.samples import ATTEMPTS, attempt


def test_an_interruption_costs_the_steps_behind_the_checkpoint_and_the_pause() -> None:
    (cut,) = interruptions_of(ATTEMPTS)
    assert (cut.after, cut.before, cut.died) == (1, 2, True)
    assert (cut.reached_step, cut.resumed_at_step, cut.steps_repeated, cut.pause_s) == (130, 100, 30, 30.0)


def test_an_uninterrupted_run_cost_nothing() -> None:
    assert interruptions_of(()) == ()
    assert interruptions_of(ATTEMPTS[:1]) == ()


def test_what_is_not_known_is_not_made_up() -> None:
    (cut,) = interruptions_of((attempt(1, 0, 5, 0, 10), attempt(2, 6, None, 0, 0, first_step=None)))
    assert cut.steps_repeated is None


def test_an_attempt_that_lost_its_number_interrupted_nothing() -> None:
    loser = attempt(1, 1, 2, 0, 1, owned=False)
    assert len(interruptions_of((ATTEMPTS[0], loser, ATTEMPTS[1]))) == 1


def test_clocks_that_overlap_give_no_negative_pause() -> None:
    (cut,) = interruptions_of((attempt(1, 0, 70, 0, 10), attempt(2, 60, 90, 20, 30)))
    assert (cut.pause_s, cut.steps_repeated) == (0.0, 0)
