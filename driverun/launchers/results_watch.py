"""Sees to it that what once was a run's result, to anybody who looked, stays its result."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from driverun.report.summary import RunSummary
from driverun.runs.state import RunState


@dataclass(slots=True)
class ResultsWatch:
    """Remembers what each run was when it was first said to have succeeded."""

    faults: list[str] = field(default_factory=list)
    _states: dict[str, RunState] = field(default_factory=dict)
    _results: dict[str, RunSummary] = field(default_factory=dict)

    def take(self, run: RunSummary) -> None:
        """Compare with what was seen before; what differs is told once."""
        self._states[run.run_id] = run.state
        before = self._results.get(run.run_id)
        if before is not None and _told(before) != _told(run):
            self.faults.append(f"{run.run_id} was {_told(before)} once, and is {_told(run)} now")
        if run.state is RunState.SUCCEEDED:
            self._results[run.run_id] = run
        else:
            self._results.pop(run.run_id, None)

    def over(self) -> set[str]:
        """The runs that nothing will happen to any more."""
        return {run_id for run_id, state in self._states.items() if state.is_over}

    def __str__(self) -> str:
        states = Counter(state.value for state in self._states.values())
        return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


def _told(run: RunSummary) -> str:
    results = (run.results_path, run.state_sha256, run.outputs_sha256)
    return f"{run.state.value} ({', '.join(str(each) for each in results)})"
