"""Asking for an attempt at a run, and finding out whether it is still one's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from driverun.clock import Clock
from driverun.errors import IntegrityError, LostOwnership, ObjectExists
from driverun.runs.evidence import ClaimEvidence, RunEvidence
from driverun.runs.heads import head_of
from driverun.runs.layout import LEDGER, AttemptKey, EntryKind, entries_of, parse_ledger_name
from driverun.runs.ownership import owner_of
from driverun.runs.record import Claim, ProcessId
from driverun.storage.base import TICK_S, ObjectInfo, ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class WonClaim:
    """An attempt that a worker may begin."""

    claim: Claim
    claims: tuple[
        ClaimEvidence, ...
    ]  #: of the run, this one included: all that are older than this one, at least

    @property
    def key(self) -> AttemptKey:
        return self.claim.key


def settle_seconds(store: ObjectStore, settle_s: float = 0.0) -> float:
    """How long to wait until a listing shows everything that is not younger than this moment, in seconds.

    A tick more than the lag: what appears in the same tick has the same time, and its id may be the lesser one.
    """
    return max(settle_s, store.listing_lag_s) + TICK_S


def claim_run(
    store: ObjectStore,
    run_id: str,
    evidence: RunEvidence,
    worker: str,
    process: ProcessId,
    clock: Clock,
    settle_s: float = 0.0,
) -> WonClaim | None:
    """Ask for the next attempt at the run; None if another worker was first.

    Waits out the listing lag, or `settle_s` where that is longer. The state has to be derived again from
    fresh evidence afterwards: what made the run claimable may have changed, and the claim is no harm then.
    """
    claim = Claim(
        run_id=run_id,
        number=evidence.highest_number + 1,
        worker=worker,
        process=process,
        claimed_at=clock.now(),
    )
    own = _create(store, claim)
    if own is None:
        return None
    clock.sleep(settle_seconds(store, settle_s))
    claims = known_claims(store, run_id, [*evidence.claims, _evidence(own, claim.key)])
    owner = owner_of(claims)
    return WonClaim(claim=claim, claims=claims) if owner is not None and owner.key == claim.key else None


def known_claims(
    store: ObjectStore, run_id: str, known: Iterable[ClaimEvidence] = ()
) -> tuple[ClaimEvidence, ...]:
    """All claims of the run: those in `known`, and those that a listing shows. Nothing is read."""
    return claims_in(store.list(LEDGER, prefix=entries_of(run_id)), run_id, known)


def claims_in(
    listing: Iterable[ObjectInfo], run_id: str, known: Iterable[ClaimEvidence] = ()
) -> tuple[ClaimEvidence, ...]:
    """All claims of the run: those in `known`, and those in a listing of the ledger.

    Where a claim is there twice, its creation having been repeated, the older one is meant, whoever knows the other.
    """
    found = {claim.key: claim for claim in known}
    for info in listing:
        name = parse_ledger_name(info.path)
        if name is None or name.kind is not EntryKind.CLAIM or name.run_id != run_id:
            continue
        assert name.number is not None, "a claim has a number"
        assert name.worker is not None, "a claim has a worker"
        key = AttemptKey(run_id=run_id, number=name.number, worker=name.worker)
        known_one, listed = found.get(key), _evidence(info, key)
        if known_one is None:
            found[key] = listed
        elif (listed.created_at, listed.object_id) < (known_one.created_at, known_one.object_id):
            found[key] = replace(known_one, created_at=listed.created_at, object_id=listed.object_id)
    return tuple(found[key] for key in sorted(found))


def check_owner(
    store: ObjectStore, key: AttemptKey, known: Iterable[ClaimEvidence] = ()
) -> tuple[ClaimEvidence, ...]:
    """All claims of the run, by which `key` owns it. Called at heartbeats and before a manifest is made.

    Raises:
        LostOwnership: another attempt owns the run.
    """
    return require_owner(key, known_claims(store, key.run_id, known))


def require_owner(key: AttemptKey, claims: tuple[ClaimEvidence, ...]) -> tuple[ClaimEvidence, ...]:
    """`claims`, if by them `key` owns its run. Raises LostOwnership."""
    owner = owner_of(claims)
    if owner is None or owner.key != key:
        taker = "nobody" if owner is None else f"attempt {owner.key.number} of worker {owner.key.worker}"
        raise LostOwnership(
            f"cannot go on with attempt {key.number} of {key.run_id}: {taker} owns the run now. "
            "This worker stops the job; nothing that was committed is lost."
        )
    return claims


def _create(store: ObjectStore, claim: Claim) -> ObjectInfo | None:
    """Create the claim file; None if the name turns out to be another process's."""
    path, content = claim.key.claim_file, claim.to_bytes()
    try:
        return store.create(path, content, properties=head_of(claim, content))
    except ObjectExists:
        # Our own file after a lost answer, since our id is in the name; unless two workers share an id.
        try:
            theirs = Claim.from_bytes(store.read(path))
        except IntegrityError:
            return None
        return store.stat(path) if theirs.process == claim.process else None


def _evidence(info: ObjectInfo, key: AttemptKey) -> ClaimEvidence:
    return ClaimEvidence(key=key, created_at=info.created_at, object_id=info.object_id)
