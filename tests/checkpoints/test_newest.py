from __future__ import annotations

from dataclasses import replace

import pytest

from driverun.checkpoints.manifest import StoredManifest
from driverun.checkpoints.newest import CheckpointInfo, find_checkpoints, newest_valid, walk_back
from driverun.errors import IntegrityError
from driverun.spool.snapshot import SnapshotKind
from driverun.storage.base import ObjectInfo
from driverun.storage.memory import MemoryStore
from tests.checkpoints.world import RUN_ID, World


def found(world: World, *, resume_after: int = 0) -> list[tuple[int, int, int | None]]:
    infos = find_checkpoints(world.store, RUN_ID, claims=world.claims, resume_after=resume_after)
    return [(info.key.number, info.fits_finished, info.step) for info in infos]


def test_a_run_without_checkpoints_has_none(world: World) -> None:
    assert found(world) == []
    world.claim(1)
    assert found(world) == []
    assert newest_valid(world.store, RUN_ID, claims=world.claims, scratch=world.folder) is None


def test_the_furthest_comes_first_then_the_newer_attempt(world: World) -> None:
    first = world.committer(world.claim(1))
    world.commit(first, 90)
    end = world.commit(first, 100, kind=SnapshotKind.FIT_END, fits_finished=1)
    assert end.fit_ref is not None
    world.commit(first, 100, fits_finished=1, fits=[end.fit_ref])
    world.commit(first, 1000, fits_finished=1, fits=[end.fit_ref])
    second = world.committer(world.claim(2, "bert"))
    world.commit(second, 90)
    world.commit(second, 1000, fits_finished=1, fits=[end.fit_ref])
    assert found(world) == [(2, 1, 1000), (1, 1, 1000), (1, 1, 100), (1, 1, 100), (2, 0, 90), (1, 0, 90)]
    kinds = [info.kind for info in find_checkpoints(world.store, RUN_ID, claims=world.claims)]
    assert kinds.index(SnapshotKind.FIT_END) == 3


def test_what_a_superseded_worker_writes_does_not_count(world: World) -> None:
    first = world.committer(world.claim(1))
    world.commit(first, 10)
    rival = world.committer(world.claim(1, "rival"))
    world.commit(rival, 11)
    world.claim(2, "bert")
    world.commit(first, 20)
    assert found(world) == [(1, 0, 10)]


def test_a_fresh_start_leaves_older_attempts_out(world: World) -> None:
    world.commit(world.committer(world.claim(1)), 10)
    world.commit(world.committer(world.claim(2, "bert")), 5)
    assert found(world, resume_after=1) == [(2, 0, 5)]
    assert found(world, resume_after=2) == []


def test_other_files_of_an_attempt_are_no_checkpoints(world: World) -> None:
    key = world.claim(1)
    for name in ("ckpt-12-000.json", "ckpt-0000000012.json", "fit-1.json", "xckpt-0000000012-000.json",
                 "ckpt-0000000012-000.json.part", "ckpt-00000000012-000.json", "log-00001.txt"):  # fmt: skip
        world.store.create(f"{key.folder}/{name}", b"{}")
    world.store.create(f"{key.results_folder}/ckpt-0000000012-000.json", b"{}")
    assert found(world) == []


def test_a_store_that_keeps_no_properties_says_less(world: World) -> None:
    class Plain(MemoryStore):
        def list(self, folder: str, *, recursive: bool = False, prefix: str = "") -> list[ObjectInfo]:
            return [
                replace(each, properties=None)
                for each in super().list(folder, recursive=recursive, prefix=prefix)
            ]

    world.store = Plain(world.clock)
    committer = world.committer(world.claim(1))
    world.commit(committer, 100, kind=SnapshotKind.FIT_END, fits_finished=1)
    world.commit(committer, 50)
    end, checkpoint = find_checkpoints(world.store, RUN_ID, claims=world.claims)
    assert (end.step, end.size_bytes, end.new_bytes) == (None, None, None)
    assert (checkpoint.step, checkpoint.size_bytes) == (50, None)


def test_when_one_vanishes_the_folders_are_listed_again(world: World) -> None:
    committer = world.committer(world.claim(1))
    old = world.commit(committer, 10)
    skipped: list[str] = []

    class Moving(MemoryStore):
        """Its owner commits a newer checkpoint and deletes the old one, just as a reader reaches for it."""

        def read(self, path: str) -> bytes:
            if path == old.path and committer.committed == {old.path: old}:
                world.commit(committer, 20)
                self.delete(path)
            return super().read(path)

    moving = Moving(world.clock)
    moving.__dict__.update(world.store.__dict__)
    found_one = newest_valid(
        moving, RUN_ID, claims=world.claims, scratch=world.folder, skipped=skipped.append
    )
    assert found_one is not None
    assert found_one[0].step == 20
    assert len(skipped) == 1
    assert old.path in skipped[0]


def test_walking_back_ends_when_all_are_refused(world: World) -> None:
    committer = world.committer(world.claim(1))
    for step in (10, 20, 30):
        world.commit(committer, step)
    offered: list[int | None] = []

    def take(info: CheckpointInfo, stored: StoredManifest) -> int:
        offered.append(info.step)
        if stored.manifest.header.step != 10:
            raise IntegrityError("not that one")
        return 10

    assert walk_back(world.store, RUN_ID, claims=world.claims, take=take) == 10
    assert offered == [30, 20, 10]

    def refuse(info: CheckpointInfo, stored: StoredManifest) -> int:
        raise IntegrityError("none")

    assert walk_back(world.store, RUN_ID, claims=world.claims, take=refuse) is None
    with pytest.raises(ZeroDivisionError):
        walk_back(world.store, RUN_ID, claims=world.claims, take=lambda info, stored: 1 // 0)
