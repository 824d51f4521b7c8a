from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from driverun.checkpoints import chunks
from driverun.checkpoints.manifest import FitRef
from driverun.checkpoints.newest import find_checkpoints, newest_valid
from driverun.checkpoints.restore import restore
from driverun.errors import IntegrityError, ObjectNotFound, TransientStoreError
from driverun.spool.folder import SpoolFolder
from driverun.spool.snapshot import TENSORS, SnapshotKind, aligned, read_header
from driverun.storage.base import ObjectInfo
from driverun.storage.local import LocalStore
from driverun.storage.memory import MemoryStore
from driverun.testing.faulty import FaultyStore, Injection, SimulatedDisconnect
from tests.checkpoints.world import RUN_ID, Array, World, arrays_of, assert_is_state_at

DTYPES = [
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
]  # fmt: skip
SHAPES: list[tuple[int, ...]] = [(), (1,), (0,), (3, 0, 2), (17,), (5, 7), (2, 3, 4)]


def two_commits(world: World) -> tuple[str, str, str]:
    """Steps 10 and 20 by attempt 1: path of the newer manifest, of its pack, of the older manifest's pack."""
    key = world.claim(1)
    committer = world.committer(key)
    older = world.commit(committer, 10)
    newer = world.commit(committer, 20)
    fresh = set(newer.manifest.packs) - set(older.manifest.packs)
    return newer.path, key.pack_file(fresh.pop().sha256), key.pack_file(older.manifest.packs[0].sha256)


@pytest.mark.parametrize("gap", [0, 1, 200])
def test_every_dtype_and_shape_comes_back(world: World, gap: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 64)
    world.pack_bytes = 1000
    random = np.random.default_rng(7)
    state: list[Array] = [(random.random(shape) * 100).astype(dtype) for dtype in DTYPES for shape in SHAPES]
    world.commit(world.committer(world.claim(1)), 3, state, gap=gap)
    restored, spool, _ = world.restore()
    assert restored is not None
    for expected, found in zip(state, arrays_of(spool.restored_checkpoint), strict=True):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(found, expected)


def test_a_restored_snapshot_is_one_as_the_trainer_writes_it(world: World) -> None:
    folder, header = world.snapshot(3, gap=100, state={"zebra": [1.5], "apple": None})
    world.committer(world.claim(1)).commit(folder, header, files=world.files)
    _, spool, _ = world.restore()
    back = read_header(spool.restored_checkpoint)
    assert back is not None
    assert list(back.state) == ["zebra", "apple"]
    assert replace(back, tensors=header.tensors) == header
    end = 0
    for ours, entry in zip(back.tensors, header.tensors, strict=True):
        assert ours == replace(entry, offset=aligned(end))
        end = ours.offset + ours.size_bytes
    assert (spool.restored_checkpoint / TENSORS).stat().st_size == end


def test_a_state_of_nothing_comes_back(world: World) -> None:
    world.commit(world.committer(world.claim(1)), 0, [])
    restored, spool, _ = world.restore()
    assert restored is not None
    assert restored.manifest.packs == ()
    assert arrays_of(spool.restored_checkpoint) == []


def test_files_come_back_under_their_digests(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 64)
    files = {"a.csv": b"x" * 1000, "b/empty": b"", "b/again.csv": b"x" * 1000, "c.bin": bytes(range(256))}
    world.commit(world.committer(world.claim(1)), 3, files=files)
    restored, spool, _ = world.restore()
    assert restored is not None
    assert [entry.path for entry in restored.header.files] == list(files)
    for content in files.values():
        assert spool.file(hashlib.sha256(content).hexdigest()).read_bytes() == content
    assert len(list(spool.files.iterdir())) == 3
    assert list((world.folder / "cache").iterdir()) == []


def finished_fits(world: World, count: int) -> list[FitRef]:
    """So many finished fits by attempt 1, each a state of its own."""
    committer = world.committer(world.claim(1))
    refs: list[FitRef] = []
    for fit in range(count):
        committed = world.commit(
            committer, 100 * (fit + 1), kind=SnapshotKind.FIT_END, fits_finished=fit + 1, fits=refs
        )
        assert committed.fit_ref is not None
        refs.append(committed.fit_ref)
    return refs


def test_finished_fits_of_older_attempts_come_back_with_the_checkpoint(world: World) -> None:
    refs = finished_fits(world, 2)
    world.commit(world.committer(world.claim(2, "bert")), 230, fits_finished=2, fits=refs)
    restored, spool, _ = world.restore()
    assert restored is not None
    assert restored.has_checkpoint
    assert (restored.fits, restored.reasons) == (tuple(refs), ())
    assert_is_state_at(230, spool.restored_checkpoint)
    assert_is_state_at(100, spool.restored_fit(0))
    assert_is_state_at(200, spool.restored_fit(1))


