"""What the claims of a root must have been like, whatever happened to the workers: the rules, held against a log.

The log is put together by somebody who started every worker and looks at the root from outside, and so knows what no
worker knows: when each of them died or stood still. All times are those of one machine, on which the root lies as well.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from driverun.runs.layout import AttemptKey
from driverun.runs.record import ProcessId

CLAIM_LEASE_S = 60.0  #: as `dispatch.lease` has it, for claims without a record

Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class RootObject:
    """What lies at one path, with the root's own times, and not as lists that lag may show it."""

    path: str
    object_id: str
    created_at: datetime
    written_at: tuple[datetime, ...]  #: as often as the root remembers, the newest last


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLife:
    """What befell one worker's process."""

    host: str
    pid: int
    ended_at: datetime | None = None
    pauses: tuple[Span, ...] = ()

    def paused_s(self, begin: datetime, end: datetime) -> float:
        """For how long it stood still between the two."""
        spans = ((max(begin, since), min(end, until)) for since, until in self.pauses)
        return sum(max(0.0, (until - since).total_seconds()) for since, until in spans)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLog:
    """All that one claim led to."""

    key: AttemptKey
    claimed_at: datetime
    object_id: str  #: of the claim
    process: ProcessId | None  #: whose it is; None where nobody could tell
    lease_s: float = CLAIM_LEASE_S
    beats: tuple[datetime, ...] = ()  #: when its record was written, the outcome included, in order
    is_over: bool = False  #: the last of them is an outcome
    says_succeeded: bool = False  #: and that one is a success
    first_step: int | None = None  #: where it took the run up; None: it did not come to that
    checkpoints: Mapping[int, tuple[datetime, ...]] | None = (
        None  #: when it committed each step, deleted since or not
    )
    results_at: datetime | None = None  #: when the manifest of its results appeared
    last_at: datetime | None = None  #: when it last wrote anything at all

    @property
    def outcome_at(self) -> datetime | None:
        return self.beats[-1] if self.is_over and self.beats else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What the rules leave room for."""

    listing_lag_s: float
    heartbeat_s: float
    slack_s: float  #: for a machine that is too busy to do at once what is due


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """For how long a worker went on with a run that was another's already."""

    key: AttemptKey
    overlap_s: float
    allowed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimAudit:
    """What a log of claims shows."""

    faults: tuple[str, ...]
    overlaps: tuple[Overlap, ...]  #: the longest first
    contested: int  #: numbers that more than one worker asked for
    resumed: int  #: attempts that took up from a checkpoint


def audit_claims(
    attempts: Iterable[AttemptLog], lives: Iterable[WorkerLife], allowance: Allowance
) -> ClaimAudit:
    """Hold every rule against every run."""
    runs: dict[str, list[AttemptLog]] = defaultdict(list)
    for attempt in attempts:
        runs[attempt.key.run_id].append(attempt)
    by_process = {(life.host, life.pid): life for life in lives}
    faults: list[str] = []
    overlaps: list[Overlap] = []
    numbers: Counter[tuple[str, int]] = Counter()
    for run_id, claims in sorted(runs.items()):
        run = _Run(run_id, claims, by_process, allowance)
        faults += [*run.gaps(), *run.losers(), *run.results(), *run.resumes(), *run.early_claims()]
        for overlap in run.overlaps():
            overlaps.append(overlap)
            if overlap.overlap_s > overlap.allowed_s:
                faults.append(
                    f"{overlap.key} went on for {overlap.overlap_s:.1f} s after it was superseded; at most"
                    f" {overlap.allowed_s:.1f} s are allowed"
                )
        numbers.update((claim.key.run_id, claim.key.number) for claim in claims)
    return ClaimAudit(
        faults=tuple(faults),
        overlaps=tuple(sorted(overlaps, key=lambda each: -each.overlap_s)),
        contested=sum(count > 1 for count in numbers.values()),
        resumed=sum(bool(claim.first_step) for claims in runs.values() for claim in claims),
    )


