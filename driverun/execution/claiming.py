"""From a run that was chosen to one that is this worker's, with all that its attempt has to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from driverun.dispatch.claim import claim_run
from driverun.dispatch.heartbeat import RecordKeeper
from driverun.dispatch.lacks import results_given
from driverun.dispatch.lease import LeaseWatch, may_be_stale
from driverun.dispatch.ledger import Ledger
from driverun.dispatch.takeover import state_before
from driverun.dispatch.trust import approval_text
from driverun.execution.assignment import Assignment
from driverun.execution.context import WorkerContext
from driverun.execution.outcome import Outcome
from driverun.execution.standing import state_as_alive
from driverun.execution.stopping import StopAsked, StoppableClock
from driverun.execution.warm_start import origin_of
from driverun.runs.evidence import RunEvidence
from driverun.runs.layout import AttemptKey, EntryKind
from driverun.runs.ownership import owner_of
from driverun.runs.record import AttemptState, Record
from driverun.runs.state import RunState
from driverun.spec.model import JobSpec
from driverun.transfer.given import GivenResults


class _NoResultsYet(Exception):
    """Of a run that comes before; says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claiming:
    """Claims runs for one worker. What changed since a run was chosen is seen here, before or after the claim."""

    context: WorkerContext
    ledger: Ledger
    watch: LeaseWatch
    patient: StoppableClock
    spec_of: Callable[[RunEvidence], JobSpec | None]

    def claim(self, run_id: str) -> Assignment | Outcome | None:
        """Make the run this worker's.

        Gives what its attempt has to do; how it ended where the claim was won and nothing can come of it; None where
        the run is another's.
        """
        context = self.context
        evidence = self.ledger.detailed(run_id, {EntryKind.WISH})
        if evidence is None or self.spec_of(evidence) is None or evidence.unapproved is not None:
            return None  # only its head was sound; the next look leaves it alone
        owner = owner_of(evidence.claims)
        if owner is not None and may_be_stale(owner) and not self.watch.is_stale(owner):
            return None  # it has moved since it was found to stand still
        number = evidence.highest_number + 1
        try:
            won = claim_run(context.store, run_id, evidence, context.worker, context.process, self.patient)
        except StopAsked:
            assert context.stop.stop is not None, "that is what it says"
            key = AttemptKey(run_id=run_id, number=number, worker=context.worker)
            return self._give_up(key, AttemptState.INTERRUPTED, context.stop.stop.value)
        if won is None:
            context.say(f"{run_id}: another worker was first")
            return None
        self.ledger.refresh()
        evidence = self.ledger.detailed(run_id, {EntryKind.WISH})
        if evidence is None:
            context.say(f"{run_id}: its files were deleted as it was taken up")
            return None
        spec = self.spec_of(evidence)
        if spec is None or evidence.run_file is None or not evidence.is_read:
            return self._give_up(won.key, AttemptState.INTERRUPTED, "its files changed as it was taken up")
        before = state_before(evidence, won.key, max_errors=spec.retry.max_errors)
        if before.state is RunState.CANCELLED:
            return self._give_up(won.key, AttemptState.CANCELLED, before.reason)
        if before.state is RunState.FAILED:
            return self._give_up(won.key, AttemptState.FAILED, before.reason)
        if evidence.unapproved is not None:  # since it was chosen
            reason = approval_text(run_id, evidence.unapproved)
            return self._give_up(won.key, AttemptState.INTERRUPTED, reason)
        try:
            given = self._given(evidence)
        except _NoResultsYet as exc:
            return self._give_up(won.key, AttemptState.INTERRUPTED, f"comes after {exc}: no results yet")
        return Assignment(
            key=won.key,
            claims=tuple(won.claims),
            run_file=evidence.run_file,
            spec=spec,
            derived=before,
            given=given,
            origin=partial(origin_of, evidence.run_file, self.ledger),
        )

    def _given(self, evidence: RunEvidence) -> list[GivenResults]:
        """The results of other runs that are among its data. Raises _NoResultsYet."""
        given: list[GivenResults] = []
        for target, other in results_given(evidence):
            by_now = self.ledger.run(other)
            earlier = state_as_alive(by_now) if by_now is not None else None
            if earlier is None or earlier.results is None:
                raise _NoResultsYet(other)
            given.append(GivenResults(target=target, run_id=other, folder=earlier.results.path))
        return given

    def _give_up(self, key: AttemptKey, state: AttemptState, reason: str) -> Outcome:
        """Nothing comes of the claim: say so, so that nobody waits for it."""
        clock = self.context.clock
        now = clock.now()
        record = Record(
            run_id=key.run_id,
            number=key.number,
            worker=key.worker,
            process=self.context.process,
            state=state,
            beat=0,
            started_at=now,
            updated_at=now,
            ended_at=now,
            reason=reason,
            lease_s=self.context.settings.lease_s,
        )
        RecordKeeper(self.context.store, clock, record).create()
        return Outcome(state=state, reason=reason)
