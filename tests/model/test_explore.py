"""Two workers, every interleaving: what has to hold does, and where the protocol is broken, that is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.model.explore import Explorer, Scenario
from tests.model.mutants import BLIND, MUTANTS, Mutant
from tests.model.program import Job, Snapshots
from tests.model.scenarios import SCENARIOS

RESCUE_EVERY = 50
MOST_BROKEN = 60_000


@pytest.mark.parametrize(("scenario", "floor"), SCENARIOS, ids=lambda value: getattr(value, "name", ""))
def test_two_workers_at_every_interleaving(scenario: Scenario, floor: int, snapshots: Snapshots) -> None:
    explored = Explorer(scenario, snapshots).explore(rescue_every=RESCUE_EVERY)
    print(explored)  # noqa: T201 - pytest shows it with -s
    assert explored.violation is None, str(explored)
    assert explored.is_complete
    assert explored.states >= floor, f"the exploration has shrunk: {explored}"
    assert explored.rescued > 10
    if not scenario.wishes:
        assert explored.ends == explored.finished > 0, "whatever happens, the run gets its results"
    else:
        assert explored.finished > 0


def test_the_clocks_of_machines_are_never_compared(snapshots: Snapshots) -> None:
    scenario = Scenario(name="clocks", job=Job(commits=1))
    hours, none = (
        Explorer(replace(scenario, skews=skews), snapshots).explore() for skews in (scenario.skews, {})
    )
    assert hours.violation is None is none.violation
    assert (hours.states, hours.steps, hours.ends) == (none.states, none.steps, none.ends)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_broken_protocol_is_found_with_the_way_there(mutant: Mutant, snapshots: Snapshots) -> None:
    with mutant.at_work():
        explored = Explorer(mutant.scenario, snapshots).explore(most=MOST_BROKEN, rescue_every=RESCUE_EVERY)
    assert explored.violation is not None, f"not found in {explored.states} states"
    assert mutant.says in explored.violation, str(explored)
    assert "a001 lists ledger" in explored.trace or "b001 lists ledger" in explored.trace
    assert f"  => {explored.violation}" in str(explored)


def test_that_the_run_is_lost_need_not_be_noticed(snapshots: Snapshots) -> None:
    """The looks save GPU time, and what a sweep would delete; what counts is decided by the rules alone."""
    with BLIND.at_work():
        explored = Explorer(BLIND.scenario, snapshots).explore()
    assert explored.violation is None, str(explored)
    assert explored.is_complete
