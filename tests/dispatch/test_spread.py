from __future__ import annotations

from datetime import UTC, datetime, timedelta

from driverun.dispatch.choose import Candidate, Capabilities, next_run
from driverun.dispatch.spread import REMEMBERED_S, Others, pick
from driverun.runs.evidence import ClaimEvidence, RunEvidence
from driverun.runs.layout import AttemptKey
from driverun.runs.state import Derived, derive_state

START = datetime(2026, 1, 1, tzinfo=UTC)
RUNS = [f"run-{number:012x}" for number in range(60)]
WORKERS = [f"worker{number}" for number in range(12)]


def test_alone_a_worker_takes_the_first() -> None:
    assert {pick(RUNS, others=0, worker=worker, turn=3) for worker in WORKERS} == {RUNS[0]}


def test_many_ask_for_different_runs_among_the_foremost() -> None:
    for turn in range(20):
        asked = {pick(RUNS, others=11, worker=worker, turn=turn) for worker in WORKERS}
        assert asked <= set(RUNS[:12])
        assert len(asked) >= 5


def test_the_first_is_passed_over_by_chance_and_not_for_long() -> None:
    for worker in WORKERS:
        assert RUNS[0] in {pick(RUNS, others=3, worker=worker, turn=turn) for turn in range(30)}


def test_fewer_runs_than_workers_will_do() -> None:
    assert pick(RUNS[:1], others=11, worker="worker1", turn=0) == RUNS[0]


def test_nobody_picks_a_run_of_lower_priority_or_one_that_has_to_wait() -> None:
    candidates = [
        Candidate(run_id=run_id, created_at=START + timedelta(seconds=index), priority=index % 2)
        for index, run_id in enumerate(RUNS)
    ]
    offered: list[list[str]] = []

    def take_last(run_ids: object) -> str:
        assert isinstance(run_ids, list)
        offered.append(run_ids)
        return str(run_ids[-1])

    assert next_run(candidates, Capabilities(), pick=take_last).run_id == RUNS[59]
    assert offered == [RUNS[1::2]]
    assert next_run(candidates, Capabilities(allows_cpu=False), pick=take_last).run_id is None
    assert len(offered) == 1


def claimed(run_id: str, *workers: str, number: int = 1) -> RunEvidence:
    return RunEvidence(
        run_id=run_id,
        claims=tuple(
            ClaimEvidence(
                key=AttemptKey(run_id=run_id, number=number, worker=worker),
                created_at=START + timedelta(seconds=index),
                object_id=worker,
            )
            for index, worker in enumerate(workers)
        ),
    )


def derived(evidence: RunEvidence, *dead: str) -> tuple[RunEvidence, Derived]:
    stale = {claim.key for claim in evidence.claims if claim.key.worker in dead}
    return evidence, derive_state(evidence, stale=stale)


def test_who_asks_for_what_is_running_is_about() -> None:
    others = Others("me00")
    runs = [derived(claimed(RUNS[0], "anna", "bert", "me00")), derived(claimed(RUNS[1]))]
    assert others.count(runs, now_s=0.0) == 2
    assert others.count([], now_s=REMEMBERED_S - 1) == 2, "they look for their next run"
    assert others.count([], now_s=REMEMBERED_S) == 0


def test_the_dead_are_not_about_so_what_they_left_is_taken_up_first() -> None:
    others = Others("me00")
    left = claimed(RUNS[0], "anna")
    assert others.count([derived(left)], now_s=0.0) == 1
    assert others.count([derived(left, "anna")], now_s=5.0) == 0
