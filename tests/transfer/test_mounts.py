"""Data read in place where Drive is mounted."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from driverun.spec.model import DataSource
from driverun.storage.base import ObjectStore
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from driverun.testing.faulty import FaultyStore
from driverun.transfer.cache import DataCache
from driverun.transfer.mounts import mount_fault, mounted_place
from driverun.transfer.sync import SyncedData, sync_data
from tests.transfer.worlds import fill

FILES = {"a.png": b"a", "deep/b.png": b"bb" * 5000}


class Mounted:
    """A root on Drive whose folder is mounted, too."""

    def __init__(self, folder: Path, clock: FakeClock, *, location: str = "gdrive:my/root") -> None:
        self.folder = folder
        self.my_drive = folder / "MyDrive"
        self.work = folder / "work"
        self.cache = DataCache(folder / "cache", 10**9, clock=clock)
        self.inner = MemoryStore(clock, location=location)
        self.store = FaultyStore(self.inner)
        for path, content in FILES.items():
            self.inner.create(f"data/images/{path}", content)
        fill(self.my_drive / "my/root/data/images", dict(FILES))

    def sync(self, store: ObjectStore | None = None, **options: object) -> SyncedData:
        source = DataSource.model_validate({"source": "data/images", "access": "mount"})
        return sync_data(
            store or self.store,
            source,
            self.work,
            self.cache,
            my_drive=self.my_drive,
            **options,  # type: ignore[arg-type]
        )

    @property
    def downloads(self) -> list[str]:
        return [each.path for each in self.store.operations if each.name == "download"]

    def files(self) -> dict[str, bytes]:
        top = self.work / "data/images"
        return {path: (top / path).read_bytes() for path in FILES}


@pytest.fixture
def mounted(tmp_path: Path, clock: FakeClock) -> Mounted:
    return Mounted(tmp_path, clock)


def test_files_are_links_to_the_mount_and_nothing_is_fetched(mounted: Mounted) -> None:
    synced = mounted.sync()
    assert mounted.files() == FILES
    assert mounted.downloads == []
    place = mounted.work / "data/images/deep/b.png"
    assert place.readlink() == mounted.my_drive / "my/root/data/images/deep/b.png"
    assert "read in place from" in synced.notes[0]
    assert synced.size_bytes == 10_001


def test_the_fingerprint_is_that_of_a_copy(mounted: Mounted, clock: FakeClock, tmp_path: Path) -> None:
    other = Mounted(tmp_path / "other", clock)
    copy = sync_data(other.store, DataSource(source="data/images"), other.work, other.cache)
    assert mounted.sync().fingerprint == copy.fingerprint


def test_what_a_job_adds_or_deletes_stays_on_this_machine(mounted: Mounted) -> None:
    mounted.sync()
    (mounted.work / "data/images/deep/new").write_bytes(b"")
    (mounted.work / "data/images/a.png").unlink()
    there = mounted.my_drive / "my/root/data/images"
    assert sorted(str(each.relative_to(there)) for each in there.rglob("*") if each.is_file()) == sorted(
        FILES
    )


def test_a_mount_that_is_behind_is_not_used(mounted: Mounted) -> None:
    (mounted.my_drive / "my/root/data/images/a.png").write_bytes(b"old version")
    synced = mounted.sync()
    assert "a.png has 11 bytes there, 1 on Drive); it is copied" in synced.notes[0]
    assert mounted.files() == FILES
    assert len(mounted.downloads) == 2
    assert not (mounted.work / "data/images/a.png").is_symlink()


def test_a_mount_that_lacks_a_file_is_not_used(mounted: Mounted) -> None:
    (mounted.my_drive / "my/root/data/images/a.png").unlink()
    assert "FileNotFoundError" in mounted.sync().notes[0]
    assert mounted.files() == FILES


def test_a_mount_that_hangs_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hangs")  # nobody ever writes to it
    fault = mount_fault({tmp_path / "hangs": 0}, timeout_s=0.5)
    assert fault == "the mount did not answer within 0.5 s"


def test_a_large_folder_is_looked_at_here_and_there(tmp_path: Path) -> None:
    places = {tmp_path / f"{number:03d}": 2 for number in range(100)}
    for place in places:
        place.write_bytes(b"ok")
    assert mount_fault(places) is None
    (tmp_path / "099").write_bytes(b"")
    assert "099 has 0 bytes there" in (mount_fault(places) or "")


@pytest.mark.parametrize(
    ("location", "there"),
    [
        ("gdrive:my/root", True),
        ("gdrive://1aaaaaaaaaaa", False),
        ("/home/me/root", False),
        ("memory", False),
    ],
)
def test_only_a_root_that_is_named_by_its_path_is_found_in_the_mount(
    location: str, there: bool, tmp_path: Path
) -> None:
    assert (mounted_place(location, "data/x", tmp_path) == tmp_path / "my/root/data/x") is there
    assert mounted_place(location, "data/x", tmp_path / "none") is None


def test_elsewhere_it_is_copied_and_says_so(tmp_path: Path, clock: FakeClock) -> None:
    elsewhere = Mounted(tmp_path, clock, location="/home/me/root")
    assert elsewhere.sync().notes == (
        "data/images: access: mount is not possible, it is not in a mounted Drive here; it is copied",
    )
    assert elsewhere.files() == FILES


def test_an_archive_is_copied_to_be_unpacked(mounted: Mounted) -> None:
    def never(_: Mapping[Path, int]) -> str | None:
        raise AssertionError("nobody needs to ask")

    mounted.inner.create("data/x.tar", b"\0" * 10240)
    source = DataSource.model_validate({"source": "data/x.tar", "access": "mount"})
    synced = sync_data(
        mounted.store, source, mounted.work, mounted.cache, my_drive=mounted.my_drive, fault_of_mount=never
    )
    assert "an archive, which has to be unpacked" in synced.notes[0]
