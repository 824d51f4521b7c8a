"""When a worker that has gone quiet may be taken for dead.

Only the store's own clock is asked, so it does not matter what the machines think the time is. Being wrong
costs GPU time and nothing else: see `runs.ownership`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from driverun.clock import Clock
from driverun.dispatch.processes import is_alive
from driverun.errors import ObjectNotFound
from driverun.runs.evidence import ClaimEvidence, RunEvidence
from driverun.runs.layout import AttemptKey
from driverun.runs.ownership import owner_of
from driverun.runs.record import ProcessId
from driverun.storage.base import ObjectStore

CLAIM_LEASE_S = 60.0  #: how long a claim may stand without a record, beside what lists lag
BEATS_PER_LEASE = 3  #: a worker writes its record at least so often

WATCHED_FROM = 0.5  #: of a lease; an attempt that was heard of since is no question yet

Probe = Callable[[ProcessId], bool | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseDecision:
    """Whether an attempt is stale, and if not, for how long nothing can change that."""

    is_stale: bool
    reason: str
    wait_s: float = 0.0  #: until it may be stale; 0 where it is


_OVER = LeaseDecision(is_stale=False, reason="it has written its outcome", wait_s=math.inf)


def last_sign_of_life(claim: ClaimEvidence) -> datetime:
    """When the attempt last wrote something, by the store's clock, as far as `claim` knows."""
    return claim.record_modified_at or claim.created_at


def lease_s_of(claim: ClaimEvidence, *, listing_lag_s: float) -> float:
    """How long the attempt may go without a sign of life, in seconds.

    Before its record can be found, a worker waits until its claim is listed, and then the record has to be.
    """
    return claim.record.lease_s if claim.record is not None else CLAIM_LEASE_S + 2 * listing_lag_s


def may_be_stale(claim: ClaimEvidence) -> bool:
    """Is it a question at all? An attempt that wrote its outcome is over, not stale."""
    return claim.record is None or not claim.record.state.is_over


def lease_decision(
    *, unmoved_s: float, watched_s: float, lease_s: float, alive: bool | None
) -> LeaseDecision:
    """Is the attempt stale?

    Args:
        unmoved_s: how long ago its record was last written, by the store's clock.
        watched_s: for how long it has been seen to stand still, from the first such look to the last.
        lease_s: how long the record may stand still.
        alive: whether its process lives, where that can be known on this machine.
    """
    if alive is False:
        return LeaseDecision(is_stale=True, reason="its process on this machine is dead")
    wait_s = max(lease_s - unmoved_s, lease_s / BEATS_PER_LEASE - watched_s)
    if wait_s > 0:
        return LeaseDecision(
            is_stale=False, reason=f"its last sign of life is {unmoved_s:.0f} s old", wait_s=wait_s
        )
    return LeaseDecision(is_stale=True, reason=f"it gave no sign of life for {unmoved_s:.0f} s")


