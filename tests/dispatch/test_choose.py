from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from driverun.dispatch.choose import Candidate, Capabilities, candidate_of, next_run, priority_of
from driverun.dispatch.lacks import Lack
from driverun.runs.evidence import RunEvidence, WishEvidence
from driverun.runs.layout import WishKind
from driverun.runs.record import RunFile
from driverun.runs.state import WaitingFor
from driverun.spec.model import Accelerator
from driverun.testing.clock import START

RUN = "digits-0123456789ab"
CPU = Capabilities()
GPU = Capabilities(accelerators=frozenset({Accelerator.GPU}))
DATA = Lack(waiting_for=WaitingFor.DATA, text="not on the root yet: data/a.npz")


def candidate(name: str, *, minute: float = 0, **fields: Any) -> Candidate:
    return Candidate(run_id=name, created_at=START + timedelta(minutes=minute), **fields)


def test_priority_comes_before_age_and_age_before_the_name() -> None:
    order = ["urgent", "old", "new-a", "new-b", "last"]
    runs = [
        candidate("urgent", minute=9, priority=5),
        candidate("old", minute=1),
        candidate("new-a", minute=2),
        candidate("new-b", minute=2),
        candidate("last", priority=-1),
    ]
    random.Random(0).shuffle(runs)
    taken = []
    while runs:
        chosen = next_run(runs, CPU).run_id
        taken.append(chosen)
        runs = [run for run in runs if run.run_id != chosen]
    assert taken == order
    assert next_run([], CPU).run_id is None


@pytest.mark.parametrize(
    ("wanted", "capabilities", "waits"),
    [
        (Accelerator.ANY, CPU, False),
        (Accelerator.ANY, GPU, False),
        (Accelerator.ANY, replace(CPU, allows_cpu=False), True),
        (Accelerator.ANY, replace(GPU, allows_cpu=False), False),
        (Accelerator.GPU, CPU, True),
        (Accelerator.GPU, GPU, False),
        (Accelerator.TPU, GPU, True),
    ],
)
def test_a_run_waits_for_the_accelerator_it_wants(
    wanted: Accelerator, capabilities: Capabilities, waits: bool
) -> None:
    choice = next_run([candidate("run", accelerator=wanted)], capabilities)
    assert [lack.waiting_for for lack in choice.waiting] == [WaitingFor.ACCELERATOR] * waits
    assert choice.run_id == (None if waits else "run")


@pytest.mark.parametrize(
    ("wanted", "given", "waits"), [(0, 8, False), (8, 8, False), (9, 8, True), (9, 0, False)]
)
def test_a_run_waits_for_the_memory_it_wants_where_the_runtime_tells_its_own(
    wanted: int, given: int, waits: bool
) -> None:
    run = candidate("run", min_memory_bytes=wanted * 10**9)
    choice = next_run([run], Capabilities(memory_bytes=given * 10**9))
    assert [lack.waiting_for for lack in choice.waiting] == [WaitingFor.MEMORY] * waits
    if waits:
        assert "wants 9.0 GB of main memory; this runtime has 8.0 GB" in choice.waiting[0].text


def test_what_waits_keeps_nothing_else_waiting_and_says_why() -> None:
    runs = [
        candidate("tpu", priority=9, accelerator=Accelerator.TPU),
        candidate("hungry", priority=8, lacks=(DATA,)),
        candidate("ready"),
        candidate("starved", minute=1, lacks=(DATA,)),
    ]
    choice = next_run(runs, GPU)
    assert choice.run_id == "ready"
    assert {lack.run_id: lack.waiting_for for lack in choice.waiting} == {
        "tpu": WaitingFor.ACCELERATOR,
        "hungry": WaitingFor.DATA,
        "starved": WaitingFor.DATA,
    }
    tpu, hungry, _ = (lack.text for lack in choice.waiting)
    assert "wants a TPU; this runtime has GPU" in tpu
    assert hungry == DATA.text


def wish(kind: WishKind, minute: float, **details: Any) -> WishEvidence:
    created_at = START + timedelta(minutes=minute)
    return WishEvidence(kind=kind, created_at=created_at, object_id=f"w{minute}", details=details)


def evidence(*wishes: WishEvidence) -> RunEvidence:
    run_file = RunFile(run_id=RUN, name="digits", code_sha256="ab", computed={})
    return RunEvidence(run_id=RUN, run_file=run_file, created_at=START, wishes=wishes)


def test_a_candidate_is_made_of_what_was_submitted_and_wished() -> None:
    submitted = wish(WishKind.SUBMIT, 1, spec={"priority": 3, "accelerator": "gpu", "min_memory": 5})
    whole = Candidate(
        run_id=RUN, created_at=START, priority=3, accelerator=Accelerator.GPU, min_memory_bytes=5
    )
    assert candidate_of(evidence(submitted)) == whole
    assert candidate_of(evidence(submitted), lacks=[DATA]) == replace(whole, lacks=(DATA,))
    moved = evidence(
        wish(WishKind.PRIORITY, 2, priority=1), submitted, wish(WishKind.PRIORITY, 3, priority=-7)
    )
    assert candidate_of(moved) == replace(whole, priority=-7)


def test_a_submission_that_is_not_wholly_there_is_no_candidate_yet() -> None:
    assert candidate_of(evidence()) is None
    submitted = evidence(wish(WishKind.SUBMIT, 1, spec={}))
    assert candidate_of(submitted) == Candidate(run_id=RUN, created_at=START)
    assert candidate_of(replace(submitted, run_file=None, created_at=None)) is None


@pytest.mark.parametrize("nonsense", ["high", None, 1.5, [1]])
def test_a_priority_that_is_none_is_passed_over(nonsense: object) -> None:
    submitted = wish(WishKind.SUBMIT, 1, spec={"priority": 3, "accelerator": nonsense})
    told = evidence(submitted, wish(WishKind.PRIORITY, 2, priority=nonsense))
    assert priority_of(told) == 3
    made = candidate_of(told)
    assert made is not None
    assert made.accelerator is Accelerator.ANY


def test_a_run_is_not_started_where_no_time_is_left_for_a_first_checkpoint() -> None:
    runs = [
        candidate("slow", priority=2, first_checkpoint_s=500.0),
        candidate("unknown", priority=1),
        candidate("quick", first_checkpoint_s=5.0),
    ]
    assert next_run(runs, CPU).run_id == "slow"
    assert next_run(runs, CPU, left_s=500.0).run_id == "slow"
    choice = next_run(runs, CPU, left_s=200.0)
    assert choice.run_id == "unknown"
    [lack] = choice.waiting
    assert (lack.run_id, lack.waiting_for) == ("slow", None)
    assert lack.text == (
        "3 min are left on this runtime, too little for a first checkpoint, which took 8 min before;"
        " it goes on in the next"
    )
    assert next_run(runs, CPU, left_s=60.0).run_id == "quick"
    assert next_run(runs, CPU, left_s=60.0, usual_s=30.0).run_id == "unknown"
    assert next_run(runs, CPU, left_s=4.0).run_id is None
