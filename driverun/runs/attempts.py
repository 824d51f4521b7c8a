"""How each attempt of a run went, judged by what its root shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from driverun.runs.evidence import ClaimEvidence
from driverun.runs.layout import AttemptKey, attempt_of_path
from driverun.runs.ownership import manifest_counts, owner_of_number, superseded_at
from driverun.runs.record import AttemptState, Failure, Record
from driverun.values import frozen_value


@frozen_value(frozen=True, slots=True, kw_only=True)
class AttemptView:
    """How one attempt went. Times are the store's."""

    key: AttemptKey
    state: AttemptState
    started_at: datetime
    ended_at: datetime | None  #: of one that died: its last sign of life
    first_step: int | None
    last_step: int | None  #: as last heard of
    committed_step: int | None
    reason: str
    owned: bool = True  #: False: the number went to another worker, and nothing of this attempt counts
    died: bool = False  #: it ended without a word, as in a power cut
    failure: Failure | None = None  #: of one that FAILED


def attempt_views(
    claims: Sequence[ClaimEvidence],
    stale: Collection[AttemptKey],
    finishers: Mapping[AttemptKey, AttemptKey],
) -> tuple[AttemptView, ...]:
    """All attempts by number; of workers that lost a number, only those that wrote a record all the same.

    Args:
        finishers: what `finishers_of` made of the claims.
    """
    in_order = sorted(claims, key=lambda claim: claim.key)
    views = (_attempt_view(claim, claims, stale, finishers) for claim in in_order)
    return tuple(view for view in views if view.owned or view.last_step is not None)


def _attempt_view(
    claim: ClaimEvidence,
    claims: Sequence[ClaimEvidence],
    stale: Collection[AttemptKey],
    finishers: Mapping[AttemptKey, AttemptKey],
) -> AttemptView:
    key, record = claim.key, claim.record
    owned = owner_of_number(claims, key.number) == claim
    next_at = superseded_at(claims, key.number)
    state, died = AttemptState.INTERRUPTED, False
    if not owned:
        reason = f"another worker's claim to attempt {key.number} came first"
    elif record is not None and key in finishers:
        state, reason = AttemptState.SUCCEEDED, record.reason
    elif record is not None and _outcome_stands(claim, record, claims):
        if record.state is AttemptState.SUCCEEDED:
            died, reason = True, "it says SUCCEEDED, but there are no results of it that count"
        else:
            state, reason = record.state, record.reason or (record.failure.message if record.failure else "")
    elif next_at is not None or key in stale:
        died, reason = True, "it ended without a word: its runtime is gone, or it was cut off from the root"
    else:
        state, reason = AttemptState.RUNNING, record.reason if record is not None else "about to start"
    last_heard_at = claim.record_modified_at or claim.created_at
    ended_at = last_heard_at if next_at is None else min(last_heard_at, next_at)
    return AttemptView(
        key=key,
        state=state,
        started_at=claim.created_at,
        ended_at=None if state is AttemptState.RUNNING else ended_at,
        first_step=record.first_step if record is not None else None,
        last_step=record.step if record is not None else None,
        committed_step=record.committed_step if record is not None else None,
        reason=reason,
        owned=owned,
        died=died,
        failure=record.failure if record is not None and state is AttemptState.FAILED else None,
    )


def _outcome_stands(claim: ClaimEvidence, record: Record, claims: Sequence[ClaimEvidence]) -> bool:
    """Did the attempt still own the run when it wrote its outcome? The word of a zombie changes nothing."""
    written_at = claim.record_modified_at or claim.created_at
    return record.state.is_over and manifest_counts(key=claim.key, created_at=written_at, claims=claims)


def finishers_of(claims: Sequence[ClaimEvidence]) -> dict[AttemptKey, AttemptKey]:
    """By each attempt whose record points at results that count: the attempt that made them."""
    return {
        claim.key: by
        for claim in claims
        if claim.record is not None and (by := _finished_by(claim.record, claims)) is not None
    }


def _finished_by(record: Record, claims: Sequence[ClaimEvidence]) -> AttemptKey | None:
    """The attempt that made the results which `record` points at, if they count.

    It may be an earlier one: a worker that finds finished results publishes nothing of its own.
    """
    if record.state is not AttemptState.SUCCEEDED or record.results is None:
        return None
    own = record.key  # it points at its own, nearly always, which needs no parsing
    key = own if record.results.path == own.results_folder else attempt_of_path(record.results.path)
    if key is None or key.run_id != record.run_id or record.results.path != key.results_folder:
        return None
    counts = manifest_counts(key=key, created_at=record.results.created_at, claims=claims)
    return key if counts else None
