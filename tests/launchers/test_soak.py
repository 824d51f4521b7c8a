"""The soak itself: what it counts as a fault, and that it runs. Its kills are for `driverun dev-soak`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from driverun.assembly import Surroundings
from driverun.clock import SystemClock
from driverun.errors import UsageError
from driverun.launchers.results_watch import ResultsWatch
from driverun.launchers.soak import SoakPlan, run_soak
from driverun.report.summary import RunSummary
from driverun.runs.state import RunState

RUNNING = RunSummary(run_id="digits-0123456789ab", name="digits", state=RunState.RUNNING)
DONE = replace(
    RUNNING, state=RunState.SUCCEEDED, results_path="runs/one/results", outputs_sha256="a", state_sha256="b"
)


def faults_of(*seen: RunSummary) -> list[str]:
    watch = ResultsWatch()
    for each in seen:
        watch.take(each)
    return watch.faults


def test_a_run_may_be_anything_until_it_has_succeeded() -> None:
    interrupted = replace(RUNNING, state=RunState.INTERRUPTED, outputs_sha256="x")
    assert faults_of(RUNNING, interrupted, RUNNING, DONE, DONE) == []


@pytest.mark.parametrize(
    ("later", "words"),
    [
        (replace(DONE, results_path="runs/two/results"), "is SUCCEEDED (runs/two/results, b, a) now"),
        (replace(DONE, outputs_sha256="c"), "is SUCCEEDED (runs/one/results, b, c) now"),
        (replace(DONE, state_sha256="c"), "is SUCCEEDED (runs/one/results, c, a) now"),
        (RUNNING, "is RUNNING (None, None, None) now"),
    ],
)
def test_results_that_change_are_a_fault(later: RunSummary, words: str) -> None:
    (fault,) = faults_of(RUNNING, DONE, later)
    assert words in fault
    assert faults_of(later, later) == []


def test_a_soak_runs_and_says_what_it_saw(tmp_path: Path) -> None:
    here = Surroundings(environment=dict(os.environ), cwd=tmp_path, home=tmp_path, clock=SystemClock())
    plan = SoakPlan(workers=2, runs=3, fits=0, run_s=0.3, minutes=0.0)
    found = run_soak(plan, seed=1, keep=tmp_path / "kept", here=here, say=lambda _: None)
    assert found.faults == ()
    assert "3 runs: 3 SUCCEEDED" in found.lines
    assert "3 with the very results of a single worker" in found.lines
    assert (tmp_path / "kept" / "many" / "worker-1.log").exists()
    with pytest.raises(UsageError, match="the folder is not empty"):
        run_soak(plan, seed=1, keep=tmp_path / "kept", here=here, say=lambda _: None)


def test_a_soak_without_workers_or_of_more_fits_than_runs_is_refused() -> None:
    with pytest.raises(UsageError, match="--workers and --runs are at least 1"):
        SoakPlan(workers=0)
    with pytest.raises(UsageError, match="4 of 3 runs"):
        SoakPlan(runs=3, fits=4)
