"""Which attempt owns a run, by rules that every reader applies to the same evidence.

No lock and no compare-and-swap: a worker that lost a run and wakes up years later can write what it likes,
and nobody will take it for the run's.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from driverun.runs.evidence import ClaimEvidence
from driverun.runs.layout import AttemptKey


def owner_of_number(claims: Iterable[ClaimEvidence], number: int) -> ClaimEvidence | None:
    """The claim that owns the attempt number: what the store created first, then the lesser object id."""
    contenders = [claim for claim in claims if claim.key.number == number]
    if len(contenders) < 2:  # nearly always
        return contenders[0] if contenders else None
    return min(contenders, key=lambda claim: (claim.created_at, claim.object_id))


def owner_of(claims: Iterable[ClaimEvidence]) -> ClaimEvidence | None:
    """The claim that owns the run: the highest number wins, then the rule of `owner_of_number`."""
    known = tuple(claims)
    highest = max((claim.key.number for claim in known), default=0)
    return owner_of_number(known, highest)


def superseded_at(claims: Iterable[ClaimEvidence], number: int) -> datetime | None:
    """When the first claim of any higher number appeared; None while there is none."""
    return min((claim.created_at for claim in claims if claim.key.number > number), default=None)


def manifest_counts(*, key: AttemptKey, created_at: datetime, claims: Iterable[ClaimEvidence]) -> bool:
    """Does a manifest (of a checkpoint or of results) exist, as far as any reader is concerned?

    It does if its attempt `key` owned its number, and the store created the manifest strictly before any
    claim of a higher number. More claims can only come later than the manifest, so what counts once counts
    for ever, and what does not count never will. This holds as long as `claims` has every claim of the run
    that is older than the manifest; a listing taken one listing lag after its creation guarantees that.
    """
    known = tuple(claims)
    owner = owner_of_number(known, key.number)
    if owner is None or owner.key != key:
        return False
    ended_at = superseded_at(known, key.number)
    return ended_at is None or created_at < ended_at
