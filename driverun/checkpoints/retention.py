"""Old checkpoints removed, so that a run of weeks does not fill its root.

A manifest goes first, so that nobody starts to read what is about to vanish; its packs go a lease later, when
whoever had read the manifest before is done.

A checkpoint that this attempt has just committed may be one that does not count: another worker's claim may be older
than it, and not yet be seen by any listing. Therefore nothing is deleted on the strength of a checkpoint before it is
older than the listing lag; the look before the first delete then shows every claim that could undo it.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from driverun.checkpoints.commit import CheckpointCommitter
from driverun.checkpoints.manifest import CheckpointManifest
from driverun.checkpoints.newest import CheckpointInfo, checkpoint_of, load_manifest
from driverun.clock import Clock
from driverun.errors import IntegrityError, ObjectNotFound, StoreAccessDenied, TransientStoreError
from driverun.runs.evidence import ClaimEvidence
from driverun.runs.layout import AttemptKey
from driverun.runs.state import manifest_counts
from driverun.spec.metrics import more_is_better
from driverun.spool.snapshot import SnapshotKind
from driverun.storage.base import TICK_S, ObjectInfo, ObjectStore

_PACK_NAME = re.compile(r"pack-([0-9a-f]{64})")


class Best(enum.Enum):
    """Which value of the monitored metric is the best one."""

    LOWEST = "min"
    HIGHEST = "max"

    @classmethod
    def of_metric(cls, monitor: str, *, mode: str = "auto") -> Self:
        """What `mode` says: "min", "max", or "auto", which goes by the metric's name."""
        if mode != "auto":
            return cls(mode)
        return cls("max" if more_is_better(monitor) else "min")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRules:
    """What is kept besides the newest checkpoint that counts and the ends of fits that others stand on."""

    keep: int = 3  #: so many of the newest; older attempts' files stay until there are so many
    best: Best | None = None  #: None: the metric makes no difference
    every_nth: int | None = None  #: the Nth, 2 Nth, ... manifest of an attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A checkpoint that is on the root."""

    info: CheckpointInfo
    counts: bool  #: a resume would consider it, and nothing that is yet to be seen can change that
    manifest: CheckpointManifest | None  #: None: it cannot be read, so what it refers to is not known


def to_delete(held: Sequence[Held], *, own: AttemptKey, rules: RetentionRules) -> tuple[str, ...]:
    """Paths of the manifests that the attempt `own`, which owns the run, may delete; oldest first.

    Nothing, as long as fewer than `rules.keep` checkpoints of its own stand. Never the newest that counts,
    never the end of a fit of its own or one that a surviving manifest stands on.
    """
    newest_first = sorted(held, key=lambda each: (each.info.order, each.info.path), reverse=True)
    counting = [each for each in newest_first if each.counts]
    readable = [each for each in counting if each.manifest is not None]
    in_progress = [each for each in readable if each.info.kind is SnapshotKind.CHECKPOINT]
    last = [each for each in in_progress if each.info.key == own][: rules.keep]
    if len(last) < rules.keep:
        return ()
    kept = {each.info.path for each in (*last, *counting[:1], *readable[:1], *_best(in_progress, rules))}
    kept |= {each.info.path for each in in_progress if _is_nth(each, rules)}

    survivors: list[Held] = []
    doomed: list[str] = []
    pinned: set[str] = set()
    for each in newest_first:
        info = each.info
        if info.path in kept or not _may_go(each, own, last[-1], pinned, survivors):
            survivors.append(each)
            pinned |= {ref.path for ref in each.manifest.fits} if each.manifest is not None else set()
        else:
            doomed.append(info.path)
    return tuple(reversed(doomed))


def _may_go(
    each: Held, own: AttemptKey, oldest_kept: Held, pinned: Collection[str], survivors: Iterable[Held]
) -> bool:
    key = each.info.key
    if key == own:
        return each.info.kind is SnapshotKind.CHECKPOINT and each.info.order < oldest_kept.info.order
    if key.number > own.number:
        return False
    if each.info.kind is SnapshotKind.CHECKPOINT:
        return True
    # What an unreadable survivor stands on is not known, so it may be this fit.
    return each.info.path not in pinned and all(held.manifest is not None for held in survivors)


