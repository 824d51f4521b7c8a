import hashlib
import io
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from driverun.errors import IntegrityError, JobError, ObjectNotFound, UnsafePath
from driverun.spec.model import DataSource, JobSpec
from driverun.storage.base import ObjectInfo, ObjectStore
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from driverun.testing.faulty import FaultyStore
from driverun.transfer.cache import DataCache
from driverun.transfer.presence import KnownSources, missing_sources
from driverun.transfer.progress import Progress
from driverun.transfer.sync import SyncedData, fingerprint_of, sync_data
from tests.transfer.conftest import MakeStore
from tests.transfer.worlds import stores_after_each_crash

GB = 10**9


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def local(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def source(path: str, **fields: object) -> DataSource:
    return DataSource.model_validate({"source": path, **fields})


def is_held(cache: DataCache, store: ObjectStore, path: str) -> bool:
    return cache.held(store, [store.stat(path)]) == {path}


@pytest.fixture
def cache(tmp_path: Path, clock: FakeClock) -> DataCache:
    return DataCache(tmp_path / "cache", GB, clock=clock)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


def plenty(folder: Path) -> int:
    return 100 * GB


Sync = Callable[[ObjectStore, DataSource], SyncedData]


@pytest.fixture
def sync(cache: DataCache, work: Path) -> Sync:
    def run(store: ObjectStore, asked: DataSource) -> SyncedData:
        return sync_data(store, asked, work, cache, free_bytes=plenty)

    return run


def test_a_file_lands_under_its_target(store: ObjectStore, sync: Sync, work: Path) -> None:
    store.create("data/mnist.npz", b"digits")
    synced = sync(store, source("data/mnist.npz"))
    assert local(work) == {"data/mnist.npz": b"digits"}
    files = {"mnist.npz": sha256(b"digits")}
    assert synced == SyncedData(
        target="mnist.npz", size_bytes=6, fingerprint=fingerprint_of(files), files=files, notes=()
    )
    sync(store, source("data/mnist.npz", target="data/deep/other.npz"))
    assert (work / "data/deep/other.npz").read_bytes() == b"digits"


def test_a_folder_lands_whole_without_what_driverun_keeps_there(
    store: ObjectStore, cache: DataCache, work: Path
) -> None:
    for path in ("a", "deep/b", "deep/.hidden", ".driverun/pack", "deep/.driverun/pack"):
        store.create(f"data/images/{path}", path.encode())
    told: list[Progress] = []
    synced = sync_data(store, source("data/images"), work, cache, told.append, free_bytes=plenty)
    assert local(work / "data/images") == {"a": b"a", "deep/b": b"deep/b", "deep/.hidden": b"deep/.hidden"}
    assert sorted(synced.files) == ["images/a", "images/deep/.hidden", "images/deep/b"]
    assert synced.size_bytes == 19
    assert [(each.done_files, each.total_files) for each in told] == [(1, 3), (2, 3), (3, 3)]
    assert told[-1].done_bytes == told[-1].total_bytes == 19


def test_the_fingerprint_is_that_of_paths_and_contents(make_store: MakeStore, sync: Sync) -> None:
    prints = set()
    for files in (
        {"a": b"1", "b": b"2"},
        {"b": b"2", "a": b"1"},
        {"a": b"2", "b": b"1"},
        {"a": b"1", "c": b"2"},
    ):
        store = make_store()
        for path, content in files.items():
            store.create(f"data/x/{path}", content)
        prints.add(sync(store, source("data/x")).fingerprint)
    assert len(prints) == 3


def test_only_what_changed_is_fetched(make_store: MakeStore, sync: Sync, work: Path) -> None:
    store = FaultyStore(make_store())
    store.create("data/x/a", b"a")
    store.create("data/x/b", b"b")

    def downloads() -> list[str]:
        store.operations.clear()
        sync(store, source("data/x"))
        return [each.path for each in store.operations if each.name == "download"]

    assert sorted(downloads()) == ["data/x/a", "data/x/b"]
    assert downloads() == []
    store.replace("data/x/b", b"B")
    assert downloads() == ["data/x/b"]
    assert local(work / "data/x") == {"a": b"a", "b": b"B"}


def test_a_job_that_writes_to_its_data_does_not_harm_the_cache(
    store: ObjectStore, sync: Sync, work: Path
) -> None:
    store.create("data/x", b"good")
    sync(store, source("data/x"))
    (work / "data/x").write_bytes(b"evil")
    sync(store, source("data/x"))
    assert local(work) == {"data/x": b"good"}


@pytest.mark.parametrize("damage", [b"evil", b"longer than it was", b""])
def test_a_damaged_cache_entry_is_fetched_again(
    damage: bytes, store: ObjectStore, sync: Sync, work: Path, cache: DataCache
) -> None:
    store.create("data/x", b"good")
    for _ in range(2):
        sync(store, source("data/x"))
        assert local(work) == {"data/x": b"good"}
        (entry,) = [each for each in cache.folder.rglob("*") if each.is_file()]
        entry.write_bytes(damage)


def test_what_was_not_used_for_longest_leaves_the_cache_first(
    store: ObjectStore, work: Path, tmp_path: Path, clock: FakeClock
) -> None:
    cache = DataCache(tmp_path / "small", 100, clock=clock)

    def use(name: str) -> None:
        clock.advance(seconds=1)
        sync_data(store, source(f"data/{name}"), work, cache, free_bytes=plenty)

    for name in "abcde":
        store.create(f"data/{name}", name.encode() * 30)
    for name in "abcad":
        use(name)
    held = {name for name in "abcde" if is_held(cache, store, f"data/{name}")}
    assert held == {"a", "c", "d"}
    assert sum(len(content) for content in local(tmp_path / "small").values()) <= 100
    again = DataCache(tmp_path / "small", 100, clock=clock)
    assert is_held(again, store, "data/d")


def test_what_is_larger_than_the_cache_passes_it_by(
    store: ObjectStore, work: Path, tmp_path: Path, clock: FakeClock
) -> None:
    cache = DataCache(tmp_path / "small", 10, clock=clock)
    store.create("data/small", b"s")
    store.create("data/large", b"l" * 11)
    for name in ("small", "large"):
        sync_data(store, source(f"data/{name}"), work, cache, free_bytes=plenty)
    assert local(work / "data") == {"small": b"s", "large": b"l" * 11}
    assert list(local(tmp_path / "small").values()) == [b"s"]


def test_leftovers_of_dead_processes_go_after_a_day(tmp_path: Path, clock: FakeClock) -> None:
    left = tmp_path / "cache/tmp/1-0"
    left.mkdir(parents=True)
    (left / "object").write_bytes(b"half")
    os.utime(left, (clock.now().timestamp(),) * 2)
    DataCache(tmp_path / "cache", 10, clock=clock)
    assert left.exists()
    clock.advance(seconds=25 * 3600)
    DataCache(tmp_path / "cache", 10, clock=clock)
    assert not left.exists()


def test_the_disk_is_looked_at_before_anything_is_fetched(
    make_store: MakeStore, cache: DataCache, work: Path
) -> None:
    store = FaultyStore(make_store())
    store.create("data/x", b"x" * 3000)
    with pytest.raises(JobError, match=r"has 3\.0 kB, the disk has 64\.0 MB free, so 2\.0 kB are missing"):
        sync_data(store, source("data/x"), work, cache, free_bytes=lambda _: 64_001_000)
    assert "download" not in [each.name for each in store.operations]


def test_where_two_copies_do_not_fit_the_cache_is_left_out(
    store: ObjectStore, cache: DataCache, work: Path
) -> None:
    store.create("data/x", b"x" * 3000)
    synced = sync_data(store, source("data/x"), work, cache, free_bytes=lambda _: 64_004_000)
    assert synced.notes == ("data/x: the disk has no room for a second copy; the cache was left out",)
    assert local(work) == {"data/x": b"x" * 3000}
    assert local(cache.folder) == {}


def test_old_entries_of_the_cache_make_room(store: ObjectStore, cache: DataCache, work: Path) -> None:
    for name in ("old", "new"):
        store.create(f"data/{name}", name.encode() * 1000)

    def free(folder: Path) -> int:
        return 64_007_000 - sum(len(content) for content in local(cache.folder).values())

    sync_data(store, source("data/old"), work, cache, free_bytes=free)
    assert sync_data(store, source("data/new"), work, cache, free_bytes=free).notes == ()
    assert list(local(cache.folder).values()) == [b"new" * 1000]


def test_a_file_in_the_way_of_a_folder_is_told(store: ObjectStore, sync: Sync, work: Path) -> None:
    store.create("data/x/y", b"")
    (work / "data").mkdir(parents=True)
    (work / "data/x").write_text("code of the job")
    with pytest.raises(JobError, match="give the source another target"):
        sync(store, source("data/x"))


def test_a_missing_source_is_waited_for_and_an_optional_one_passed_over(
    store: ObjectStore, sync: Sync, work: Path
) -> None:
    with pytest.raises(ObjectNotFound, match="driverun upload LOCAL data/x") as caught:
        sync(store, source("data/x"))
    assert caught.value.path == "data/x"
    synced = sync(store, source("data/x", optional=True))
    assert synced.files == {}
    assert synced.notes == ("data/x: not there, and optional; the job runs without it",)
    assert not work.exists()


def test_missing_sources_are_found_at_one_look_each(make_store: MakeStore) -> None:
    store = FaultyStore(make_store())
    spec = JobSpec.model_validate(
        {
            "name": "job",
            "entrypoint": "train.py",
            "data": [
                {"source": "data/file"},
                {"source": "data/folder"},
                {"source": "data/deep"},
                {"source": "data/none"},
                {"source": "data/perhaps", "optional": True},
                {"source": "data/packs"},
            ],
        }
    )
    assert missing_sources(KnownSources(store), spec) == [
        "data/file",
        "data/folder",
        "data/deep",
        "data/none",
        "data/packs",
    ]
    for path in ("file", "folder/a", "deep/er/a", "packs/.driverun/a"):
        store.create(f"data/{path}", b"")
    store.operations.clear()
    assert missing_sources(KnownSources(store), spec) == ["data/none", "data/packs"]
    assert len(store.operations) == 1 + 2 + 3 + 3 + 3


def zipped(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def test_an_archive_is_unpacked_unless_it_is_to_stay_one(store: ObjectStore, sync: Sync, work: Path) -> None:
    packed = zipped(a=b"1", b=b"22")
    store.create("data/images.zip", packed)
    sync(store, source("data/images.zip", unpack=False))
    assert local(work / "data") == {"images.zip": packed}
    synced = sync(store, source("data/images.zip"))
    assert local(work / "data/images") == {"a": b"1", "b": b"22"}
    assert synced.target == "images"
    assert synced.size_bytes == 3
    assert synced.files == {"images/a": sha256(b"1"), "images/b": sha256(b"22")}
    assert sorted(each.name for each in (work / "data").iterdir()) == ["images", "images.zip"]


def test_an_archive_is_unpacked_under_its_target(store: ObjectStore, sync: Sync, work: Path) -> None:
    store.create("data/v2.zip", zipped(a=b"1"))
    assert sync(store, source("data/v2.zip", target="deep/x")).files == {"deep/x/a": sha256(b"1")}
    assert local(work) == {"data/deep/x/a": b"1"}


def test_an_archive_in_a_folder_stays_one(store: ObjectStore, sync: Sync, work: Path) -> None:
    store.create("data/all/x.zip", zipped(a=b"1"))
    assert list(sync(store, source("data/all")).files) == ["all/x.zip"]


def test_an_archive_that_writes_elsewhere_or_does_not_fit_is_refused(
    store: ObjectStore, cache: DataCache, work: Path, sync: Sync
) -> None:
    store.create("data/evil.zip", zipped(**{"../../evil": b"x"}))
    with pytest.raises(UnsafePath, match="land outside"):
        sync(store, source("data/evil.zip"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(10_000_000))
    store.create("data/bomb.zip", packed.getvalue())
    with pytest.raises(JobError, match=r"bomb of data/bomb\.zip .* it has 10\.0 MB"):
        sync_data(store, source("data/bomb.zip"), work, cache, free_bytes=lambda _: 65_000_000)
    assert local(work) == {}


def test_any_crash_is_survived(make_store: MakeStore, tmp_path: Path, clock: FakeClock) -> None:
    """The working folder and the cache may outlive the crash as well."""

    def run(store: ObjectStore) -> None:
        cache = DataCache(tmp_path / "kept", GB, clock=clock)
        sync_data(store, source("data/x"), tmp_path / "work", cache, free_bytes=plenty)

    def filled() -> ObjectStore:
        store = make_store()
        store.create("data/x/a", b"a")
        store.create("data/x/b", b"b")
        for each in local(tmp_path / "kept"):
            (tmp_path / "kept" / each).unlink()
        return store

    for _ in stores_after_each_crash(filled, run):
        assert local(tmp_path / "work/data/x") == {"a": b"a", "b": b"b"}
        assert not local(tmp_path / "kept/tmp")


class TamperedStore(MemoryStore):
    """What arrives is not what it says."""

    def download(self, path: str, target: Path) -> ObjectInfo:
        return replace(super().download(path, target), sha256="0" * 64)


@pytest.mark.parametrize("limit_bytes", [0, GB])
def test_what_arrives_damaged_is_never_used(
    limit_bytes: int, tmp_path: Path, work: Path, clock: FakeClock
) -> None:
    store = TamperedStore(clock)
    store.create("data/x", b"x")
    cache = DataCache(tmp_path / "cache", limit_bytes, clock=clock)
    with pytest.raises(IntegrityError):
        sync_data(store, source("data/x"), work, cache, free_bytes=plenty)
    assert local(tmp_path) == {}
