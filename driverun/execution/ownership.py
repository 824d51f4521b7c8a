"""Whether the attempt still owns its run, and whether a person wants it to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from driverun.dispatch.claim import claims_in, require_owner
from driverun.errors import LostOwnership
from driverun.runs.evidence import ClaimEvidence
from driverun.runs.layout import LEDGER, AttemptKey, EntryKind, WishKind, entries_of, parse_ledger_name
from driverun.storage.base import ObjectInfo, ObjectStore, people_of


class OwnershipWatch:
    """Looks at what the ledger has of one run, by a listing. It may be used from many threads."""

    def __init__(self, store: ObjectStore, key: AttemptKey, claims: Iterable[ClaimEvidence]) -> None:
        self._store = store
        self._key = key
        self._claims = tuple(claims)
        self._turn = threading.Lock()
        self.lost: LostOwnership | None = None
        self.cancel_requested = False
        #: Path of the newest submission since the run was claimed, of those whose author's word counts.
        self.resubmitted: str | None = None

    @property
    def claims(self) -> tuple[ClaimEvidence, ...]:
        """All claims of the run that were seen so far."""
        return self._claims

    def look(self) -> None:
        """See to it that the run is still this attempt's.

        Raises:
            LostOwnership: it is not; every later call says the same.
        """
        with self._turn:
            if self.lost is not None:
                raise self.lost
            listing = self._store.list(LEDGER, prefix=entries_of(self._key.run_id))
            self._claims = claims_in(listing, self._key.run_id, self._claims)
            self.resubmitted = self._resubmitted(listing)
            orders = [
                (info.created_at, info.object_id, name.wish)
                for info in listing
                if (name := parse_ledger_name(info.path)) is not None
                and name.kind is EntryKind.WISH
                and name.run_id == self._key.run_id
                and name.wish in (WishKind.CANCEL, WishKind.RETRY)
            ]
            newest = max(orders, key=lambda order: order[:2], default=None)
            self.cancel_requested = newest is not None and newest[2] is WishKind.CANCEL
            try:
                require_owner(self._key, self._claims)
            except LostOwnership as exc:
                self.lost = exc
                raise

    def _resubmitted(self, listing: Iterable[ObjectInfo]) -> str | None:
        people = people_of(self._store)
        claimed_at = next((claim.created_at for claim in self._claims if claim.key == self._key), None)
        found = [
            (info.created_at, info.object_id, info.path)
            for info in listing
            if (name := parse_ledger_name(info.path)) is not None
            and name.wish is WishKind.SUBMIT
            and name.run_id == self._key.run_id
            and claimed_at is not None
            and info.created_at > claimed_at
            and (people is None or people.believes(info.author))
        ]
        return max(found, default=(None, None, None))[2]