def _best(newest_first: Iterable[Held], rules: RetentionRules) -> list[Held]:
    if rules.best is None:
        return []
    sign = 1.0 if rules.best is Best.LOWEST else -1.0
    measured = [
        (sign * value, each)
        for each in newest_first
        if each.manifest is not None
        and (value := each.manifest.header.monitored) is not None
        and not math.isnan(value)
    ]
    return [min(measured, key=lambda pair: pair[0])[1]] if measured else []


def _is_nth(each: Held, rules: RetentionRules) -> bool:
    return bool(rules.every_nth and each.manifest and each.manifest.ordinal % rules.every_nth == 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one pass of retention did."""

    manifests: tuple[str, ...] = ()  #: paths of those deleted
    packs: tuple[str, ...] = ()  #: paths of those deleted
    problems: tuple[str, ...] = ()  #: what was left for the next pass, with the reason


class Retention:
    """Applies the rules for the attempt that owns a run, pass by pass.

    What is remembered between passes is only when a pack was first seen without a manifest. If that is lost,
    the next attempt begins to wait anew; nothing else depends on it.
    """

    def __init__(
        self,
        store: ObjectStore,
        committer: CheckpointCommitter,
        *,
        rules: RetentionRules,
        still_ours: Callable[[], None],
        clock: Clock,
        lease_s: float,
    ) -> None:
        """Serve the attempt of `committer`.

        Args:
            still_ours: raises LostOwnership when a newer attempt owns the run.
            lease_s: for how long packs outlive their manifest; the store's listing lag if that is more.
        """
        self._store = store
        self._committer = committer
        self._rules = rules
        self._still_ours = still_ours
        self._clock = clock
        self._grace_s = max(lease_s, store.listing_lag_s)
        # A claim of the manifest's own tick undoes it; without a lag, each object has a time of its own.
        self._settle_s = store.listing_lag_s + TICK_S if store.listing_lag_s else 0.0
        self._manifests: dict[str, CheckpointManifest] = {}  # of older attempts, by path
        self._condemned_s: dict[str, float] = {}  # packs without a manifest: seen first when, monotonic
        self._committed_s: dict[str, float] = {}  # our manifests: seen first when, monotonic
        self._empty: set[AttemptKey] = set()  # older attempts that have nothing to delete any more
        self._denied: set[str] = set()  # what the root will not let us delete

    def apply(self, *, claims: Collection[ClaimEvidence], resume_after: int = 0) -> Swept:
        """Delete what the rules no longer keep; meant to be called after each commit.

        Costs nothing until `rules.keep` checkpoints of this attempt stand and are older than the listing lag. A
        delete whose answer was lost is not repeated: the next pass looks again and decides anew.

        Args:
            claims: every claim of the run.
            resume_after: attempts up to this number are not resumed from.

        Raises:
            LostOwnership: nothing was deleted since it was noticed.
        """
        with self._committer.turn:
            now_s = self._clock.monotonic()
            committed = self._committer.committed
            self._committed_s = {path: self._committed_s.get(path, now_s) for path in committed}
            own = [
                path
                for path, each in committed.items()
                if each.manifest.header.kind is SnapshotKind.CHECKPOINT and self._is_settled(path)
            ]
            if len(own) < self._rules.keep:
                return Swept()
            sweep = _Sweep(self._store, self._still_ours, self._denied)
            try:
                self._pass(sweep, claims, resume_after)
            except TransientStoreError as exc:
                sweep.problems.append(f"old checkpoints stay for now: {exc}")
            return Swept(
                manifests=tuple(sweep.manifests), packs=tuple(sweep.packs), problems=tuple(sweep.problems)
            )

    def _is_settled(self, path: str) -> bool:
        """Will the look before the first delete show every claim that is older than our manifest at `path`?"""
        since_s = self._committed_s.get(path)
        return since_s is not None and self._clock.monotonic() - since_s >= self._settle_s

    def _pass(self, sweep: _Sweep, claims: Collection[ClaimEvidence], resume_after: int) -> None:
        folders = self._list(claims)
        held = self._held(folders, claims, resume_after)
        doomed = to_delete(held, own=self._committer.key, rules=self._rules)
        for path in doomed:
            if sweep.delete(path, sweep.manifests):
                self._committer.forget(path)
                self._manifests.pop(path, None)
        gone = set(sweep.manifests)
        survivors = [each for each in held if each.info.path not in gone]
        loose = self._loose_packs(folders, survivors)
        self._condemn(loose)
        now_s = self._clock.monotonic()
        for path in sorted(loose):
            if now_s - self._condemned_s[path] >= self._grace_s and sweep.delete(path, sweep.packs):
                del self._condemned_s[path]

    def _list(self, claims: Collection[ClaimEvidence]) -> dict[AttemptKey, list[ObjectInfo]]:
        own = self._committer.key
        keys = {
            claim.key for claim in claims if claim.key.run_id == own.run_id and claim.key.number <= own.number
        }
        folders = {
            key: self._store.list(key.folder) for key in sorted(keys | {own}) if key not in self._empty
        }
        for key, found in folders.items():
            if key != own and not any(_is_ours_to_delete(key, each) for each in found):
                self._empty.add(key)
        return folders

    def _held(
        self,
        folders: dict[AttemptKey, list[ObjectInfo]],
        claims: Collection[ClaimEvidence],
        resume_after: int,
    ) -> list[Held]:
        committed = self._committer.committed
        infos = {
            info.path: info
            for key, found in folders.items()
            for each in (*found, *(c.info for c in committed.values() if key == self._committer.key))
            if (info := checkpoint_of(key, each)) is not None
        }
        held = []
        for path, info in infos.items():
            counts = (
                info.key.number > resume_after
                and (info.key != self._committer.key or self._is_settled(path))
                and manifest_counts(key=info.key, created_at=info.created_at, claims=claims)
            )
            try:
                manifest: CheckpointManifest | None = self._manifest(path)
            except ObjectNotFound:
                continue
            except IntegrityError:
                manifest = None
            held.append(Held(info=info, counts=counts, manifest=manifest))
        return held

    def _manifest(self, path: str) -> CheckpointManifest:
        own = self._committer.committed.get(path)
        if own is not None:
            return own.manifest
        if path not in self._manifests:
            self._manifests[path] = load_manifest(self._store, path).manifest
        return self._manifests[path]

    def _loose_packs(
        self, folders: dict[AttemptKey, list[ObjectInfo]], survivors: Iterable[Held]
    ) -> set[str]:
        """Paths of the packs that no surviving manifest names; one that cannot be read may name any."""
        named = {self._committer.key.pack_file(sha256) for sha256 in self._committer.uncommitted_packs}
        unclear: set[AttemptKey] = set()
        for each in survivors:
            if each.manifest is None:
                unclear.add(each.info.key)
            else:
                named |= {each.info.key.pack_file(pack.sha256) for pack in each.manifest.packs}
        return {
            found.path
            for key, listed in folders.items()
            if key not in unclear
            for found in listed
            if _pack_sha256(found) is not None and found.path not in named
        }

    def _condemn(self, loose: Collection[str]) -> None:
        now_s = self._clock.monotonic()
        self._condemned_s = {path: self._condemned_s.get(path, now_s) for path in loose}
        # From now on no manifest of ours can name them, so the wait is for readers alone.
        prefix = self._committer.key.pack_file("")
        self._committer.retire(path.removeprefix(prefix) for path in loose if path.startswith(prefix))


class _Sweep:
    """The deletes of one pass: ownership is checked before the first one."""

    def __init__(self, store: ObjectStore, still_ours: Callable[[], None], denied: set[str]) -> None:
        self.manifests: list[str] = []
        self.packs: list[str] = []
        self.problems: list[str] = []
        self._store = store
        self._still_ours = still_ours
        self._denied = denied
        self._checked = False

    def delete(self, path: str, deleted: list[str]) -> bool:
        """Delete `path` and note it in `deleted`; False where the root does not allow it."""
        if path in self._denied:
            return False
        if not self._checked:
            self._still_ours()
            self._checked = True
        try:
            self._store.delete(path)
        except StoreAccessDenied as exc:
            self._denied.add(path)
            self.problems.append(f"an old checkpoint stays: {exc}")
            return False
        deleted.append(path)
        return True


def _pack_sha256(found: ObjectInfo) -> str | None:
    match = _PACK_NAME.fullmatch(found.path.rpartition("/")[2])
    return match[1] if match else None


def _is_ours_to_delete(key: AttemptKey, found: ObjectInfo) -> bool:
    return checkpoint_of(key, found) is not None or _pack_sha256(found) is not None
