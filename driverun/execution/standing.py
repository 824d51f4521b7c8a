"""How the runs of a root stand, worked out anew for those alone of which something became known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from driverun.dispatch.ledger import Ledger
from driverun.runs.evidence import RunEvidence
from driverun.runs.state import Derived, derive_state
from driverun.spec.model import JobSpec


class Standing:
    """The runs that are not over. Those that are cost nothing but the memory that the ledger has for them."""

    def __init__(self, ledger: Ledger, *, spec_of: Callable[[RunEvidence], JobSpec | None]) -> None:
        """Follow `ledger`; `spec_of` reads the spec of a run, or gives None where it makes no sense."""
        self._ledger = ledger
        self._spec_of = spec_of
        self._revision = 0
        self._open: dict[str, Derived] = {}
        self._specs: dict[str, JobSpec | None] = {}

    @property
    def open(self) -> Mapping[str, Derived]:
        """The runs that are not over as of the last update; one in other hands counts as alive."""
        return self._open

    def update(self) -> list[RunEvidence]:
        """Take over what the ledger has learned since; gives the runs that this is about, the oldest news first."""
        revision = self._ledger.revision
        touched = []
        for run_id in reversed(self._ledger.touched_since(self._revision)):
            self._specs.pop(run_id, None)
            evidence = self._ledger.run(run_id)
            if evidence is None:
                self._open.pop(run_id, None)
                continue
            touched.append(evidence)
            derived = state_as_alive(evidence)
            if derived.state.is_over:
                self._open.pop(run_id, None)
            else:
                self._open[run_id] = derived
        self._revision = revision
        return touched

    def spec(self, evidence: RunEvidence) -> JobSpec | None:
        """The spec of a run that is not over; None where it makes no sense."""
        if evidence.run_id not in self._specs:
            self._specs[evidence.run_id] = self._spec_of(evidence)
        return self._specs[evidence.run_id]

    def state_of(self, run_id: str) -> Derived | None:
        """How the run stands, over or not; None: there is none of that id."""
        if (known := self._open.get(run_id)) is not None:
            return known
        evidence = self._ledger.run(run_id)
        return state_as_alive(evidence) if evidence is not None else None


def state_as_alive(evidence: RunEvidence) -> Derived:
    """The state of a run whose owner, if it has not said how it ended, is taken to be at work."""
    return derive_state(evidence, max_errors=evidence.max_errors)
