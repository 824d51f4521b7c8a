"""Where a run stands, computed from what its root shows and stored nowhere."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from driverun.runs.attempts import AttemptView, attempt_views, finishers_of
from driverun.runs.evidence import ClaimEvidence, RunEvidence, WishEvidence
from driverun.runs.layout import AttemptKey, WishKind
from driverun.runs.ownership import manifest_counts, owner_of, owner_of_number
from driverun.runs.record import AttemptState, Record, ResultsRef
from driverun.runs.retries import lasting_reason
from driverun.values import frozen_value

__all__ = [
    "NO_PROGRESS_LIMIT",
    "AttemptView",
    "Derived",
    "RunState",
    "WaitingFor",
    "derive_state",
    "manifest_counts",
    "owner_of",
    "owner_of_number",
    "wish_refusal",
]

NO_PROGRESS_LIMIT = 10  #: deaths in a row that one may put down to bad luck with runtimes


class RunState(enum.Enum):
    """How a run stands."""

    QUEUED = "QUEUED"  #: no attempt yet
    RUNNING = "RUNNING"  #: claimed, its record moves
    INTERRUPTED = "INTERRUPTED"  #: claimed, its record stands still or says so; may be claimed again
    SUCCEEDED = "SUCCEEDED"  #: results committed; final
    FAILED = "FAILED"  #: lasting error, or no retries left; a person may ask for a retry
    CANCELLED = "CANCELLED"  #: a person asked for it; a person may ask for a retry

    @property
    def is_claimable(self) -> bool:
        """May a worker take it up? It may still have to wait for something."""
        return self in (RunState.QUEUED, RunState.INTERRUPTED)

    @property
    def is_over(self) -> bool:
        """Will nothing happen any more unless a person asks for it?"""
        return self in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)


class WaitingFor(enum.Enum):
    """What a claimable run lacks."""

    ACCELERATOR = "accelerator"  #: this runtime has not the kind it wants
    MEMORY = "memory"  #: this runtime has less than it wants
    DATA = "data"  #: a source is not on the root yet
    APPROVAL = "approval"  #: nobody has said that this code may run
    AFTER = "after"  #: another run has to succeed first
    SWEEP = "sweep"  #: as many runs of its sweep as may be are at work
    SECRET = "secret"  #: a value that it needs is in no place that this worker can ask
    BACKOFF = "backoff"  #: it failed a moment ago


@frozen_value(frozen=True, slots=True, kw_only=True)
class Derived:
    """Where a run stands, and why."""

    run_id: str
    state: RunState
    reason: str  #: one line for people; "" where there is nothing to say
    attempts: tuple[AttemptView, ...]  #: by number; of workers that lost a number, those who wrote a record
    owner: ClaimEvidence | None  #: of the highest number, whether it is alive or not
    record: Record | None  #: the one that tells how far the run has come
    results: ResultsRef | None
    results_key: AttemptKey | None  #: the attempt that made `results`
    is_poisoned: bool  #: it is FAILED because its attempts died one after the other, not for an error
    errors: int  #: failed attempts since the last retry was asked for
    retried_at: datetime | None  #: when that was
    cancel_requested: bool  #: the owner is at work and has to stop
    resume_after: int  #: attempts up to this number are not resumed from: a person asked for a fresh start
    code_sha256: str | None  #: what a retry asked to run in place of the code of the run file

    @property
    def starts_over(self) -> bool:
        """Would an attempt made now begin at step 0 because a person asked for it?"""
        return self.owner is not None and self.owner.key.number <= self.resume_after


def derive_state(
    evidence: RunEvidence, *, stale: Collection[AttemptKey] = frozenset(), max_errors: int = 1
) -> Derived:
    """Where the run stands.

    Args:
        evidence: all that is known of it.
        stale: attempts whose record is known to stand still for longer than its lease.
        max_errors: so many failed attempts make the run FAILED; fewer do where another try would be of no use.
    """
    owner = owner_of(evidence.claims)
    finishers = finishers_of(evidence.claims)
    views = attempt_views(evidence.claims, stale, finishers)
    owned = [view for view in views if view.owned]
    newest = owned[-1] if owned else None
    retries = _retries(evidence)
    retry = retries[-1] if retries else None
    order = evidence.newest_wish(WishKind.CANCEL, WishKind.RETRY)
    cancelled = order is not None and order.kind is WishKind.CANCEL
    resume_after = _resume_after(evidence, retries)
    recent = [view for view in owned if retry is None or view.started_at > retry.created_at]
    errors = sum(view.state is AttemptState.FAILED for view in recent)
    lasting = lasting_reason(recent)
    is_poisoned = False
    finished = _finished(evidence.claims, finishers)

    if finished is not None:
        state, reason = RunState.SUCCEEDED, ""
    elif newest is not None and newest.state is AttemptState.RUNNING:
        state, reason = RunState.RUNNING, "asked to stop" if cancelled else newest.reason
    elif cancelled:
        state, reason = RunState.CANCELLED, "cancelled by a person"
    elif newest is None:
        state, reason = RunState.QUEUED, ""
    elif newest.state is AttemptState.CANCELLED and order is None:
        state, reason = RunState.CANCELLED, newest.reason
    elif errors and (errors >= max_errors or lasting is not None):
        last = next(view for view in reversed(recent) if view.state is AttemptState.FAILED)
        state, reason = RunState.FAILED, last.reason if errors >= max_errors else lasting or ""
    elif _deaths_without_progress(owned, recent, resume_after) >= NO_PROGRESS_LIMIT:
        state, reason, is_poisoned = RunState.FAILED, _poisoned(evidence.run_id, owned), True
    else:
        state, reason = RunState.INTERRUPTED, newest.reason

    return Derived(
        run_id=evidence.run_id,
        state=state,
        reason=reason,
        attempts=views,
        owner=owner,
        record=finished[2] if finished is not None else _newest_record(evidence.claims),
        results=finished[1] if finished is not None else None,
        results_key=finished[0] if finished is not None else None,
        is_poisoned=is_poisoned,
        errors=errors,
        retried_at=retry.created_at if retry is not None else None,
        cancel_requested=state is RunState.RUNNING and cancelled,
        resume_after=resume_after,
        code_sha256=_code_override(retries),
    )


def wish_refusal(kind: WishKind, derived: Derived) -> str | None:
    """Why a person cannot have this wish now, with what to do instead; None where it is granted."""
    run_id, state = derived.run_id, derived.state
    if kind is WishKind.RETRY:
        if state is RunState.SUCCEEDED:
            return (
                f"cannot retry {run_id}: it has SUCCEEDED, and its results stay as they are. "
                "To compute it once more: driverun submit --again"
            )
        if state is RunState.QUEUED:
            return f"cannot retry {run_id}: it is QUEUED and waits for its first try: driverun work"
        if state is RunState.RUNNING:
            return f"cannot retry {run_id}: it is RUNNING. To stop it first: driverun cancel {run_id}"
    if kind in (WishKind.CANCEL, WishKind.PRIORITY) and state.is_over:
        verb = "cancel" if kind is WishKind.CANCEL else "move"
        return f"cannot {verb} {run_id}: it is over ({state.value}). See it with: driverun status {run_id}"
    return None


def _finished(
    claims: Sequence[ClaimEvidence], finishers: Mapping[AttemptKey, AttemptKey]
) -> tuple[AttemptKey, ResultsRef, Record] | None:
    """The results of the lowest attempt whose results count, and the record that tells most about them."""
    found = [
        (finishers[claim.key], record.results, record)
        for claim in claims
        if claim.key in finishers and (record := claim.record) is not None and record.results is not None
    ]
    return min(found, key=lambda item: (item[0], item[1].created_at, item[2].key), default=None)


def _newest_record(claims: Sequence[ClaimEvidence]) -> Record | None:
    """What the last owner that spoke has said; the newest one may not have come to it yet."""
    for number in sorted({claim.key.number for claim in claims}, reverse=True):
        owner = owner_of_number(claims, number)
        if owner is not None and owner.record is not None:
            return owner.record
    return None


def _deaths_without_progress(
    owned: Sequence[AttemptView], recent: Sequence[AttemptView], resume_after: int
) -> int:
    """How many attempts in a row, up to the newest, died and committed no step beyond those before."""
    furthest = deaths = 0
    for view in owned:
        if view.key.number <= resume_after:
            continue
        moved_on = (view.committed_step or 0) > furthest
        furthest = max(furthest, view.committed_step or 0)
        if view in recent:
            deaths = deaths + 1 if view.died and not moved_on else 0
    return deaths


def _poisoned(run_id: str, owned: Sequence[AttemptView]) -> str:
    furthest = max((view.committed_step or 0 for view in owned), default=0)
    return (
        f"the last {NO_PROGRESS_LIMIT} attempts or more all died without a word, and none committed a step "
        f"beyond {furthest}: the job may bring its runtime down, for instance by its memory. "
        f"Look at `driverun logs {run_id}`, then `driverun retry {run_id}`"
    )


def _resume_after(evidence: RunEvidence, retries: Sequence[WishEvidence]) -> int:
    fresh = [wish for wish in retries if wish.details.get("fresh") is True]
    if not fresh:
        return 0
    asked_at = fresh[-1].created_at
    return max((claim.key.number for claim in evidence.claims if claim.created_at <= asked_at), default=0)


def _code_override(retries: Sequence[WishEvidence]) -> str | None:
    """What the last retry that named any code asked for; one that names none keeps what ran before."""
    codes = [code for wish in retries if isinstance(code := wish.details.get("code_sha256"), str)]
    return codes[-1] if codes else None


def _retries(evidence: RunEvidence) -> list[WishEvidence]:
    """Oldest first."""
    return sorted(
        (wish for wish in evidence.wishes if wish.kind is WishKind.RETRY), key=lambda wish: wish.order
    )
