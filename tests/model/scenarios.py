"""What is explored whole, with the number of states below which something is wrong with the exploration."""

from __future__ import annotations

from tests.model.explore import Scenario
from tests.model.program import Job, Wait

ONE, TWO, THREE = Job(commits=1), Job(commits=2), Job(commits=3)

#: Two workers, with at least so many states.
SCENARIOS: tuple[tuple[Scenario, int], ...] = (
    (Scenario(name="three commits, old ones deleted", job=THREE), 13000),
    (Scenario(name="commits faster than the listing lag", job=Job(commits=2, wait=Wait.NEVER)), 5500),
    (Scenario(name="a pause before old ones are deleted", job=Job(commits=3, wait=Wait.SWEEPING)), 9000),
    (Scenario(name="no properties: records are read", job=TWO, keeps_properties=False), 6000),
    (Scenario(name="heartbeats", job=Job(commits=2, beats=True)), 11000),
    (Scenario(name="a lost answer", job=TWO, lost=1), 24000),
    (Scenario(name="two objects of one name", job=ONE, lost=1, twins=1), 40000),
    (Scenario(name="three things at the tick of another", job=TWO, ties=3), 8000),
    (Scenario(name="one comes back", job=ONE, lives=(2, 1)), 26000),
    (Scenario(name="cancel", job=ONE, wishes=("cancel",)), 24000),
    (Scenario(name="retry --fresh", job=ONE, wishes=("retry fresh",)), 36000),
    (Scenario(name="an error, then retry", job=Job(commits=1, fails_after=1), wishes=("retry",)), 12000),
)

#: For those who have time: `python -m tests.model`.
LONG: tuple[Scenario, ...] = (
    Scenario(name="a crash and a new worker", job=ONE, restarts=1),
    Scenario(name="two lost answers", job=TWO, lost=2),
    Scenario(
        name="two objects of one name, two commits, both come back", job=TWO, lives=(2, 2), lost=1, twins=1
    ),
    Scenario(name="both come back", job=ONE, lives=(2, 2)),
    Scenario(name="one comes back, two commits, a lost answer", job=TWO, lives=(2, 1), lost=1),
    Scenario(name="cancel, then retry", job=ONE, wishes=("cancel", "retry")),
    Scenario(name="cancel, then retry --fresh, two commits", job=TWO, wishes=("cancel", "retry fresh")),
    Scenario(name="three workers", job=ONE, workers=("a", "b", "c"), lives=(1, 1, 1)),
)
