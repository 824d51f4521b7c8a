"""Data that are named by a Drive id or a share link."""

import io
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from driverun.errors import JobError, ObjectNotFound, UnsafePath, UsageError
from driverun.spec.model import DataSource, JobSpec
from driverun.storage.base import ObjectInfo, OpensLinks
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from driverun.transfer.cache import DataCache
from driverun.transfer.presence import KnownSources, missing_sources
from driverun.transfer.sync import SyncedData, sync_data

ID = "1" + "a" * 32
LINK = f"https://drive.google.com/file/d/{ID}/view?usp=sharing"


@dataclass
class Item:
    """A file or a folder outside of the root, whose files lie in a store under its id."""

    store: "DriveLikeStore"
    file_id: str
    name: str
    is_folder: bool

    @property
    def location(self) -> str:
        return f"https://drive.google.com/open?id={self.file_id}"

    def list(self) -> list[ObjectInfo]:
        found = self.store.list(self.file_id, recursive=True)
        return [replace(info, path=info.path.removeprefix(f"{self.file_id}/")) for info in found]

    def download(self, path: str, target: Path) -> ObjectInfo:
        self.store.downloads.append(path)
        return replace(self.store.download(f"{self.file_id}/{path}", target), path=path)


class DriveLikeStore(MemoryStore):
    """A root with things of Drive outside of it."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock, location="gdrive:experiments")
        self.items: dict[str, Item] = {}
        self.keys: list[str | None] = []
        self.downloads: list[str] = []

    def put(self, name: str, files: dict[str, bytes], *, is_folder: bool = False, file_id: str = ID) -> None:
        self.items[file_id] = Item(store=self, file_id=file_id, name=name, is_folder=is_folder)
        for path, content in files.items():
            self.create(f"{file_id}/{path}", content)

    def open_link(self, file_id: str, *, resource_key: str | None = None) -> Item:
        self.keys.append(resource_key)
        if file_id not in self.items:
            raise ObjectNotFound(f"nothing with the id {file_id}", path=file_id)
        return self.items[file_id]


@pytest.fixture
def drive(clock: FakeClock) -> DriveLikeStore:
    return DriveLikeStore(clock)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def cache(tmp_path: Path, clock: FakeClock) -> DataCache:
    return DataCache(tmp_path / "cache", 10**9, clock=clock)


def files_in(work: Path) -> dict[str, bytes]:
    return {
        str(each.relative_to(work / "data")): each.read_bytes() for each in work.rglob("*") if each.is_file()
    }


def sync(store: MemoryStore, work: Path, cache: DataCache, **fields: object) -> SyncedData:
    return sync_data(store, DataSource.model_validate({"source": LINK, **fields}), work, cache)


def zipped(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def test_the_double_is_one() -> None:
    assert isinstance(DriveLikeStore(FakeClock()), OpensLinks)
    assert not isinstance(MemoryStore(FakeClock()), OpensLinks)


def test_a_linked_file_lands_under_its_name_or_its_target(
    drive: DriveLikeStore, work: Path, cache: DataCache
) -> None:
    drive.put("mnist.npz", {"mnist.npz": b"digits"})
    synced = sync(drive, work, cache)
    assert synced.target == "mnist.npz"
    sync(drive, work, cache, target="other/x.npz")
    assert files_in(work) == {"mnist.npz": b"digits", "other/x.npz": b"digits"}
    assert drive.downloads == ["mnist.npz"]  # the second one came from the cache


def test_a_linked_folder_lands_whole(drive: DriveLikeStore, work: Path, cache: DataCache) -> None:
    drive.put("images", {"a.png": b"a", "deep/b.png": b"b"}, is_folder=True)
    assert sorted(sync(drive, work, cache).files) == ["images/a.png", "images/deep/b.png"]
    assert files_in(work) == {"images/a.png": b"a", "images/deep/b.png": b"b"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({}, ["images/a"]), ({"unpack": False}, ["images.zip"]), ({"target": "x"}, ["x/a"])],
)
def test_a_linked_archive_is_known_by_its_name(
    fields: dict[str, object], expected: list[str], drive: DriveLikeStore, work: Path, cache: DataCache
) -> None:
    drive.put("images.zip", {"images.zip": zipped(a=b"1")})
    assert sorted(sync(drive, work, cache, **fields).files) == expected


def test_the_resource_key_is_handed_on(drive: DriveLikeStore, work: Path, cache: DataCache) -> None:
    drive.put("x", {"x": b""})
    sync(drive, work, cache, source=f"{LINK}&resourcekey=0-abc")
    assert drive.keys == ["0-abc"]


def test_two_things_of_one_name_are_told_apart(drive: DriveLikeStore, work: Path, cache: DataCache) -> None:
    other = "1" + "b" * 32
    drive.put("x.csv", {"x.csv": b"1"})
    drive.put("x.csv", {"x.csv": b"2"}, file_id=other)
    sync(drive, work, cache)
    with pytest.raises(JobError, match=r"another source of the job is, too\. Give it a target"):
        sync(drive, work, cache, source=other)
    drive.put("a/b", {"x": b""}, file_id="1" + "c" * 32)
    with pytest.raises(JobError, match="no file here can be"):
        sync(drive, work, cache, source="1" + "c" * 32)
    drive.put("..", {"x": b""}, file_id="1" + "d" * 32)
    with pytest.raises(UnsafePath):
        sync(drive, work, cache, source="1" + "d" * 32)
    assert files_in(work) == {"x.csv": b"1"}


def test_what_is_not_shared_is_waited_for(drive: DriveLikeStore, work: Path, cache: DataCache) -> None:
    with pytest.raises(ObjectNotFound, match="Ask its owner to share it"):
        sync(drive, work, cache)
    assert sync(drive, work, cache, optional=True).files == {}


def test_another_root_refuses_links_in_plain_words(clock: FakeClock, work: Path, cache: DataCache) -> None:
    with pytest.raises(UsageError, match=r"no root on Drive.*driverun upload"):
        sync(MemoryStore(clock), work, cache)


def test_links_are_not_looked_for_before_the_run(drive: DriveLikeStore) -> None:
    spec = JobSpec.model_validate({"name": "x", "entrypoint": "train.py", "data": [{"source": LINK}]})
    assert missing_sources(KnownSources(drive), spec) == []
    assert drive.keys == []
