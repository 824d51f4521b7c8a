"""The two checks that make the results of a run final.

Before an attempt computes anything it takes over what was finished before it; before it says that its own
results are there, it makes sure that nobody will ever have a reason to doubt it. With both, what one reader
takes for the results of a run, all others do, now and later.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from driverun.clock import Clock
from driverun.dispatch.claim import known_claims, settle_seconds
from driverun.errors import LostOwnership, ObjectNotFound
from driverun.runs.evidence import ClaimEvidence
from driverun.runs.layout import AttemptKey
from driverun.runs.ownership import manifest_counts, owner_of_number
from driverun.runs.record import ResultsRef
from driverun.storage.base import ObjectStore


def earlier_results(
    store: ObjectStore, key: AttemptKey, claims: Iterable[ClaimEvidence]
) -> ResultsRef | None:
    """The results that an attempt before `key` published and that count, even if it did not live to say so.

    To be called once the claim of `key` has settled: results that count are older than that claim, so they
    are found now or never. Asks the store once for every earlier attempt.
    """
    known = tuple(claims)
    for number in range(1, key.number):
        owner = owner_of_number(known, number)
        if owner is None:
            continue
        try:
            created_at = store.stat(owner.key.results_manifest).created_at
        except ObjectNotFound:
            continue
        if manifest_counts(key=owner.key, created_at=created_at, claims=known):
            return ResultsRef(path=owner.key.results_folder, created_at=created_at)
    return None


def confirmed_results(
    store: ObjectStore, clock: Clock, key: AttemptKey, created_at: datetime, claims: Iterable[ClaimEvidence]
) -> ResultsRef:
    """The results of `key`, whose manifest the store created at `created_at`, once they are known to count.

    To be called between the manifest and the outcome. Waits until every claim that could undo the manifest
    can be seen, so that whoever reads the outcome sees them as well.

    Raises:
        LostOwnership: another worker claimed the run before the manifest was there; it will never count.
    """
    clock.sleep(settle_seconds(store))
    known = known_claims(store, key.run_id, claims)
    if not manifest_counts(key=key, created_at=created_at, claims=known):
        raise LostOwnership(
            f"cannot publish the results of attempt {key.number} of {key.run_id}: another worker claimed the "
            "run before they were there. That worker's results will be those of the run."
        )
    return ResultsRef(path=key.results_folder, created_at=created_at)
