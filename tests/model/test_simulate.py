"""Up to 32 workers in continuous time, by seeds."""

from __future__ import annotations

import os

import pytest

from tests.model.mutants import BLIND, Mutant, in_time
from tests.model.program import Snapshots
from tests.model.simulate import Story, tell

STORIES = int(os.environ.get("DRIVERUN_MODEL_STORIES", "60"))


def test_many_workers(many_snapshots: Snapshots) -> None:
    stories = [tell(seed, many_snapshots) for seed in range(STORIES)]
    broken = [story for story in stories if story.violation is not None]
    assert not broken, str(broken[0])
    assert {story.workers for story in stories} == {3, 4, 8, 16, 32}
    assert sum(story.overlaps for story in stories) > STORIES // 6, "workers are taken for dead and wake up"
    assert sum(story.crashes for story in stories) > STORIES
    assert sum(story.attempts for story in stories) > 2 * STORIES


def test_a_seed_tells_the_same_story_each_time(many_snapshots: Snapshots) -> None:
    once, again = (tell(11, many_snapshots) for _ in range(2))
    assert list(once.log) == list(again.log)
    assert str(once) == str(again)


@pytest.mark.parametrize("mutant", [*in_time(), BLIND], ids=str)
def test_a_broken_lease_or_an_endless_overlap_is_found(mutant: Mutant, many_snapshots: Snapshots) -> None:
    with mutant.at_work():
        found = _first_broken(many_snapshots)
    assert found is not None
    assert found.violation is not None
    assert any(each in found.violation for each in mutant.says.split("|")), str(found)


def _first_broken(snapshots: Snapshots) -> Story | None:
    return next((story for seed in range(60) if (story := tell(seed, snapshots)).violation is not None), None)