class _Run:
    """The claims of one run, and the rules."""

    def __init__(
        self,
        run_id: str,
        claims: Sequence[AttemptLog],
        lives: Mapping[tuple[str, int], WorkerLife],
        allowance: Allowance,
    ) -> None:
        self._run_id = run_id
        self._claims = sorted(claims, key=lambda claim: (claim.key.number, claim.claimed_at, claim.object_id))
        self._lives = lives
        self._allowance = allowance
        self._owners: dict[int, AttemptLog] = {}
        for claim in self._claims:
            self._owners.setdefault(claim.key.number, claim)

    def gaps(self) -> Iterable[str]:
        """Numbers follow one another without a gap."""
        found = sorted(self._owners)
        if found != list(range(1, len(found) + 1)):
            yield f"{self._run_id}: the numbers of its attempts are {found}"

    def losers(self) -> Iterable[str]:
        """Who asked for a number that was another's computed nothing."""
        for claim in self._claims:
            if self._owners[claim.key.number] is claim:
                continue
            if claim.first_step is not None or claim.checkpoints or claim.results_at is not None:
                yield f"{claim.key} computed, though {self._owners[claim.key.number].key} owns the number"

    def results(self) -> Iterable[str]:
        """One set of results counts, and no more."""
        counting = [
            claim.key
            for claim in self._claims
            if claim.results_at is not None and self._counts(claim, claim.results_at)
        ]
        if len(counting) != 1:
            yield f"{self._run_id}: {len(counting)} sets of results count: {', '.join(map(str, counting))}"

    def resumes(self) -> Iterable[str]:
        """Nobody took up from a checkpoint that does not count."""
        for claim in self._claims:
            if not claim.first_step or (claim.says_succeeded and claim.results_at is None):
                continue  # the latter took over results, which have the step of their end
            known = [
                (earlier, at)
                for earlier in self._claims
                if earlier.key.number < claim.key.number
                for at in (earlier.checkpoints or {}).get(claim.first_step, ())
            ]
            if known and not any(self._counts(earlier, at) for earlier, at in known):
                yield f"{claim.key} took up at step {claim.first_step}, and no checkpoint of that step counts"

    def early_claims(self) -> Iterable[str]:
        """Nobody claimed a run whose worker was not known to be gone: by its outcome, its lease or its death.

        A claim is made a moment after it was decided; whoever stood still in between could not know better.
        """
        for claim in self._claims:
            owner = self._owners.get(claim.key.number - 1)
            if owner is None:
                continue
            outcome_at = owner.outcome_at
            if outcome_at is not None and outcome_at < claim.claimed_at and not owner.says_succeeded:
                continue
            if not self._was_silent(owner, claim) and not self._was_dead(owner, claim):
                before = [owner.claimed_at, *(at for at in owner.beats if at < claim.claimed_at)]
                age_s = (claim.claimed_at - before[-1]).total_seconds()
                yield (
                    f"{claim.key} was claimed {age_s:.1f} s after the last sign of life of {owner.key}, whose lease is"
                    f" {owner.lease_s:g} s"
                )

    def overlaps(self) -> Iterable[Overlap]:
        """How long each that was superseded went on."""
        for claim in self._claims:
            ended_at = self._superseded_at(claim.key.number)
            if ended_at is None or claim.last_at is None or claim.last_at <= ended_at:
                continue
            life = self._life(claim)
            paused_s = life.paused_s(ended_at, claim.last_at) if life is not None else 0.0
            allowed = self._allowance
            yield Overlap(
                key=claim.key,
                overlap_s=(claim.last_at - ended_at).total_seconds(),
                allowed_s=allowed.listing_lag_s + allowed.heartbeat_s + paused_s + allowed.slack_s,
            )

    def _was_silent(self, owner: AttemptLog, claim: AttemptLog) -> bool:
        """Was there an instant, when the claim may have been decided, at which the owner's lease was over?"""
        lease = timedelta(seconds=owner.lease_s)
        earliest = claim.claimed_at - self._to_decide(claim)
        signs = [owner.claimed_at, *owner.beats]
        for sign, following in zip(signs, [*signs[1:], claim.claimed_at], strict=True):
            if max(sign + lease, earliest) <= min(following, claim.claimed_at):
                return True
        return False

    def _was_dead(self, owner: AttemptLog, claim: AttemptLog) -> bool:
        """Had the owner's process ended, on the very host of the one that claims?"""
        life = self._life(owner)
        if life is None or life.ended_at is None or claim.process is None:
            return False
        return life.host == claim.process.host and life.ended_at <= claim.claimed_at

    def _to_decide(self, claim: AttemptLog) -> timedelta:
        """How long before its claim the worker may have looked."""
        slack = timedelta(seconds=self._allowance.slack_s)
        life = self._life(claim)
        if life is None:
            return slack
        for since, until in reversed(life.pauses):
            if claim.claimed_at - slack <= until and since <= claim.claimed_at:
                return claim.claimed_at - since + slack
        return slack

    def _life(self, claim: AttemptLog) -> WorkerLife | None:
        process = claim.process
        return self._lives.get((process.host, process.pid)) if process is not None else None

    def _superseded_at(self, number: int) -> datetime | None:
        return min((claim.claimed_at for claim in self._claims if claim.key.number > number), default=None)

    def _counts(self, claim: AttemptLog, at: datetime) -> bool:
        """By the rule, written down once more: this log is what the rule that ships is held against."""
        ended_at = self._superseded_at(claim.key.number)
        return self._owners[claim.key.number] is claim and (ended_at is None or at < ended_at)