def test_the_end_of_a_fit_can_be_the_newest_there_is(world: World) -> None:
    refs = finished_fits(world, 2)
    restored, spool, _ = world.restore()
    assert restored is not None
    assert not restored.has_checkpoint
    assert (restored.header.step, restored.header.fits_finished) == (200, 2)
    assert restored.fits == tuple(refs)
    assert read_header(spool.restored_checkpoint) is None
    assert_is_state_at(100, spool.restored_fit(0))
    assert_is_state_at(200, spool.restored_fit(1))


def test_a_fit_that_was_not_kept_is_a_reason(world: World) -> None:
    refs = finished_fits(world, 2)
    world.commit(world.committer(world.claim(2, "bert")), 230, fits_finished=2, fits=refs[1:])
    restored, spool, _ = world.restore()
    assert restored is not None
    assert restored.fits == (refs[1],)
    assert len(restored.reasons) == 1
    assert "end of fit 0 was not kept" in restored.reasons[0]
    assert read_header(spool.restored_fit(0)) is None


def test_every_pack_is_fetched_once(world: World) -> None:
    refs = finished_fits(world, 2)
    world.commit(world.committer(world.claim(2, "bert")), 230, fits_finished=2, fits=refs)
    store = FaultyStore(world.store)
    world.restore(store=store)
    fetched = [each.path for each in store.operations if each.name == "download"]
    assert sorted(fetched) == sorted(set(fetched))
    assert len(fetched) == 3


def test_a_damaged_fit_sends_back_to_what_stands_without_it(world: World) -> None:
    refs = finished_fits(world, 2)
    world.commit(world.committer(world.claim(2, "bert")), 230, fits_finished=2, fits=refs)
    content = world.store.read(refs[1].path)
    world.damage(refs[1].path, content[:-1])
    restored, spool, skipped = world.restore()
    assert restored is not None
    assert restored.fits == (refs[0],)
    assert len(skipped) == 2  # the checkpoint that stands on it, and the fit itself
    assert read_header(spool.restored_checkpoint) is None
    assert read_header(spool.restored_fit(1)) is None
    assert_is_state_at(100, spool.restored_fit(0))


def test_a_fit_that_was_swapped_for_another_is_refused(world: World) -> None:
    refs = finished_fits(world, 1)
    wrong = [replace(refs[0], sha256="0" * 64)]
    world.commit(world.committer(world.claim(2, "bert")), 230, fits_finished=1, fits=wrong)
    restored, _, skipped = world.restore()
    assert restored is not None
    assert restored.header.step == 100
    assert "is not the one that" in skipped[0]


