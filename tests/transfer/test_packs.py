"""Small files that come in packs: the same data, in a few large files."""

import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driverun.errors import IntegrityError, StoreQuotaExceeded, TransientStoreError
from driverun.runs.layout import packs_folder
from driverun.spec.model import DataSource
from driverun.storage.base import ObjectInfo, ObjectStore
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from driverun.testing.faulty import FaultyStore, Injection, SimulatedDisconnect
from driverun.transfer.cache import DataCache
from driverun.transfer.packing import Packer
from driverun.transfer.packs import FEWEST_FILES, Member, PackIndex, Shard, find_packs
from driverun.transfer.sync import SyncedData, sync_data

SOURCE = "data/images"
PACKS = packs_folder(SOURCE)
FILES = {
    f"{folder}/{number:03d}.png": f"{folder}{number}".encode() * 9 for number in range(60) for folder in "ab"
}
GB = 10**9


class FarStore(MemoryStore):
    """Every download takes as long as on Drive."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self._ticking = clock

    def download(self, path: str, target: Path) -> ObjectInfo:
        self._ticking.advance(seconds=0.15)
        return super().download(path, target)


@pytest.fixture
def far(clock: FakeClock) -> FarStore:
    store = FarStore(clock)
    for path, content in FILES.items():
        store.create(f"{SOURCE}/{path}", content)
    clock.advance(seconds=1)
    return store


class Runtime:
    """A machine with nothing on its disk."""

    def __init__(self, folder: Path, store: ObjectStore, clock: FakeClock, *, worker: str = "wone") -> None:
        self.folder = folder
        self.store = FaultyStore(store)
        self.cache = DataCache(folder / "cache", GB, clock=clock)
        self.worker = worker
        self.said: list[str] = []

    def sync(self) -> SyncedData:
        self.store.operations.clear()
        return sync_data(self.store, DataSource(source=SOURCE), self.folder / "work", self.cache)

    def packer(
        self, synced: SyncedData, *, store: ObjectStore | None = None, shard_bytes: int = GB
    ) -> Packer:
        assert synced.packable is not None
        return Packer(
            store if store is not None else self.store,
            synced.packable,
            worker=self.worker,
            scratch=self.folder,
            say=self.said.append,
            free_bytes=lambda _: 100 * GB,
            shard_bytes=shard_bytes,
        )

    @property
    def downloads(self) -> list[str]:
        return [each.path for each in self.store.operations if each.name == "download"]

    @property
    def files(self) -> dict[str, bytes]:
        top = self.folder / "work/data/images"
        return {str(each.relative_to(top)): each.read_bytes() for each in top.rglob("*") if each.is_file()}


NewRuntime = Callable[[], Runtime]


@pytest.fixture
def runtime(far: FarStore, clock: FakeClock, tmp_path: Path) -> NewRuntime:
    made: list[Runtime] = []

    def make() -> Runtime:
        made.append(Runtime(tmp_path / f"vm{len(made)}", far, clock, worker=f"w{len(made):03d}"))
        return made[-1]

    return make


def packed_by(runtime: Runtime, *, shard_bytes: int = GB) -> SyncedData:
    synced = runtime.sync()
    runtime.packer(synced, shard_bytes=shard_bytes).work()
    return synced


def shards_of(store: ObjectStore) -> set[str]:
    """The digests of all shards; a crash must not leave any twice."""
    names = [info.path.rpartition("/")[2] for info in store.list(PACKS) if info.path.endswith(".tar")]
    assert len(names) == len({name.partition(".")[0] for name in names})
    return {name.partition(".")[0] for name in names}


def test_the_next_runtime_fetches_one_file_in_place_of_many(runtime: NewRuntime, far: FarStore) -> None:
    first, second = runtime(), runtime()
    synced = packed_by(first)
    assert len(first.downloads) == len(FILES) == 120
    assert first.said == ["data/images: 120 small files are packed in 1; the next runtime has them sooner"]
    again = second.sync()
    assert [each.rpartition(".")[2] for each in second.downloads] == ["tar"]
    assert first.files == second.files == FILES
    assert again == synced
    assert again.fingerprint == synced.fingerprint
    assert again.packable is None


def test_a_shard_that_is_in_the_cache_is_not_fetched_again(runtime: NewRuntime) -> None:
    packed_by(runtime())
    second = runtime()
    for expected in (1, 0):
        second.sync()
        assert len(second.downloads) == expected
        assert second.files == FILES


def test_files_that_changed_since_come_by_themselves(runtime: NewRuntime, far: FarStore) -> None:
    packed_by(runtime())
    far.replace(f"{SOURCE}/a/001.png", b"new")
    far.delete(f"{SOURCE}/a/002.png")
    far.create(f"{SOURCE}/c.png", b"added")
    second = runtime()
    second.sync()
    expected = {**FILES, "a/001.png": b"new", "c.png": b"added"}
    del expected["a/002.png"]
    assert second.files == expected
    assert sorted(second.downloads)[1:] == [f"{SOURCE}/a/001.png", f"{SOURCE}/c.png"]


def test_what_was_added_in_numbers_is_packed_beside_what_was(
    runtime: NewRuntime, far: FarStore, clock: FakeClock
) -> None:
    packed_by(runtime())
    for number in range(FEWEST_FILES):
        far.create(f"{SOURCE}/new/{number}", b"new%d" % number)
    packed_by(runtime())
    assert len(find_packs(far, SOURCE)[0]) == 2
    third = runtime()
    third.sync()
    assert len(third.downloads) == 2
    assert len(third.files) == 220


def test_many_shards_hold_what_one_would(runtime: NewRuntime, far: FarStore) -> None:
    packed_by(runtime(), shard_bytes=2000)
    (found,), listing = find_packs(far, SOURCE)
    assert len(found.index.shards) == len(listing) - 1 == 2
    second = runtime()
    second.sync()
    assert second.files == FILES
    assert len([path for path in second.downloads if path.endswith(".tar")]) == 1
    assert 2 < len(second.downloads) < 50  # the last shard holds less than fetching it would take


def test_a_shard_is_a_tar_that_a_person_can_open(runtime: NewRuntime, far: FarStore, tmp_path: Path) -> None:
    packed_by(runtime())
    (shard,) = [info for info in far.list(PACKS) if info.path.endswith(".tar")]
    (tmp_path / "x.tar").write_bytes(far.read(shard.path))
    with tarfile.open(tmp_path / "x.tar") as archive:
        held = {
            entry.name.removeprefix(f"{SOURCE}/"): content.read()
            for entry in archive
            if (content := archive.extractfile(entry)) is not None
        }
    assert held == FILES


def test_the_same_files_make_the_same_shard_whoever_packs_them(runtime: NewRuntime, far: FarStore) -> None:
    first, second = runtime(), runtime()
    both = [(first, first.sync()), (second, second.sync())]
    names = []
    for each, synced in both:
        each.packer(synced).work()
        (name,) = [info.path for info in far.list(PACKS) if info.path.endswith(".tar")]
        names.append(name.rpartition("/")[2].partition(".")[0])
        for info in far.list(PACKS):
            far.delete(info.path)
    assert names[0] == names[1]


def test_who_finds_that_another_has_packed_makes_nothing(runtime: NewRuntime, far: FarStore) -> None:
    first, second = runtime(), runtime()
    synced = second.sync()
    packed_by(first)
    before = far.list(PACKS)
    second.packer(synced).work()
    assert far.list(PACKS) == before


def test_nothing_is_packed_where_files_come_quickly_or_are_few(clock: FakeClock, tmp_path: Path) -> None:
    quick = MemoryStore(clock)
    for path, content in FILES.items():
        quick.create(f"{SOURCE}/{path}", content)
    assert Runtime(tmp_path / "a", quick, clock).sync().packable is None
    few = FarStore(clock)
    for number in range(FEWEST_FILES - 1):
        few.create(f"{SOURCE}/{number}", b"")
    assert Runtime(tmp_path / "b", few, clock).sync().packable is None


def test_what_the_job_changed_meanwhile_is_left_out(runtime: NewRuntime, far: FarStore) -> None:
    first = runtime()
    synced = first.sync()
    (first.folder / "work/data/images/a/001.png").write_bytes(b"written by the job")
    (first.folder / "work/data/images/a/002.png").unlink()
    (first.folder / "work/data/images/a/003.png").write_bytes(FILES["a/003.png"] + b"more")
    first.packer(synced).work()
    second = runtime()
    second.sync()
    assert second.files == FILES
    assert len(second.downloads) == 4


@pytest.mark.parametrize("damage", [lambda content: content[:-1000] + b"x" * 1000, lambda content: b""])
def test_a_damaged_shard_costs_time_and_nothing_else(
    damage: Callable[[bytes], bytes], runtime: NewRuntime, far: FarStore
) -> None:
    packed_by(runtime())
    (shard,) = [info for info in far.list(PACKS) if info.path.endswith(".tar")]
    whole = far.read(shard.path)
    far.replace(shard.path, damage(whole[:5000].ljust(len(whole), b"?")) if damage(b"") else damage(whole))
    second = runtime()
    for _ in range(2):
        second.sync()
        assert second.files == FILES


def test_an_index_that_makes_no_sense_is_passed_over(runtime: NewRuntime, far: FarStore) -> None:
    packed_by(runtime())
    (index,) = [info for info in far.list(PACKS) if info.path.endswith(".json")]
    newer = json.loads(far.read(index.path))
    newer["schema_version"] = 2
    far.replace(index.path, json.dumps(newer).encode())
    second = runtime()
    second.sync()
    assert second.files == FILES
    assert len(second.downloads) == len(FILES)


def test_an_index_reads_back_and_shows_damage() -> None:
    member = Member(
        path="a", size_bytes=1, sha256="0" * 64, object_id="i", modified_at="", shard=0, offset=512
    )
    shard = Shard(name=f"{'0' * 64}.wone.tar", size_bytes=2048, sha256="0" * 64)
    index = PackIndex(source=SOURCE, worker="wone", shards=(shard,), members=(member,))
    assert PackIndex.from_bytes(index.to_bytes()) == index
    for bad in (
        b"",
        b"[]",
        index.to_bytes().replace(b"512", b"513"),
        replace(index, members=(replace(member, path="../a"),)).to_bytes(),
        replace(index, members=(replace(member, shard=1),)).to_bytes(),
        replace(index, shards=(replace(shard, name="../x"),)).to_bytes(),
    ):
        with pytest.raises(IntegrityError, match="no index of packs"):
            PackIndex.from_bytes(bad)


def test_packs_that_are_out_of_date_go_when_nobody_can_need_them(
    runtime: NewRuntime, far: FarStore, clock: FakeClock
) -> None:
    packed_by(runtime())
    old = {info.path for info in far.list(PACKS)}
    for path in FILES:
        far.replace(f"{SOURCE}/{path}", b"all new " + path.encode())
    packed_by(runtime())
    assert old < {info.path for info in far.list(PACKS)}
    clock.advance(seconds=25 * 3600)
    third = runtime()
    synced = third.sync()
    assert len(third.downloads) == 1
    for path in FILES:
        far.replace(f"{SOURCE}/{path}", b"newer still " + path.encode())
    fourth = runtime()
    packed_by(fourth)
    left = {info.path for info in far.list(PACKS)}
    assert not old & left
    assert synced.files != fourth.sync().files


def test_packing_that_is_stopped_leaves_no_index(runtime: NewRuntime, far: FarStore) -> None:
    first = runtime()
    packer = first.packer(first.sync())
    packer.stop(patience_s=100)
    packer.work()
    assert far.list(PACKS) == []


def test_packing_that_fails_is_told_and_harms_nothing(runtime: NewRuntime, far: FarStore) -> None:
    first = runtime()
    lost = Injection(error=lambda path: TransientStoreError(f"no {path}"), operations=frozenset({"create"}))
    first.packer(first.sync(), store=FaultyStore(far, injections=[lost])).work()
    assert "not packed now: no .driverun/packs/" in first.said[0]
    assert far.list(PACKS) == []


def test_packs_leave_the_room_of_a_full_root_to_checkpoints(runtime: NewRuntime, far: FarStore) -> None:
    first = runtime()
    synced = first.sync()
    created: list[str] = []

    class Full(FaultyStore):
        def create(self, path: str, content: bytes | Path, **options: Any) -> ObjectInfo:
            if len(created) == 2:
                raise StoreQuotaExceeded("the root is full", path=path)
            created.append(path)
            return super().create(path, content, **options)

    first.packer(synced, store=Full(far), shard_bytes=500).work()
    assert len(created) == 2
    assert far.list(PACKS) == []
    assert "no room on the root to pack its small files: the root is full" in first.said[0]


def test_a_crash_while_packing_is_survived_at_every_operation(
    far: FarStore, clock: FakeClock, tmp_path: Path
) -> None:
    first = Runtime(tmp_path / "first", far, clock)
    synced = first.sync()
    counting = FaultyStore(far)
    first.packer(synced, store=counting, shard_bytes=1500).work()
    clean = shards_of(far)
    for crash_at in range(1, len(counting.operations) + 1):
        for info in far.list(PACKS):
            far.delete(info.path)
        with pytest.raises(SimulatedDisconnect):
            first.packer(synced, store=FaultyStore(far, crash_at=crash_at), shard_bytes=1500).work()
        next_one = Runtime(tmp_path / f"next{crash_at}", far, clock, worker="wtwo")
        again = next_one.sync()
        assert next_one.files == FILES
        if again.packable is not None:
            next_one.packer(again, shard_bytes=1500).work()
        assert shards_of(far) == clean


def test_a_crash_while_packs_are_fetched_is_survived_at_every_operation(
    runtime: NewRuntime, far: FarStore, clock: FakeClock, tmp_path: Path
) -> None:
    packed_by(runtime())
    far.replace(f"{SOURCE}/a/001.png", b"new")
    counting = runtime()
    expected = counting.sync()
    for crash_at in range(1, len(counting.store.operations) + 1):
        machine = Runtime(tmp_path / f"crash{crash_at}", far, clock)
        machine.store = FaultyStore(far, crash_at=crash_at)
        with pytest.raises(SimulatedDisconnect):
            sync_data(machine.store, DataSource(source=SOURCE), machine.folder / "work", machine.cache)
        machine.store = FaultyStore(far)
        assert machine.sync() == expected
        assert machine.files == {**FILES, "a/001.png": b"new"}
