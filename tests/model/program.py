"""What a worker does about one run, from its first look to the outcome, by the code that ships.

The order is that of `execution.worker`, `execution.attempt` and `execution.publishing`; every decision between two
steps is made by the functions that they call. A worker is cut into phases. What it carries from one to the next is a
value, so that two workers which came to the same by different ways are the same.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from driverun.checkpoints.commit import CheckpointCommitter
from driverun.checkpoints.newest import newest_valid
from driverun.checkpoints.retention import Retention, RetentionRules
from driverun.clock import Clock
from driverun.dispatch import claim as claiming
from driverun.dispatch import results as making_sure
from driverun.dispatch.heartbeat import RecordKeeper
from driverun.dispatch.lease import may_be_stale
from driverun.dispatch.ledger import Ledger
from driverun.dispatch.takeover import state_before
from driverun.errors import LostOwnership, ObjectNotFound
from driverun.execution.ownership import OwnershipWatch
from driverun.execution.passing import PassingStore
from driverun.runs.evidence import ClaimEvidence, RunEvidence
from driverun.runs.layout import AttemptKey
from driverun.runs.ownership import owner_of
from driverun.runs.record import AttemptState, ProcessId, Record, ResultsRef
from driverun.runs.state import RunState, derive_state
from driverun.spool.snapshot import SnapshotHeader
from driverun.storage.base import ObjectInfo, ObjectStore
from driverun.transfer.publish import publish_results
from tests.checkpoints.world import write_snapshot

RUN = "digits-0123456789ab"
LEASE_S = 60.0


class Wait(enum.Enum):
    """Where more time passes than the listing lag is long."""

    NEVER = "never"
    TRAINING = "training"  #: before each commit
    SWEEPING = "sweeping"  #: between the last commit and what retention makes of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What there is to do."""

    commits: int = 2
    keep: int = 1
    fails_after: int | None = None  #: so many commits
    max_errors: int = 1
    beats: bool = False  #: is there a heartbeat after each commit
    wait: Wait = Wait.TRAINING


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshots:
    """The states that a training goes through, on the local disk: made once, the same for all."""

    folder: Path
    headers: tuple[SnapshotHeader, ...]

    @classmethod
    def make(cls, folder: Path, steps: int) -> Snapshots:
        headers = tuple(
            write_snapshot(
                folder / f"step-{step}", folder / "files", step=step, arrays=[np.full(2, step, np.uint8)]
            )
            for step in range(1, steps + 1)
        )
        (folder / "model.txt").write_text("the trained model")
        return cls(folder=folder, headers=headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a worker finds where it runs."""

    store: ObjectStore
    clock: Clock
    job: Job
    snapshots: Snapshots
    stale: Callable[[RunEvidence], frozenset[AttemptKey]]
    is_stale: Callable[[ClaimEvidence], bool]  #: by one more look
    note: Callable[[str, str], None]  #: tells the observer; no part of the protocol
    train: Callable[[Callable[[], None]], None]  #: for as long as it takes; may beat meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """It is about to look which run it may take up."""

    worker: str
    lives: int  #: attempts that it may still make


@dataclass(frozen=True, slots=True, kw_only=True)
class Won:
    """It may begin an attempt."""

    worker: str
    lives: int
    key: AttemptKey
    claims: tuple[ClaimEvidence, ...]
    resume_after: int
    ended: tuple[AttemptState, str] | None  #: nothing comes of it: outcome and reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Its record is there, and it knows where to go on."""

    worker: str
    lives: int
    key: AttemptKey
    claims: tuple[ClaimEvidence, ...]
    resume_after: int
    record: bytes
    done: int  #: snapshots that are committed, by whomever
    own: tuple[tuple[int, datetime], ...] = ()  #: step and time of the checkpoints of its own that stand
    condemned: tuple[str, ...] = ()  #: packs that no manifest names any more, since a lease and more


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishing:
    """Its script has ended well, or an earlier attempt's has."""

    worker: str
    lives: int
    key: AttemptKey
    claims: tuple[ClaimEvidence, ...]
    record: bytes
    found: tuple[str, datetime] | None  #: results of an earlier attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """It does nothing any more."""

    worker: str
    why: str


Phase = Looking | Won | Training | Publishing | Over


def go_on(phase: Phase, here: Surroundings) -> Phase:
    """Carry out one phase; gives the next."""
    match phase:
        case Looking():
            return _look(phase, here)
        case Won():
            return _begin(phase, here)
        case Training():
            return _train(phase, here)
        case Publishing():
            return _publish(phase, here)
        case Over():
            return phase


def process_of(worker: str) -> ProcessId:
    return ProcessId(host=f"host-{worker}", boot_id="1", pid=1, started="1")


def _look(phase: Looking, here: Surroundings) -> Phase:
    if phase.lives == 0:
        return Over(worker=phase.worker, why="its time is up")
    ledger = Ledger(here.store)
    ledger.refresh()
    evidence = ledger.run(RUN)
    if evidence is None:
        return Over(worker=phase.worker, why="sees no run")
    derived = derive_state(evidence, stale=here.stale(evidence), max_errors=here.job.max_errors)
    if derived.state.is_over:
        return Over(worker=phase.worker, why=f"sees {derived.state.value}")
    if not derived.state.is_claimable:
        return phase
    owner = owner_of(evidence.claims)
    if owner is not None and may_be_stale(owner) and not here.is_stale(owner):
        return phase  # it has moved since it was found to stand still
    process = process_of(phase.worker)
    won = claiming.claim_run(here.store, RUN, evidence, phase.worker, process, here.clock)
    if won is None:
        return replace(phase, lives=phase.lives - 1)
    here.note("won", str(won.key))
    ledger.refresh()
    evidence = ledger.runs[RUN]
    before = state_before(evidence, won.key, max_errors=here.job.max_errors)
    ended = None
    if before.state in (RunState.CANCELLED, RunState.FAILED):
        ended = (AttemptState[before.state.value], before.reason)
    return Won(
        worker=phase.worker,
        lives=phase.lives - 1,
        key=won.key,
        claims=_bare(won.claims),
        resume_after=before.resume_after,
        ended=ended,
    )


def _begin(phase: Won, here: Surroundings) -> Phase:
    store, key, now = here.store, phase.key, here.clock.now()
    record = Record(
        run_id=RUN,
        number=key.number,
        worker=key.worker,
        process=process_of(phase.worker),
        state=phase.ended[0] if phase.ended is not None else AttemptState.RUNNING,
        beat=0,
        started_at=now,
        updated_at=now,
        lease_s=LEASE_S,
    )
    RecordKeeper(store, here.clock, record).create()
    again = Looking(worker=phase.worker, lives=phase.lives)
    if phase.ended is not None:
        return again
    watch = OwnershipWatch(store, key, phase.claims)
    found = making_sure.earlier_results(store, key, watch.claims)
    if found is not None:
        return Publishing(
            worker=phase.worker,
            lives=phase.lives,
            key=key,
            claims=watch.claims,
            record=record.to_bytes(),
            found=(found.path, found.created_at),
        )
    newest = newest_valid(
        store,
        RUN,
        claims=watch.claims,
        resume_after=phase.resume_after,
        scratch=here.snapshots.folder,
    )
    here.note("resumed", f"{key} {newest[0].path if newest is not None else ''}")
    try:
        watch.look()
    except LostOwnership:
        return again
    if watch.cancel_requested:
        RecordKeeper(store, here.clock, record).finish(AttemptState.CANCELLED)
        return again
    done = newest[1].manifest.header.step if newest is not None else 0
    if done == here.job.commits:
        return Publishing(
            worker=phase.worker,
            lives=phase.lives,
            key=key,
            claims=_bare(watch.claims),
            record=record.to_bytes(),
            found=None,
        )
    return Training(
        worker=phase.worker,
        lives=phase.lives,
        key=key,
        claims=_bare(watch.claims),
        resume_after=phase.resume_after,
        record=record.to_bytes(),
        done=done,
    )


def _train(phase: Training, here: Surroundings) -> Phase:
    """From one snapshot to the next, its commit, and what retention makes of it."""
    job, key = here.job, phase.key
    again = Looking(worker=phase.worker, lives=phase.lives)
    keeper = RecordKeeper(here.store, here.clock, Record.from_bytes(phase.record))
    watch = OwnershipWatch(here.store, key, phase.claims)
    folder, headers = here.snapshots.folder, here.snapshots.headers
    store = _Resumed(here.store)
    committer = CheckpointCommitter(
        store,
        key,
        temporary=folder / "packs" / key.worker,
        still_ours=store.look(watch.look),
        clock=here.clock,
    )
    retention = Retention(
        here.store,
        committer,
        rules=RetentionRules(keep=job.keep),
        still_ours=watch.look,
        clock=here.clock,
        lease_s=LEASE_S,
    )
    for step, created_at in phase.own:
        store.made_at = created_at
        committer.commit(folder / f"step-{step}", headers[step - 1], files=folder / "files")
    store.made_at = None
    retention._condemned_s = dict.fromkeys(phase.condemned, here.clock.monotonic())
    retention._committed_s = dict.fromkeys(committer.committed, here.clock.monotonic())
    header = headers[phase.done]

    def beat() -> None:
        here.note("beat", str(key))
        watch.look()
        keeper.beat(step=header.step)

    try:
        if job.wait is Wait.TRAINING:
            here.train(beat)
        committer.commit(folder / f"step-{header.step}", header, files=folder / "files")
        if job.wait is Wait.SWEEPING and header.step == job.commits:
            here.train(beat)
        retention.apply(claims=watch.claims, resume_after=phase.resume_after)
        if job.beats:
            beat()
    except LostOwnership:
        here.note("lost", str(key))
        return again
    except ObjectNotFound:  # while it tried again, somebody who owns the run has tidied what it had made
        return phase
    if watch.cancel_requested:
        keeper.finish(AttemptState.CANCELLED)
        return again
    if header.step == job.fails_after:
        keeper.finish(AttemptState.FAILED)
        return again
    if header.step == job.commits:
        return Publishing(
            worker=phase.worker,
            lives=phase.lives,
            key=key,
            claims=_bare(watch.claims),
            record=keeper.record.to_bytes(),
            found=None,
        )
    return replace(
        phase,
        claims=_bare(watch.claims),
        record=keeper.record.to_bytes(),
        done=header.step,
        own=tuple((each.manifest.header.step, each.info.created_at) for each in committer.committed.values()),
        condemned=tuple(sorted(retention._condemned_s)),
    )


class _Resumed(PassingStore):
    """A store for a committer that is made anew, and has to learn what it had committed before."""

    made_at: datetime | None = None  #: None: from now on it is the store itself

    def create(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        if self.made_at is None:
            return self._inner.create(path, content, properties=properties)
        whole = content if isinstance(content, bytes) else content.read_bytes()
        return ObjectInfo(
            path=path,
            object_id=f"id of {path}",
            size_bytes=len(whole),
            created_at=self.made_at,
            modified_at=self.made_at,
            sha256=hashlib.sha256(whole).hexdigest(),
            properties=None,
        )

    def look(self, look: Callable[[], None]) -> Callable[[], None]:
        """`look`, but for what was committed before."""
        return lambda: look() if self.made_at is None else None


def _publish(phase: Publishing, here: Surroundings) -> Phase:
    store, key = here.store, phase.key
    again = Looking(worker=phase.worker, lives=phase.lives)
    watch = OwnershipWatch(store, key, phase.claims)
    keeper = RecordKeeper(store, here.clock, Record.from_bytes(phase.record))
    if phase.found is not None:
        results = ResultsRef(path=phase.found[0], created_at=phase.found[1])
    else:
        model = here.snapshots.folder / "model.txt"
        try:
            published = publish_results(
                store, key, {"model.txt": model}, still_ours=watch.look, summary={"by": key.worker}
            )
            results = making_sure.confirmed_results(
                store, here.clock, key, published.created_at, watch.claims
            )
        except LostOwnership:
            return again
    keeper.finish(AttemptState.SUCCEEDED, results=results)
    return again


def _bare(claims: Iterable[ClaimEvidence]) -> tuple[ClaimEvidence, ...]:
    """The claims with what the rules of ownership ask of them, and nothing else."""
    return tuple(
        ClaimEvidence(key=claim.key, created_at=claim.created_at, object_id=claim.object_id)
        for claim in claims
    )