def test_no_byte_of_a_manifest_may_be_other_than_written(world: World) -> None:
    path, _, _ = two_commits(world)
    content = world.store.read(path)
    for at in range(0, len(content), 7):
        world.damage(path, content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        found = newest_valid(world.store, RUN_ID, claims=world.claims, scratch=world.folder)
        assert found is not None
        assert found[0].step == 10
    world.damage(path, content)
    assert world.restored_step() == 20


class _Forgetful(MemoryStore):
    """Tells no checksums, as a folder does not."""

    def stat(self, path: str) -> ObjectInfo:
        return replace(super().stat(path), sha256=None)


@pytest.mark.parametrize("forgetful", [False, True])
@pytest.mark.parametrize("at", [0, 1, 250, 480, -1])
def test_no_byte_of_a_pack_may_be_other_than_written(world: World, at: int, forgetful: bool) -> None:
    if forgetful:
        world.store = _Forgetful(world.clock)
    _, pack, _ = two_commits(world)
    content = bytearray(world.store.read(pack))
    content[at] ^= 0x10
    world.damage(pack, bytes(content))
    restored, spool, skipped = world.restore()
    assert restored is not None
    assert_is_state_at(10, spool.restored_checkpoint)
    assert [reason for reason in skipped if "is damaged" in reason] == skipped
    found = newest_valid(world.store, RUN_ID, claims=world.claims, scratch=world.folder / "scratch")
    assert found is not None
    assert found[0].step == 10


@pytest.mark.parametrize("harm", ["truncated", "longer", "empty", "missing"])
@pytest.mark.parametrize("what", ["manifest", "pack"])
def test_what_is_not_whole_is_passed_over(world: World, what: str, harm: str) -> None:
    manifest, pack, _ = two_commits(world)
    path = manifest if what == "manifest" else pack
    content = world.store.read(path)
    match harm:
        case "truncated":
            world.damage(path, content[:-1])
        case "longer":
            world.damage(path, content + b"\0")
        case "empty":
            world.damage(path, b"")
        case _:
            world.store.delete(path)
    skipped: list[str] = []
    found = newest_valid(
        world.store, RUN_ID, claims=world.claims, scratch=world.folder, skipped=skipped.append
    )
    assert found is not None
    assert found[0].step == 10
    assert world.restored_step() == 10
    assert len(skipped) == (0 if (what, harm) == ("manifest", "missing") else 1)


def test_nothing_is_restored_where_nothing_verifies(world: World) -> None:
    _, _, shared = two_commits(world)
    world.store.delete(shared)
    restored, spool, skipped = world.restore()
    assert restored is None
    assert len(skipped) == 2
    assert not spool.restored_checkpoint.exists()
    assert list(spool.files.iterdir()) == []
    assert list((world.folder / "cache").iterdir()) == []


def test_a_manifest_in_the_wrong_place_is_not_taken(world: World) -> None:
    path, _, _ = two_commits(world)
    key = world.claims[0].key
    world.store.create(key.checkpoint_file(step=99, fits_finished=0), world.store.read(path))
    restored, _, skipped = world.restore()
    assert restored is not None
    assert restored.header.step == 20
    assert "it is the manifest of" in skipped[0]


def test_a_folder_is_a_root_like_any_other(world: World, tmp_path: Path) -> None:
    def time_ns() -> int:
        return int(world.clock.now().timestamp()) * 10**9

    store = LocalStore(tmp_path / "root", clock=world.clock, time_ns=time_ns)
    committer = world.committer(world.claim(1), store=store)
    for step in (10, 20):
        newest = world.commit(committer, step, files={"log.csv": b"0,0.5"})
    assert newest_valid(store, RUN_ID, claims=world.claims, scratch=tmp_path / "scratch") is not None
    restored, spool, skipped = world.restore(store=store)
    assert restored is not None
    assert (restored.stored, skipped) == (newest.stored, [])
    assert_is_state_at(20, spool.restored_checkpoint)
    pack = tmp_path / "root" / newest.manifest.key.pack_file(newest.manifest.packs[0].sha256)
    pack.write_bytes(pack.read_bytes()[:-1] + b"x")
    restored, spool, skipped = world.restore(store=store)
    assert restored is not None
    assert restored.header.step == 10
    assert len(skipped) == 1


def test_a_root_out_of_reach_is_no_reason_to_go_back(world: World) -> None:
    two_commits(world)
    for name in ("list", "read", "download"):
        busy = Injection(
            error=lambda path: TransientStoreError("busy", path=path), operations=frozenset({name})
        )
        with pytest.raises(TransientStoreError):
            world.restore(store=FaultyStore(world.store, injections=[busy]))


def test_a_disconnect_while_restoring_leaves_no_snapshot(world: World) -> None:
    two_commits(world)
    store = FaultyStore(world.store)
    world.restore(store=store)
    for crash_at in range(1, len(store.operations) + 1):
        with pytest.raises(SimulatedDisconnect):
            world.restore(store=FaultyStore(world.store, crash_at=crash_at))
    assert len(list(world.folder.glob("spool-*/restore/checkpoint/header.json"))) == 1  # of the first
    assert len(list(world.folder.glob("spool-*/restore/checkpoint"))) == 1


def test_restoring_again_replaces_what_was_there(world: World, tmp_path: Path) -> None:
    refs = finished_fits(world, 2)
    spool = SpoolFolder(path=tmp_path / "spool")
    with_checkpoint = world.commit(world.committer(world.claim(2, "bert")), 230, fits_finished=2, fits=refs)
    restore(world.store, with_checkpoint.stored, into=spool, cache=tmp_path / "cache")
    found = newest_valid(world.store, RUN_ID, claims=world.claims[:1], scratch=tmp_path)
    assert found is not None
    restore(world.store, found[1], into=spool, cache=tmp_path / "cache")
    assert read_header(spool.restored_checkpoint) is None
    assert_is_state_at(200, spool.restored_fit(1))


def test_a_file_that_its_manifest_calls_by_a_wrong_name_is_refused(world: World, tmp_path: Path) -> None:
    stored = world.commit(world.committer(world.claim(1)), 3, files={"a": b"x" * 100}).stored
    header = stored.manifest.header
    wrong = replace(header, files=(replace(header.files[0], sha256="0" * 64),))
    spool = SpoolFolder(path=tmp_path / "spool")
    with pytest.raises(IntegrityError, match="a file of the checkpoint is damaged"):
        restore(
            world.store,
            replace(stored, manifest=replace(stored.manifest, header=wrong)),
            into=spool,
            cache=tmp_path / "cache",
        )
    assert list(spool.files.iterdir()) == []


def test_restoring_says_what_is_missing(world: World, tmp_path: Path) -> None:
    path, pack, _ = two_commits(world)
    spool = SpoolFolder(path=tmp_path / "spool")
    found = newest_valid(world.store, RUN_ID, claims=world.claims, scratch=tmp_path)
    assert found is not None
    assert found[0].path == path
    world.store.delete(pack)
    with pytest.raises(ObjectNotFound) as caught:
        restore(world.store, found[1], into=spool, cache=tmp_path / "cache")
    assert caught.value.path == pack
    world.store.create(pack, b"other")
    with pytest.raises(IntegrityError, match="is damaged"):
        restore(world.store, found[1], into=spool, cache=tmp_path / "cache")
    assert find_checkpoints(world.store, RUN_ID, claims=world.claims)[0].path == path
