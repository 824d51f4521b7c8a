from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from driverun.checkpoints import chunks
from driverun.checkpoints.newest import find_checkpoints, load_manifest
from driverun.errors import (
    IntegrityError,
    LostOwnership,
    SpoolError,
    StoreQuotaExceeded,
    TransientStoreError,
)
from driverun.spool.snapshot import TENSORS, SnapshotKind
from driverun.storage.base import ObjectInfo
from driverun.storage.memory import MemoryStore
from driverun.testing.faulty import FaultyStore, Injection, Moment, SimulatedDisconnect
from tests.checkpoints.world import RUN_ID, Array, World, state_at

FILES = {"log.csv": b"epoch,loss\n0,0.5\n", "best/empty": b""}


def test_a_commit_is_found_by_whoever_looks(world: World) -> None:
    key = world.claim(1)
    committed = world.commit(world.committer(key), 120, files=FILES)
    [found] = find_checkpoints(world.store, RUN_ID, claims=world.claims)
    assert found.path == committed.path == key.checkpoint_file(step=120, fits_finished=0)
    assert load_manifest(world.store, found.path) == committed.stored
    assert (found.step, found.size_bytes) == (120, committed.manifest.size_bytes)
    assert found.new_bytes == committed.new_bytes
    assert found.created_at == committed.info.created_at
    assert committed.fit_ref is None


def test_what_lies_on_the_root_is_the_state_and_a_manifest(world: World) -> None:
    key = world.claim(1)
    committed = world.commit(world.committer(key), 120, files=FILES)
    [pack] = committed.manifest.packs
    assert world.paths(key) == ["ckpt-0000000120-000.json", f"pack-{pack.sha256}"]
    content = world.store.read(key.pack_file(pack.sha256))
    assert content == b"".join(array.tobytes() for array in state_at(120)) + FILES["log.csv"]
    assert json.loads(world.store.read(committed.path))["run_id"] == RUN_ID
    assert list((world.folder / "temporary").iterdir()) == []


def test_the_end_of_a_fit_has_a_name_of_its_own_and_a_reference(world: World) -> None:
    key = world.claim(1)
    committer = world.committer(key)
    end = world.commit(committer, 100, kind=SnapshotKind.FIT_END, fits_finished=1)
    assert end.fit_ref is not None
    assert (end.path, end.fit_ref.path, end.fit_ref.fit) == (key.fit_file(0), key.fit_file(0), 0)
    following = world.commit(committer, 100, fits_finished=1, fits=[end.fit_ref])
    assert following.manifest.fits == (end.fit_ref,)
    assert following.new_bytes == 0


def test_what_did_not_change_is_uploaded_once(world: World) -> None:
    frozen = np.arange(50_000, dtype=np.float32)
    key = world.claim(1)
    committer = world.committer(key)
    first = world.commit(committer, 1, [frozen, np.ones(3)], files=FILES)
    second = world.commit(committer, 2, [np.full(3, 2.0), frozen], files=FILES)
    assert first.new_bytes == frozen.nbytes + 24 + len(FILES["log.csv"])
    assert second.new_bytes == 24
    assert second.manifest.size_bytes == first.manifest.size_bytes
    assert set(second.manifest.packs) > set(first.manifest.packs)


def test_what_somebody_removed_meanwhile_is_uploaded_anew(world: World) -> None:
    frozen = np.arange(50_000, dtype=np.float32)
    key = world.claim(1)
    committer = world.committer(key)
    first = world.commit(committer, 1, [frozen, np.ones(3)], files=FILES)
    for path in world.paths(key):
        world.store.delete(f"{key.folder}/{path}")
    second = world.commit(committer, 2, [frozen, np.full(3, 2.0)], files=FILES)
    assert second.new_bytes == first.new_bytes
    assert not set(second.manifest.packs) & set(first.manifest.packs), "names are never used again"
    there = world.paths(key)
    assert all(f"pack-{pack.sha256}" in there for pack in second.manifest.packs)
    third = world.commit(committer, 3, [frozen, np.full(3, 3.0)], files=FILES)
    assert third.new_bytes == 24


def test_equal_tensors_of_one_snapshot_are_stored_once(world: World) -> None:
    zeros = np.zeros(1000)
    committed = world.commit(
        world.committer(world.claim(1)), 1, [zeros, zeros, zeros], files={"z": zeros.tobytes()}
    )
    assert committed.new_bytes == zeros.nbytes
    assert committed.manifest.size_bytes == 4 * zeros.nbytes


def test_another_attempt_trusts_no_pack_but_its_own(world: World) -> None:
    first = world.commit(world.committer(world.claim(1)), 1)
    second = world.commit(world.committer(world.claim(2, "bert")), 1)
    assert second.new_bytes == first.new_bytes
    assert second.manifest.packs == first.manifest.packs


