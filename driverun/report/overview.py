"""Which of many runs a person is shown, and how many there are besides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from driverun.report.summary import RunSummary
from driverun.runs.evidence import RunEvidence
from driverun.runs.state import Derived, RunState

#: What wants a look first.
_ORDER = (RunState.RUNNING, RunState.INTERRUPTED, RunState.QUEUED)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Some runs, and a count of all."""

    runs: tuple[RunSummary, ...]  #: oldest first
    states: Mapping[RunState, int]  #: how many of all runs stand how
    left_out: int  #: of all runs, not among `runs`

    @property
    def text(self) -> str:
        """All runs in one line; "" where none is left out."""
        if not self.left_out:
            return ""
        states = ", ".join(
            f"{self.states[state]:,} {state.value}" for state in RunState if self.states.get(state)
        )
        total = sum(self.states.values())
        return f"{total:,} runs: {states}. {self.left_out:,} are left out: driverun status --all"


def worth_showing(
    runs: Mapping[str, RunEvidence], derived: Mapping[str, Derived], *, most: int | None
) -> list[str]:
    """The ids of the runs to show, oldest first: all of them, or of more than `most` those that matter most.

    Half of the room goes to what is not over, what is at work first; the rest to the newest of all.
    """

    def age(run_id: str) -> tuple[datetime, str]:
        return (runs[run_id].created_at or _LONG_AGO, run_id)

    ordered = sorted(runs, key=age)
    if most is None or len(ordered) <= most:
        return sorted(runs, key=lambda run_id: (runs[run_id].created_at is None, *age(run_id)))
    newest_first = ordered[::-1]
    open_ = [run_id for state in _ORDER for run_id in newest_first if derived[run_id].state is state]
    shown = set(open_[: most // 2])
    for run_id in newest_first:
        if len(shown) >= most:
            break
        shown.add(run_id)
    return [run_id for run_id in ordered if run_id in shown]


def overview_of(shown: list[RunSummary], derived: Mapping[str, Derived]) -> Overview:
    """`shown`, beside how all runs stand."""
    states = Counter(each.state for each in derived.values())
    return Overview(runs=tuple(shown), states=states, left_out=len(derived) - len(shown))
