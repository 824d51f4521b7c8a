"""What each interruption of a run cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from driverun.report.summary import AttemptSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruption:
    """The end of one attempt, and where the next one took up."""

    after: int  #: number of the attempt that ended
    before: int  #: number of the one that took over
    died: bool  #: without a word, as in a power cut
    reached_step: int | None  #: as last heard of
    resumed_at_step: int | None
    steps_repeated: int | None  #: None where one of the two is not known
    pause_s: float  #: from the last sign of life to the next attempt's claim


def interruptions_of(attempts: Sequence[AttemptSummary]) -> tuple[Interruption, ...]:
    """What lay between each attempt and the next, attempts that never owned the run left out."""
    owned = [attempt for attempt in attempts if attempt.owned]
    return tuple(_between(earlier, later) for earlier, later in pairwise(owned))


def _between(earlier: AttemptSummary, later: AttemptSummary) -> Interruption:
    ended_at = earlier.ended_at if earlier.ended_at is not None else later.started_at
    reached, resumed = earlier.last_step, later.first_step
    return Interruption(
        after=earlier.number,
        before=later.number,
        died=earlier.died,
        reached_step=reached,
        resumed_at_step=resumed,
        steps_repeated=None if reached is None or resumed is None else max(0, reached - resumed),
        pause_s=max(0.0, (later.started_at - ended_at).total_seconds()),
    )