def test_a_large_state_is_split_over_packs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1000)
    world.pack_bytes = 2500
    state: list[Array] = [np.arange(2000, dtype=np.int32), np.arange(7, dtype=np.int8)]
    committed = world.commit(world.committer(world.claim(1)), 1, state)
    assert [pack.size_bytes for pack in committed.manifest.packs] == [2000, 2000, 2000, 2007]
    restored, _, _ = world.restore()
    assert restored is not None


class _Watching(MemoryStore):
    """Notes how much lies in the local folder when something is uploaded, and what is given as bytes."""

    folder: Path

    def create(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        local = sum(file.stat().st_size for file in self.folder.iterdir())
        self.local_bytes = max(getattr(self, "local_bytes", 0), local)
        if isinstance(content, bytes):
            self.memory_bytes = max(getattr(self, "memory_bytes", 0), len(content))
        return super().create(path, content, properties=properties)


def test_neither_memory_nor_local_disk_grow_with_the_state(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1 << 14)
    key = world.claim(1)
    world.pack_bytes = 1 << 16
    store = _Watching(world.clock)
    store.folder = world.folder / "temporary"
    state = [np.random.default_rng(0).integers(0, 255, 1 << 20, dtype=np.uint8)]
    committed = world.commit(world.committer(key, store=store), 1, state)
    assert len(committed.manifest.packs) == 16
    assert store.local_bytes <= world.pack_bytes
    assert store.memory_bytes < 20_000


def test_a_commit_of_a_lost_run_leaves_no_manifest(world: World) -> None:
    def lost() -> None:
        raise LostOwnership("attempt 2 owns the run")

    key = world.claim(1)
    with pytest.raises(LostOwnership):
        world.commit(world.committer(key, still_ours=lost), 1)
    assert [name for name in world.paths(key) if name.endswith(".json")] == []


def test_a_step_is_committed_once(world: World) -> None:
    key = world.claim(1)
    committer = world.committer(key)
    first = world.commit(committer, 5)
    assert world.commit(committer, 5, [np.ones(3)]) is first
    assert len(world.paths(key)) == 2


def test_a_pack_that_arrives_as_other_bytes_is_never_referred_to(world: World) -> None:
    class Corrupting(MemoryStore):
        broken = 2

        def create(
            self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
        ) -> ObjectInfo:
            if isinstance(content, Path) and self.broken:
                self.broken -= 1
                content = b"x" + content.read_bytes()[1:]
            return super().create(path, content, properties=properties)

    key = world.claim(1)
    store = Corrupting(world.clock)
    committer = world.committer(key, store=store)
    for _ in range(2):
        with pytest.raises(IntegrityError, match="arrived as other bytes"):
            world.commit(committer, 1)
        assert store.list(key.folder) == []
    committed = world.commit(committer, 1)
    for pack in committed.manifest.packs:
        assert store.stat(key.pack_file(pack.sha256)).sha256 == pack.sha256


def test_a_manifest_that_arrives_as_other_bytes_is_no_commit(world: World) -> None:
    class Corrupting(MemoryStore):
        def create(
            self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
        ) -> ObjectInfo:
            if isinstance(content, bytes):
                content = content[:-1] + b" "
            return super().create(path, content, properties=properties)

    key = world.claim(1)
    committer = world.committer(key, store=Corrupting(world.clock))
    with pytest.raises(IntegrityError, match="so it is none"):
        world.commit(committer, 1)
    assert committer.committed == {}


@pytest.mark.parametrize("moment", list(Moment))
@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_commit_that_lost_an_answer_can_be_made_again(world: World, moment: Moment, failures: int) -> None:
    key = world.claim(1)
    lost = Injection(
        error=lambda path: TransientStoreError("lost", path=path),
        operations=frozenset({"create"}),
        moment=moment,
        times=failures,
    )
    committer = world.committer(key, store=FaultyStore(world.store, injections=[lost]))
    folder, header = world.snapshot(7)
    for _ in range(failures if moment is Moment.BEFORE else min(failures, 2)):  # there are two objects
        with pytest.raises(TransientStoreError):
            committer.commit(folder, header, files=world.files)
        world.clock.advance(seconds=1)
    committed = committer.commit(folder, header, files=world.files)
    assert committed.new_bytes == sum(pack.size_bytes for pack in committed.manifest.packs)
    assert len(world.paths(key)) == 2
    assert world.restored_step() == 7


class _Forgetful(MemoryStore):
    """Knows no checksums but those of what it has just been given."""

    def stat(self, path: str) -> ObjectInfo:
        return replace(super().stat(path), sha256=None)


def test_a_pack_whose_checksum_the_store_does_not_tell_is_read_back(world: World) -> None:
    world.store = _Forgetful(world.clock)
    key = world.claim(1)
    lost = Injection(
        error=lambda path: TransientStoreError("lost", path=path),
        operations=frozenset({"create"}),
        moment=Moment.AFTER,
        times=1,
    )
    faulty = FaultyStore(world.store, injections=[lost])
    committer = world.committer(key, store=faulty)
    folder, header = world.snapshot(7)
    with pytest.raises(TransientStoreError):
        committer.commit(folder, header, files=world.files)
    [info] = world.store.list(key.folder)
    world.damage(info.path, b"x" * info.size_bytes)
    with pytest.raises(IntegrityError):
        committer.commit(folder, header, files=world.files)
    committer.commit(folder, header, files=world.files)
    assert "download" in [operation.name for operation in faulty.operations]
    assert world.restored_step() == 7


def test_what_fitted_on_a_full_root_is_not_uploaded_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(MemoryStore):
        room = 2

        def create(
            self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
        ) -> ObjectInfo:
            if self.room == 0:
                raise StoreQuotaExceeded("the root is full", path=path)
            self.room -= 1
            return super().create(path, content, properties=properties)

    monkeypatch.setattr(chunks, "CHUNK_BYTES", 100)
    world.pack_bytes = 500
    store = Small(world.clock)
    committer = world.committer(world.claim(1), store=store)
    folder, header = world.snapshot(1, [np.arange(200)])
    with pytest.raises(StoreQuotaExceeded):
        committer.commit(folder, header, files=world.files)
    assert len(committer.uncommitted_packs) == 2
    store.room = 3
    committed = committer.commit(folder, header, files=world.files)
    assert committed.new_bytes == sum(pack.size_bytes for pack in committed.manifest.packs) == 1600
    assert store.room == 0
    assert committer.uncommitted_packs == frozenset()


@pytest.mark.parametrize("moment", list(Moment))
def test_a_crash_at_any_operation_leaves_all_or_nothing(
    tmp_path: Path, moment: Moment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 100)

    def life(world: World, crash_at: int | None) -> FaultyStore:
        world.pack_bytes = 500
        key = world.claim(1)
        store = FaultyStore(world.store, crash_at=crash_at, crash_moment=moment)
        committer = world.committer(key, store=store)
        world.commit(committer, 10, files=FILES)
        world.commit(committer, 20, files=FILES)
        return store

    operations = life(World(tmp_path / "clean"), None).operations
    assert len(operations) > 4
    manifests = [each.number for each in operations if each.path.endswith(".json")]
    for crash_at in range(1, len(operations) + 1):
        world = World(tmp_path / str(crash_at))
        with pytest.raises(SimulatedDisconnect):
            life(world, crash_at)
        done = crash_at + (moment is Moment.AFTER)
        expected = 20 if done > manifests[1] else 10 if done > manifests[0] else None
        assert world.restored_step() == expected
        assert list((world.folder / "temporary").iterdir()) == []
        world.commit(world.committer(world.claim(2, "bert")), 30)
        assert world.restored_step() == 30


def test_a_snapshot_that_is_not_what_its_header_says_is_not_committed(world: World) -> None:
    key = world.claim(1)
    committer = world.committer(key)
    folder, header = world.snapshot(1, files=FILES)
    content = (folder / TENSORS).read_bytes()
    (folder / TENSORS).write_bytes(content[:-1])
    with pytest.raises(SpoolError, match=r"layer/2 ends at byte"):
        committer.commit(folder, header, files=world.files)
    (folder / TENSORS).write_bytes(content)
    changed = world.files / header.files[0].sha256
    changed.write_bytes(b"epoch,loss\n0,0.4\n")
    with pytest.raises(SpoolError, match=r"log\.csv: its content in the spool has changed"):
        committer.commit(folder, header, files=world.files)
    changed.unlink()
    with pytest.raises(SpoolError, match=r"log\.csv: its content is not in the spool"):
        committer.commit(folder, header, files=world.files)
    assert find_checkpoints(world.store, RUN_ID, claims=world.claims) == []


def test_a_retired_pack_is_never_named_again(world: World) -> None:
    key = world.claim(1)
    committer = world.committer(key)
    first = world.commit(committer, 1, [np.arange(100)])
    committer.retire(pack.sha256 for pack in first.manifest.packs)
    world.store.delete(first.path)
    world.store.delete(key.pack_file(first.manifest.packs[0].sha256))
    second = world.commit(committer, 2, [np.arange(100)])
    assert not set(second.manifest.packs) & set(first.manifest.packs)
    restored, _, skipped = world.restore()
    assert restored is not None
    assert skipped == []


def test_what_lies_under_a_manifests_name_must_be_ours(world: World) -> None:
    key = world.claim(1)
    stranger = world.committer(key)
    world.commit(stranger, 1)
    with pytest.raises(IntegrityError, match="did not write"):
        world.commit(world.committer(key), 1, [np.ones(3)])
