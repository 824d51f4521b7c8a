"""Two workers, every interleaving."""

from __future__ import annotations

from tests.model.explore import Explorer, Scenario
from tests.model.program import Job, Snapshots


def test_two_workers(snapshots: Snapshots) -> None:
    explored = Explorer(Scenario(name="two workers", job=Job(commits=2)), snapshots).explore()
    assert explored.violation is None, str(explored)
    assert explored.is_complete
    assert explored.states > 5_000
    assert explored.ends == explored.finished > 0