def single_look(
    claim: ClaimEvidence, *, now: datetime, listing_lag_s: float, probe: Probe = is_alive
) -> LeaseDecision:
    """What a command that looks only once may tell a person. Nobody may claim a run on the strength of it.

    Args:
        claim: the attempt, as a listing showed it.
        now: the store's clock.
        listing_lag_s: for so long a newer sign of life may not be listed.
        probe: tells whether a process lives.
    """
    if not may_be_stale(claim):
        return _OVER
    return lease_decision(
        unmoved_s=(now - last_sign_of_life(claim)).total_seconds(),
        watched_s=math.inf,
        lease_s=lease_s_of(claim, listing_lag_s=listing_lag_s)
        + (listing_lag_s if claim.record is not None else 0.0),
        alive=_probed(claim, probe),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What one read of an attempt's record showed."""

    moved_at: datetime  #: when it was last written
    seen_at: datetime  #: by the store's clock, before it was read: a pause after that proves nothing
    seen_s: float  #: likewise by the monotonic clock, which does not run while this machine sleeps
    read_s: float  #: by the monotonic clock, once it had been read


class LeaseWatch:
    """Watches attempts by reading their records afresh, and remembers what it saw."""

    def __init__(self, store: ObjectStore, clock: Clock, *, probe: Probe = is_alive) -> None:
        self._store = store
        self._clock = clock
        self._probe = probe
        self._first_looks: dict[
            AttemptKey, _Look
        ] = {}  #: the earliest that showed the record where it stands
        self._found: dict[AttemptKey, datetime] = {}  #: to be stale; by their last sign of life
        self._due_s: dict[AttemptKey, float] = {}  #: when it may be stale, by the monotonic clock

    def observe(self, claim: ClaimEvidence) -> LeaseDecision:
        """Look at the attempt now, and decide by all looks so far."""
        if not may_be_stale(claim):
            return _OVER
        alive = _probed(claim, self._probe)  # first: what a dead process wrote is there when we look
        look = self._look(claim)
        first = self._first_looks.get(claim.key)
        if first is None or first.moved_at != look.moved_at:
            first = self._first_looks[claim.key] = look
        decision = lease_decision(
            unmoved_s=(look.seen_at - look.moved_at).total_seconds(),
            watched_s=min((look.seen_at - first.seen_at).total_seconds(), look.seen_s - first.read_s),
            lease_s=self._lease_s_of(claim),
            alive=alive,
        )
        if decision.is_stale and look.moved_at != last_sign_of_life(claim):
            # What it wrote may be its outcome; whoever judges has to read it first.
            decision = LeaseDecision(is_stale=False, reason="its record has moved since it was read")
        if not decision.is_stale:
            self._found.pop(claim.key, None)
        self._due_s[claim.key] = look.seen_s + decision.wait_s
        return decision

    def is_stale(self, claim: ClaimEvidence) -> bool:
        """Is the attempt stale? Looks afresh."""
        return self.observe(claim).is_stale

    def stale_among(self, runs: Iterable[RunEvidence]) -> frozenset[AttemptKey]:
        """The owners of these runs that are stale, as `derive_state` wants them.

        Looks afresh at those that have been quiet for some time, and forgets all attempts that are not among them.
        Whom it once found to be stale it takes to be so until a listing shows otherwise: look again before a claim.
        """
        owners = (owner_of(run.claims) for run in runs)
        watched = {owner.key: owner for owner in owners if owner is not None and may_be_stale(owner)}
        self._first_looks = {key: look for key, look in self._first_looks.items() if key in watched}
        self._due_s = {key: due_s for key, due_s in self._due_s.items() if key in watched}
        self._found = {key: heard_at for key, heard_at in self._found.items() if key in watched}
        if not watched:
            return frozenset()
        now = self._store.now()
        return frozenset(key for key, owner in watched.items() if self._seems_stale(owner, now))

    def _seems_stale(self, claim: ClaimEvidence, now: datetime) -> bool:
        """Whether the attempt is stale, with no more requests than that needs."""
        heard_at = last_sign_of_life(claim)
        if self._found.get(claim.key) == heard_at:
            return True
        quiet_s, lease_s = (now - heard_at).total_seconds(), self._lease_s_of(claim)
        if quiet_s < WATCHED_FROM * lease_s and _probed(claim, self._probe) is not False:
            self._due_s[claim.key] = self._clock.monotonic() + lease_s - quiet_s
            return False
        is_stale = self.is_stale(claim)
        if is_stale:
            self._found[claim.key] = heard_at
        return is_stale

    def seconds_until_stale(self, claim: ClaimEvidence) -> float:
        """How long until the attempt may be stale if it gives no more sign of life; for a countdown.

        Reckoned from the last look, so it may be asked for every second; 0 where it is time to look.
        """
        due_s = self._due_s.get(claim.key)
        return self.observe(claim).wait_s if due_s is None else max(0.0, due_s - self._clock.monotonic())

    def _lease_s_of(self, claim: ClaimEvidence) -> float:
        return lease_s_of(claim, listing_lag_s=self._store.listing_lag_s)

    def _look(self, claim: ClaimEvidence) -> _Look:
        seen_at, seen_s = self._store.now(), self._clock.monotonic()
        try:
            moved_at = self._store.stat(claim.key.record_file).modified_at
        except ObjectNotFound:
            moved_at = claim.created_at
        return _Look(moved_at=moved_at, seen_at=seen_at, seen_s=seen_s, read_s=self._clock.monotonic())


def _probed(claim: ClaimEvidence, probe: Probe) -> bool | None:
    process = claim.worker_process
    return probe(process) if process is not None else None
