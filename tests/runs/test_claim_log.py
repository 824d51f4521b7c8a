"""What a log of claims may show and what it may not: a good one, and each way to break a rule."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from driverun.runs.claim_log import Allowance, AttemptLog, ClaimAudit, WorkerLife, audit_claims
from driverun.runs.layout import AttemptKey
from driverun.runs.record import ProcessId

RUN = "digits-0123456789ab"
LEASE_S = 12.0


def at(second: float) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)


def process(host: str, pid: int) -> ProcessId:
    return ProcessId(host=host, boot_id="b", pid=pid, started="1")


def log(number: int, worker: str, claimed: float, *beats: float, **more: Any) -> AttemptLog:
    found = AttemptLog(
        key=AttemptKey(run_id=RUN, number=number, worker=worker),
        claimed_at=at(claimed),
        object_id=f"{number}-{worker}",
        process=process(f"host-{worker}", 1),
        lease_s=LEASE_S,
        beats=tuple(at(beat) for beat in beats),
        last_at=at(beats[-1]) if beats else None,
    )
    return replace(found, **more)


#: Attempt 1 commits step 5 and dies after second 6; attempt 2 takes up there once the lease is over, and finishes.
DIES = log(1, "anna", 0.0, 1.0, 4.0, 6.0, checkpoints={5: (at(5.0),)})
ENDS = log(2, "bert", 20.0, 21.0, 31.0, is_over=True, says_succeeded=True, first_step=5, results_at=at(30.0))
LIVES = (
    WorkerLife(host="host-anna", pid=1, ended_at=at(7.0)),
    WorkerLife(host="host-bert", pid=1),
)


def audited(*attempts: AttemptLog, lives: tuple[WorkerLife, ...] = LIVES) -> ClaimAudit:
    return audit_claims(attempts, lives, Allowance(listing_lag_s=1.0, heartbeat_s=3.0, slack_s=2.0))


def test_a_run_that_was_taken_over_after_the_lease_is_in_order() -> None:
    found = audited(DIES, ENDS)
    assert found.faults == ()
    assert found.resumed == 1
    assert found.overlaps == ()


def test_two_claims_of_one_number_are_in_order_where_the_later_one_stood_back() -> None:
    found = audited(DIES, ENDS, log(2, "carl", 20.5))
    assert found.faults == ()
    assert found.contested == 1


def test_a_dead_neighbour_needs_no_lease() -> None:
    neighbour = replace(ENDS, claimed_at=at(8.0), process=process("host-anna", 2))
    assert audited(DIES, neighbour).faults == ()


def test_an_outcome_needs_no_lease() -> None:
    handed_over = replace(DIES, is_over=True)
    assert audited(handed_over, replace(ENDS, claimed_at=at(6.5))).faults == ()


def test_a_claim_may_come_late_where_its_worker_stood_still_after_it_had_looked() -> None:
    """Anna wakes up and beats while Bert, who found her silent, is asleep himself."""
    anna = log(1, "anna", 0.0, 1.0, 40.0, checkpoints={5: (at(5.0),)})
    bert = replace(ENDS, claimed_at=at(45.0), beats=(at(46.0), at(56.0)), results_at=at(55.0))
    asleep = (LIVES[0], replace(LIVES[1], pauses=((at(20.0), at(44.5)),)))
    assert audited(anna, bert, lives=asleep).faults == ()
    (fault,) = audited(anna, bert).faults
    assert "claimed 5.0 s after the last sign of life" in fault


@pytest.mark.parametrize(
    ("attempts", "words"),
    [
        ((DIES, replace(ENDS, key=replace(ENDS.key, number=3))), "are [1, 3]"),
        ((DIES, replace(ENDS, claimed_at=at(9.0))), "3.0 s after the last sign of life"),
        ((DIES, ENDS, log(2, "carl", 20.5, 21.5, first_step=5)), "carl computed, though"),
        ((DIES, replace(ENDS, results_at=None)), "0 sets of results count"),
        ((replace(DIES, results_at=at(7.0)), ENDS), "2 sets of results count"),
        ((replace(DIES, checkpoints={5: (at(20.5),)}), ENDS), "no checkpoint of that step counts"),
        ((replace(DIES, last_at=at(26.5)), ENDS), "went on for 6.5 s after it was superseded; at most 6.0 s"),
        (
            (replace(DIES, is_over=True, says_succeeded=True), replace(ENDS, claimed_at=at(8.0))),
            "2.0 s after the last sign of life",
        ),
    ],
)
def test_what_breaks_a_rule_is_found(attempts: tuple[AttemptLog, ...], words: str) -> None:
    (fault,) = audited(*attempts).faults
    assert words in fault


def test_who_slept_may_overlap_for_as_long_as_that() -> None:
    anna = replace(DIES, last_at=at(40.0))
    asleep = (replace(LIVES[0], pauses=((at(7.0), at(39.5)),)), LIVES[1])
    found = audited(anna, ENDS, lives=asleep)
    assert found.faults == ()
    assert [(each.overlap_s, each.allowed_s) for each in found.overlaps] == [(20.0, 25.5)]
