from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from driverun.checkpoints.commit import CheckpointCommitter, Committed
from driverun.checkpoints.manifest import CheckpointManifest, FitRef
from driverun.checkpoints.newest import CheckpointInfo, find_checkpoints, load_manifest
from driverun.checkpoints.retention import Best, Held, Retention, RetentionRules, Swept, to_delete
from driverun.dispatch.claim import check_owner
from driverun.errors import (
    LostOwnership,
    StoreAccessDenied,
    StoreError,
    StoreQuotaExceeded,
    TransientStoreError,
)
from driverun.runs.layout import AttemptKey
from driverun.spool.snapshot import SnapshotHeader, SnapshotKind
from driverun.storage.base import ObjectInfo, ObjectStore
from driverun.storage.memory import MemoryStore
from driverun.testing.faulty import FaultyStore, Injection, Moment, SimulatedDisconnect
from tests.checkpoints.world import LEASE_S, RUN_ID, World, attempt

OWN = attempt(2, "bert")


def held(
    step: int,
    *,
    key: AttemptKey = OWN,
    fits: Sequence[tuple[AttemptKey, int]] = (),
    end_of: int | None = None,
    monitored: float | None = None,
    ordinal: int = 1,
    counts: bool = True,
    readable: bool = True,
) -> Held:
    """A checkpoint at `step` that stands on `fits`, or the end of the fit `end_of`."""
    kind = SnapshotKind.CHECKPOINT if end_of is None else SnapshotKind.FIT_END
    finished = len(fits) if end_of is None else end_of + 1
    manifest = CheckpointManifest(
        key=key,
        ordinal=ordinal,
        header=SnapshotHeader(
            kind=kind,
            sequence=step,
            step=step,
            fits_finished=finished,
            epoch=0,
            step_in_epoch=0,
            steps_per_epoch=None,
            total_steps=None,
            tensors=(),
            files=(),
            monitored=monitored,
        ),
        packs=(),
        tensors=(),
        files=(),
        fits=tuple(FitRef(fit=fit, path=of.fit_file(fit), sha256="0" * 64) for of, fit in fits),
        new_bytes=0,
        committed_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    info = CheckpointInfo(
        path=manifest.path,
        key=key,
        kind=kind,
        fits_finished=finished,
        step=step,
        created_at=manifest.committed_at,
        size_bytes=None,
        new_bytes=None,
    )
    return Held(info=info, counts=counts, manifest=manifest if readable else None)


def left(checkpoints: Sequence[Held], **rules: object) -> list[Held]:
    doomed = to_delete(checkpoints, own=OWN, rules=RetentionRules(**{"keep": 2, **rules}))  # type: ignore[arg-type]
    return [each for each in checkpoints if each.info.path not in doomed]


OLD = attempt(1)


def test_the_last_ones_stay() -> None:
    all_of_them = [held(step) for step in (1, 2, 3, 4)]
    assert left(all_of_them) == all_of_them[2:]
    assert left(all_of_them, keep=4) == all_of_them
    doomed = to_delete(all_of_them, own=OWN, rules=RetentionRules(keep=1))
    assert doomed == tuple(each.info.path for each in all_of_them[:3])


def test_older_attempts_keep_theirs_until_there_are_enough_of_our_own() -> None:
    old = [held(step, key=OLD) for step in (1, 2, 3)]
    assert left([*old, held(4)]) == [*old, held(4)]
    assert left([*old, held(4), held(5)]) == [held(4), held(5)]


def test_the_newest_that_counts_stays_whoever_made_it() -> None:
    newest = held(9, key=OLD)  # it did not verify, or we would have gone on from it
    assert left([newest, held(4), held(5), held(6)]) == [newest, held(5), held(6)]
    unread, behind = held(9, key=OLD, readable=False), held(8, key=OLD)
    assert left([unread, held(4), held(5), held(6)]) == [unread, held(5), held(6)]
    assert left([unread, behind, held(4), held(5), held(6)]) == [unread, behind, held(5), held(6)]


def test_what_does_not_count_goes_and_saves_nothing_else() -> None:
    stray = held(9, key=OLD, counts=False)
    rival = held(9, key=attempt(2, "rival"), counts=False)
    assert left([stray, rival, held(4), held(5)]) == [held(4), held(5)]
    assert left([stray, rival, held(4)]) == [stray, rival, held(4)]
    own = [held(4), held(5), held(6, counts=False)]
    assert left(own) == own


def test_a_later_attempt_is_not_ours_to_tidy() -> None:
    later = held(1, key=attempt(3, "carl"))
    assert left([later, held(4), held(5)]) == [later, held(4), held(5)]


@pytest.mark.parametrize(("best", "kept"), [(Best.LOWEST, 2), (Best.HIGHEST, 3), (None, None)])
def test_the_best_stays(best: Best | None, kept: int | None) -> None:
    values = {1: 0.5, 2: 0.1, 3: 0.9, 4: math.nan, 5: 0.5, 6: None}
    steps = [each.info.step for each in left([held(s, monitored=v) for s, v in values.items()], best=best)]
    assert steps == [*([kept] if kept else []), 5, 6]


def test_of_equally_good_ones_the_newest_stays_and_older_attempts_may_have_it() -> None:
    old = held(1, key=OLD, monitored=0.1)
    ours = [held(2, monitored=0.1), held(3, monitored=0.4), held(4, monitored=0.4)]
    assert left([old, *ours], best=Best.LOWEST) == ours
    assert left([old, *ours[1:]], best=Best.LOWEST) == [old, *ours[1:]]


def test_every_nth_stays() -> None:
    steps = [each.info.step for each in left([held(n, ordinal=n) for n in range(1, 10)], every_nth=3)]
    assert steps == [3, 6, 8, 9]


def test_ends_of_fits_stay_that_someone_stands_on() -> None:
    end_0, end_1 = held(10, key=OLD, end_of=0), held(20, key=OLD, end_of=1, fits=[(OLD, 0)])
    both = [(OLD, 0), (OLD, 1)]
    ours = [held(step, fits=both) for step in (21, 22)]
    assert left([end_0, end_1, *ours]) == [end_0, end_1, *ours]
    again = held(20, end_of=1, fits=[(OLD, 0)])  # this attempt finished fit 1 anew
    mine = [held(step, fits=[(OLD, 0), (OWN, 1)]) for step in (21, 22)]
    assert left([end_0, end_1, again, *mine]) == [end_0, again, *mine]


def test_ends_of_our_own_fits_always_stay() -> None:
    ends = [held(10, end_of=0), held(20, end_of=1)]
    ours = [held(step, fits=[(OWN, 0), (OWN, 1)]) for step in (21, 22)]
    assert left([*ends, *ours]) == [*ends, *ours]
    assert left([*ends, held(5), held(15, fits=[(OWN, 0)]), *ours]) == [*ends, *ours]


def test_what_cannot_be_read_saves_no_other_and_may_stand_on_any_fit() -> None:
    damaged = held(5, readable=False)
    assert left([held(3), held(4), damaged, held(6)]) == [held(4), damaged, held(6)]
    assert left([damaged, held(6), held(7)]) == [held(6), held(7)]
    end = held(1, key=OLD, end_of=0)
    with_fit = [held(6, fits=[(OWN, 0)]), held(7, fits=[(OWN, 0)])]
    broken = held(8, fits=[(OLD, 0)], readable=False)
    assert left([end, *with_fit]) == with_fit
    assert left([end, *with_fit, broken]) == [end, *with_fit, broken]


@pytest.mark.parametrize(
    ("monitor", "mode", "best"),
    [
        ("val_loss", "auto", Best.LOWEST),
        ("val_accuracy", "auto", Best.HIGHEST),
        ("AUC", "auto", Best.HIGHEST),
        ("val_accuracy", "min", Best.LOWEST),
        ("perplexity", "max", Best.HIGHEST),
    ],
)
def test_which_value_is_best_goes_by_the_metrics_name(monitor: str, mode: str, best: Best) -> None:
    assert Best.of_metric(monitor, mode=mode) is best


def retention(
    world: World,
    committer: CheckpointCommitter,
    *,
    store: ObjectStore | None = None,
    keep: int = 2,
    still_ours: Callable[[], None] = lambda: None,
) -> Retention:
    return Retention(
        world.store if store is None else store,
        committer,
        rules=RetentionRules(keep=keep),
        still_ours=still_ours,
        clock=world.clock,
        lease_s=LEASE_S,
    )


def sweep(world: World, keeper: Retention) -> Swept:
    return keeper.apply(claims=world.claims)


def stray_packs(world: World, key: AttemptKey) -> set[str]:
    """Packs in the attempt's folder that no manifest there names."""
    names = world.paths(key)
    named = {
        f"pack-{pack.sha256}"
        for name in names
        if name.endswith(".json")
        for pack in load_manifest(world.store, f"{key.folder}/{name}").manifest.packs
    }
    return {name for name in names if name.startswith("pack-")} - named


def steps_on_root(world: World) -> list[int | None]:
    return [info.step for info in find_checkpoints(world.store, RUN_ID, claims=world.claims)]


def test_packs_outlive_their_manifest_by_a_lease(world: World) -> None:
    key = world.claim(1)
    committer = world.committer(key)
    keeper = retention(world, committer)
    for step in (1, 2):
        world.commit(committer, step)
    assert sweep(world, keeper) == Swept()
    third = world.commit(committer, 3)
    first_pack = set(stray_packs(world, key))
    swept = sweep(world, keeper)
    assert swept.manifests == (key.checkpoint_file(step=1, fits_finished=0),)
    assert swept.packs == ()
    assert steps_on_root(world) == [3, 2]
    assert first_pack == set()
    # The array that never changes lies in the pack of step 1, which therefore stays.
    assert stray_packs(world, key) == set()
    assert len(third.manifest.packs) == 2
    world.clock.advance(seconds=10 * LEASE_S)
    assert sweep(world, keeper) == Swept()

    world.commit(committer, 4)
    sweep(world, keeper)
    assert len(stray_packs(world, key)) == 1
    world.clock.advance(seconds=LEASE_S - 1)
    assert sweep(world, keeper) == Swept()
    world.clock.advance(seconds=1)
    assert len(sweep(world, keeper).packs) == 1
    assert stray_packs(world, key) == set()
    assert world.restored_step() == 4


def test_bytes_that_come_again_after_their_pack_was_condemned_are_uploaded_again(world: World) -> None:
    key = world.claim(1)
    committer = world.committer(key)
    keeper = retention(world, committer, keep=1)
    first = world.commit(committer, 1, [np.full(100, 1.0)])
    world.commit(committer, 2, [np.full(100, 2.0)])
    sweep(world, keeper)
    again = world.commit(committer, 3, [np.full(100, 1.0)])
    assert not set(again.manifest.packs) & set(first.manifest.packs)
    world.clock.advance(seconds=LEASE_S)
    assert sweep(world, keeper).packs == (key.pack_file(first.manifest.packs[0].sha256),)
    restored, _, skipped = world.restore()
    assert restored is not None
    assert (restored.header.step, skipped) == (3, [])


@pytest.mark.parametrize("failing", ["the answer to a pack", "the manifest"])
def test_what_a_failed_commit_left_is_tidied_when_no_later_one_needs_it(world: World, failing: str) -> None:
    class Failing(MemoryStore):
        armed = False

        def create(
            self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
        ) -> ObjectInfo:
            if self.armed and failing == "the manifest" and path.endswith(".json"):
                raise StoreQuotaExceeded("the root is full", path=path)
            info = super().create(path, content, properties=properties)
            if self.armed and failing == "the answer to a pack":
                raise TransientStoreError("the answer was lost", path=path)
            return info

    world.store = store = Failing(world.clock)
    key = world.claim(1)
    committer = world.committer(key)
    keeper = retention(world, committer, keep=1)
    world.commit(committer, 1)
    store.armed = True
    with pytest.raises(StoreError):
        world.commit(committer, 2)
    store.armed = False
    left_over = stray_packs(world, key)
    assert len(left_over) == 1
    for _ in range(2):
        sweep(world, keeper)
        assert stray_packs(world, key) == left_over
        if failing == "the manifest":
            world.clock.advance(seconds=LEASE_S)  # verified, so a call for the same step would name it
            assert {f"pack-{name}" for name in committer.uncommitted_packs} == left_over
    world.commit(committer, 3)
    for _ in range(2):
        sweep(world, keeper)
        world.clock.advance(seconds=LEASE_S)
    sweep(world, keeper)
    assert stray_packs(world, key) == set()
    assert world.restored_step() == 3


def test_older_attempts_are_tidied_but_what_we_stand_on(world: World) -> None:
    old = world.claim(1)
    first = world.committer(old)
    world.commit(first, 50)
    end = world.commit(first, 100, kind=SnapshotKind.FIT_END, fits_finished=1)
    assert end.fit_ref is not None
    world.commit(first, 150, fits_finished=1, fits=[end.fit_ref])
    own = world.claim(2, "bert")
    committer = world.committer(own)
    keeper = retention(world, committer)
    world.commit(committer, 160, fits_finished=1, fits=[end.fit_ref])
    sweep(world, keeper)
    assert len(world.paths(old)) == 6
    world.commit(committer, 170, fits_finished=1, fits=[end.fit_ref])
    sweep(world, keeper)
    world.clock.advance(seconds=LEASE_S)
    sweep(world, keeper)
    assert sorted(world.paths(old)) == sorted(
        ["fit-000.json", *(f"pack-{pack.sha256}" for pack in end.manifest.packs)]
    )
    assert world.restored_step() == 170


def test_packs_stay_as_long_as_a_manifest_that_cannot_be_read_may_name_them(world: World) -> None:
    old = world.claim(1)
    newest = world.commit(world.committer(old), 99)
    content = world.store.read(newest.path)
    world.damage(newest.path, content[1:])
    committer = world.committer(world.claim(2, "bert"))
    keeper = retention(world, committer, keep=1)
    for step in (1, 2, 3):
        world.commit(committer, step)
        sweep(world, keeper)
        world.clock.advance(seconds=LEASE_S)
    assert world.restored_step() == 3
    world.damage(newest.path, content)  # the fault was in the reading
    assert world.restored_step() == 99


def test_a_worker_that_lost_the_run_deletes_nothing(world: World) -> None:
    def lost() -> None:
        raise LostOwnership("attempt 2 owns the run")

    key = world.claim(1)
    committer = world.committer(key)
    for step in (1, 2, 3):
        world.commit(committer, step)
    before = world.paths(key)
    with pytest.raises(LostOwnership):
        sweep(world, retention(world, committer, still_ours=lost))
    assert world.paths(key) == before


def test_a_delete_without_an_answer_is_left_for_the_next_pass(world: World) -> None:
    key = world.claim(1)
    lost = Injection(
        error=lambda path: TransientStoreError("lost", path=path),
        operations=frozenset({"delete"}),
        moment=Moment.AFTER,
        times=1,
    )
    store = FaultyStore(world.store, injections=[lost])
    committer = world.committer(key)
    keeper = retention(world, committer, store=store)
    for step in (1, 2, 3, 4):
        world.commit(committer, step)
    swept = sweep(world, keeper)
    assert swept.manifests == ()
    assert "old checkpoints stay for now" in swept.problems[0]
    assert [each.name for each in store.operations].count("delete") == 1
    assert len(sweep(world, keeper).manifests) == 2
    assert steps_on_root(world) == [4, 3]


def test_what_the_root_does_not_let_us_delete_is_told_once(world: World) -> None:
    world.commit(world.committer(world.claim(1)), 1)
    denied = Injection(
        error=lambda path: StoreAccessDenied("not yours", path=path),
        operations=frozenset({"delete"}),
        times=1,
    )
    committer = world.committer(world.claim(2, "bert"))
    keeper = retention(world, committer, store=FaultyStore(world.store, injections=[denied]), keep=1)
    world.commit(committer, 2)
    assert "not yours" in sweep(world, keeper).problems[0]
    assert sweep(world, keeper) == Swept()
    assert steps_on_root(world) == [2, 1]


def test_a_listing_that_lags_costs_no_checkpoint(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.store = MemoryStore(world.clock, listing_lag_s=60.0)
    key = world.claim(1)
    committer = world.committer(key)
    keeper = retention(world, committer)
    for step in range(1, 8):
        world.commit(committer, step)
        assert sweep(world, keeper) == Swept(), "nothing is certain before it is older than the lag"
    world.clock.advance(seconds=200)
    assert len(sweep(world, keeper).manifests) == 5
    assert steps_on_root(world) == [7, 6]
    world.clock.advance(seconds=200)
    sweep(world, keeper)
    assert stray_packs(world, key) == set()
    assert world.restored_step() == 7


def test_a_claim_that_no_listing_shows_yet_costs_no_checkpoint(tmp_path: Path) -> None:
    """Found by the explorer: the newest one did not count, and the one before was deleted for it."""
    world = World(tmp_path)
    world.store = MemoryStore(world.clock, listing_lag_s=60.0)
    key = world.claim(1)
    known = tuple(world.claims)
    world.clock.advance(seconds=100)

    def look() -> None:
        check_owner(world.store, key, known)

    committer = world.committer(key)
    keeper = retention(world, committer, keep=1, still_ours=look)

    def commit(step: int) -> Swept:
        world.commit(committer, step)
        return keeper.apply(claims=known)

    commit(1)
    world.clock.advance(seconds=100)
    world.claim(2, "bert")  # no look can show it yet, so the next one does not count
    commit(2)
    world.clock.advance(seconds=60)
    assert world.restored_step() == 1
    with pytest.raises(LostOwnership):
        commit(3)
    assert world.restored_step() == 1


@pytest.mark.parametrize("moment", list(Moment))
def test_a_crash_at_any_operation_costs_no_checkpoint_that_is_kept(tmp_path: Path, moment: Moment) -> None:
    def life(world: World, crash_at: int | None) -> FaultyStore:
        world.commit(world.committer(world.claim(1)), 1)
        key = world.claim(2, "bert")
        store = FaultyStore(world.store, crash_at=crash_at, crash_moment=moment)
        committer = world.committer(key, store=store)
        keeper = retention(world, committer, store=store)
        committed: list[Committed] = []
        for step in (2, 3, 4, 5):
            committed.append(world.commit(committer, step))
            sweep(world, keeper)
            world.clock.advance(seconds=LEASE_S)
        return store

    operations = life(World(tmp_path / "clean"), None).operations
    assert {each.name for each in operations} >= {"create", "list", "delete"}
    manifests = [each.number for each in operations if each.name == "create" and ".json" in each.path]
    for crash_at in range(1, len(operations) + 1):
        world = World(tmp_path / str(crash_at))
        with pytest.raises(SimulatedDisconnect):
            life(world, crash_at)
        done = sum(number < crash_at + (moment is Moment.AFTER) for number in manifests)
        assert world.restored_step() == 1 + done
        _, _, skipped = world.restore()
        assert skipped == []
        assert all(
            world.store.stat(info.key.pack_file(pack.sha256)).size_bytes == pack.size_bytes
            for info in find_checkpoints(world.store, RUN_ID, claims=world.claims)
            for pack in load_manifest(world.store, info.path).manifest.packs
        )
        # The next attempt goes on, and tidies up after the dead one.
        key = world.claim(3, "carl")
        committer = world.committer(key)
        keeper = retention(world, committer)
        for step in (10, 11, 12):
            world.commit(committer, step)
            sweep(world, keeper)
            world.clock.advance(seconds=LEASE_S)
        sweep(world, keeper)
        assert steps_on_root(world) == [12, 11]
        assert world.paths(attempt(1)) == world.paths(attempt(2, "bert")) == []
        assert stray_packs(world, key) == set()
        assert world.restored_step() == 12
