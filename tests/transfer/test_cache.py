"""The cache of data under its limit, shared by threads and processes."""

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from driverun.errors import JobError
from driverun.spec.model import DataSource
from driverun.storage.base import ObjectInfo, ObjectStore
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from driverun.testing.faulty import FaultyStore
from driverun.transfer import progress
from driverun.transfer.cache import DataCache
from driverun.transfer.parallel import for_each
from driverun.transfer.progress import Progress, ProgressCounter
from driverun.transfer.sync import sync_data


@pytest.fixture
def filled(clock: FakeClock) -> MemoryStore:
    store = MemoryStore(clock)
    for number in range(20):
        store.create(f"data/set/{number:02d}", b"%02d" % number * 50)
    return store


def used_bytes(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


def downloads(store: FaultyStore) -> int:
    return len([each for each in store.operations if each.name == "download"])


def test_data_larger_than_the_limit_do_not_drive_themselves_out(
    filled: MemoryStore, tmp_path: Path, clock: FakeClock
) -> None:
    store = FaultyStore(filled)
    for _ in range(3):
        cache = DataCache(tmp_path / "cache", 1000, clock=clock)
        store.operations.clear()
        clock.advance(seconds=1)
        synced = sync_data(store, DataSource(source="data/set"), tmp_path / "work", cache)
        assert len(synced.files) == 20
        assert used_bytes(cache.folder) <= 1000
    assert downloads(store) == 10  # half of them fit, and stay


def test_other_data_make_room_for_those_in_use(filled: MemoryStore, tmp_path: Path, clock: FakeClock) -> None:
    filled.create("data/old", b"o" * 900)
    cache = DataCache(tmp_path / "cache", 1000, clock=clock)
    sync_data(filled, DataSource(source="data/old"), tmp_path / "work", cache)
    sync_data(filled, DataSource(source="data/set"), tmp_path / "work", cache)
    assert cache.held(filled, [filled.stat("data/old")]) == set()
    assert len(cache.held(filled, filled.list("data/set"))) == 10


def test_two_workers_with_one_small_cache_both_get_all(
    filled: MemoryStore, tmp_path: Path, clock: FakeClock
) -> None:
    def work(number: int) -> None:
        for turn in range(3):
            cache = DataCache(tmp_path / "cache", 700, clock=clock)
            place = tmp_path / f"work-{number}-{turn}"
            sync_data(filled, DataSource(source="data/set"), place, cache)
            for index in range(20):
                assert (place / f"data/set/{index:02d}").read_bytes() == b"%02d" % index * 50

    for_each(range(3), work, threads=3)
    assert not list((tmp_path / "cache/tmp").iterdir())


def test_what_cannot_be_told_from_its_next_version_is_not_kept(
    filled: MemoryStore, tmp_path: Path, clock: FakeClock
) -> None:
    cache = DataCache(tmp_path / "cache", 1000, clock=clock)
    assert not cache.may_hold(replace(filled.stat("data/set/00"), object_id=""))


def test_a_file_that_is_read_in_place_may_go_and_come(
    filled: MemoryStore, tmp_path: Path, clock: FakeClock
) -> None:
    cache = DataCache(tmp_path / "cache", 1000, clock=clock)
    store, info = FaultyStore(filled), filled.stat("data/set/07")
    assert info.sha256 is not None
    for expected in (1, 1, 2):
        with cache.opened(store, info, info.sha256) as content:
            cache.make_room(10_000)  # somebody else needs it now
            assert content.read() == b"07" * 50
            if expected == 1 and cache.held(store, [info]):
                raise AssertionError("it made no room")
        assert downloads(store) in (expected, expected + 1)
    cache.forget(store, info)
    assert not cache.held(store, [info])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("where", ["file", "folder", "archive"])
def test_a_disk_that_fills_is_told_in_plain_words_and_leaves_no_half_file(
    number: int, where: str, tmp_path: Path, clock: FakeClock
) -> None:
    class Full(MemoryStore):
        def download(self, path: str, target: Path) -> ObjectInfo:
            if path.endswith(("2", ".zip")):
                target.with_name("half").write_bytes(b"half")
                raise OSError(number, "No space left on device")
            return super().download(path, target)

    store = Full(clock)
    for name in ("folder/1", "folder/2", "file2", "archive.zip"):
        store.create(f"data/{name}", b"x")
    source = {"file": "data/file2", "folder": "data/folder", "archive": "data/archive.zip"}[where]
    cache = DataCache(tmp_path / "cache", 1000, clock=clock)
    with pytest.raises(JobError, match=rf"cannot bring {source} .*Free space there"):
        sync_data(store, DataSource(source=source), tmp_path / "work", cache)
    left = [each.name for each in tmp_path.rglob("*") if each.is_file()]
    assert "half" not in left


def test_a_large_file_is_told_of_while_it_arrives(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LARGE_BYTES", 100)
    looks: list[Callable[[], None]] = []
    whole = ProgressCounter.look

    class Slow(MemoryStore):
        def download(self, path: str, target: Path) -> ObjectInfo:
            target.with_name("part").write_bytes(b"x" * 40)
            for look in looks:
                look()
            target.with_name("part").unlink()
            return super().download(path, target)

    def watching(self: ProgressCounter) -> object:
        looks.append(lambda: whole(self))
        return watched(self)

    watched = ProgressCounter.watching
    monkeypatch.setattr(ProgressCounter, "watching", watching)
    told: list[Progress] = []
    store: ObjectStore = Slow(clock)
    store.create("data/large", b"x" * 100)
    for limit_bytes in (1000, 0):  # through the cache, and past it
        told.clear()
        cache = DataCache(tmp_path / f"cache{limit_bytes}", limit_bytes, clock=clock)
        sync_data(store, DataSource(source="data/large"), tmp_path / "work", cache, told.append)
        assert [(each.done_files, each.done_bytes) for each in told][0::2] in ([(0, 40), (1, 100)], [(0, 40)])
        assert told[-1].done_bytes == 100
