from __future__ import annotations

import errno
import fcntl
import io
import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from driverun.errors import (
    DriverunError,
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    StoreAccessDenied,
    StoreQuotaExceeded,
    TransientStoreError,
    UnsafePath,
    UsageError,
)
from driverun.storage import local
from driverun.storage.base import ObjectStore
from driverun.storage.local import LocalStore
from driverun.testing.clock import START, FakeClock
from driverun.testing.faulty import SimulatedDisconnect
from driverun.testing.store_conformance import ObjectStoreConformance, assert_visible_in_order, paths_of

MICROSECOND = timedelta(microseconds=1)
NOON_NS = 1_767_268_800 * 10**9
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def raising(code: int) -> Callable[..., None]:
    """A function of the system that fails with `code`."""

    def fail(*args: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


class TestLocalStore(ObjectStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return LocalStore(tmp_path / "root of test")


class TestLocalStoreWithoutHardLinks(ObjectStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
        monkeypatch.setattr(os, "link", raising(errno.EPERM))
        return LocalStore(tmp_path / "root of test")


class TestLocalStoreBehindALink(ObjectStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        (tmp_path / "real folder").mkdir()
        (tmp_path / "link").symlink_to("real folder")
        return LocalStore(tmp_path / "link")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def store(root: Path) -> LocalStore:
    return LocalStore(root)


def write(file: Path, content: bytes = b"by a person") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


# What lies in the folder.


def test_an_object_is_a_plain_file_that_others_may_read(store: LocalStore, root: Path) -> None:
    old_mask = os.umask(0o022)
    try:
        store.create("ledger/one.json", b"content")
    finally:
        os.umask(old_mask)
    assert (root / "ledger/one.json").read_bytes() == b"content"
    assert (root / "ledger/one.json").stat().st_mode & 0o777 == 0o644
    assert (root / "ledger/one.json").stat().st_nlink == 1
    assert list((root / ".driverun/local/tmp").iterdir()) == []


def test_opening_and_looking_make_nothing(store: LocalStore, root: Path) -> None:
    assert store.list("", recursive=True) == []
    assert store.now().tzinfo is UTC
    with pytest.raises(ObjectNotFound):
        store.replace("none", b"")
    store.delete("none")
    assert not root.exists()


def test_a_persons_files_are_objects(store: LocalStore, root: Path) -> None:
    file = write(root / "jobs/mnist/train.py")
    os.utime(file, ns=(NOON_NS, NOON_NS))
    (found,) = store.list("jobs", recursive=True)
    assert (found.path, found.size_bytes, found.created_at) == ("jobs/mnist/train.py", 11, NOON)
    assert found == store.stat("jobs/mnist/train.py")


def test_the_stores_own_files_are_neither_shown_nor_touched(store: LocalStore) -> None:
    store.create(".driverun/root.json", b"{}")
    store.replace(".driverun/root.json", b"{ }")
    assert paths_of(store.list("", recursive=True)) == [".driverun/root.json"]
    assert paths_of(store.list(".driverun")) == [".driverun/root.json"]
    for path in (".driverun/local", ".driverun/local/lock", ".driverun/local/tmp/1"):
        with pytest.raises(UnsafePath, match="the store's own"):
            store.delete(path)
    store.create(".driverun/locality", b"")


def test_a_copied_root_keeps_every_time(store: LocalStore, root: Path, tmp_path: Path) -> None:
    store.create("ledger/claim", b"1")
    store.create("ledger/record", b"2")
    store.replace("ledger/record", b"3")
    shutil.copytree(root, tmp_path / "copy")
    copy = LocalStore(tmp_path / "copy")
    assert copy.list("", recursive=True) == store.list("", recursive=True)
    assert copy.create("ledger/later", b"").created_at > store.stat("ledger/record").modified_at


def test_an_object_that_a_person_removed_by_hand_leaves_no_time_behind(store: LocalStore, root: Path) -> None:
    store.create("ledger/record", b"1")
    store.replace("ledger/record", b"2")
    (root / "ledger/record").unlink()
    created = store.create("ledger/record", b"3")
    assert store.stat("ledger/record").created_at == created.created_at


# Time.


def test_times_are_those_of_the_filesystem_each_its_own(root: Path) -> None:
    times = iter([NOON_NS, NOON_NS, NOON_NS + 7_000_999, NOON_NS])
    store = LocalStore(root, time_ns=lambda: next(times))
    created = [store.create(path, b"").created_at for path in ("a", "b", "c", "d")]
    milliseconds = timedelta(milliseconds=7)
    assert created == [NOON, NOON + MICROSECOND, NOON + milliseconds, NOON + milliseconds + MICROSECOND]


def test_the_stamp_is_given_and_the_object_shown_in_one_turn(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked_at: list[str] = []

    def note(moment: str) -> None:
        with (root / ".driverun/local/lock").open("rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked_at.append(moment)

    def time_ns() -> int:
        note("stamp")
        return NOON_NS

    def link(source: Path, target: Path, link: object = os.link) -> None:
        note("show")
        assert source.stat().st_mtime_ns == NOON_NS
        assert callable(link)
        link(source, target)

    monkeypatch.setattr(os, "link", link)
    LocalStore(root, time_ns=time_ns).create("one", b"")
    assert locked_at == ["stamp", "show"]


def test_a_read_only_root_still_tells_a_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root / "ledger/one")

    monkeypatch.setattr(os, "open", raising(errno.EROFS))
    monkeypatch.setattr(Path, "mkdir", raising(errno.EROFS))
    store = LocalStore(root, clock=FakeClock())
    assert store.now() == START
    assert store.read("ledger/one") == b"by a person"
    with pytest.raises(StoreAccessDenied):
        store.create("two", b"")


CREATE_MANY = """
import sys
from pathlib import Path
from driverun.storage.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    store.create(f"ledger/{sys.argv[2]}-{number}", b"")
"""


@pytest.fixture
def creators(root: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Three processes that each wait for a line and then create 40 objects."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE_MANY, str(root), name, "40"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b", "c")
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_processes_create_in_the_order_of_times_too(
    store: LocalStore, creators: list[subprocess.Popen[str]]
) -> None:
    for process in creators:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in creators:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    watched: list[set[str]] = []
    while any(process.poll() is None for process in creators):
        watched.append(set(paths_of(store.list("ledger"))))
    assert [process.returncode for process in creators] == [0, 0, 0]
    created_at = {each.path: each.created_at for each in store.list("ledger")}
    assert len(set(created_at.values())) == 120
    assert_visible_in_order(created_at, watched)


# Order of writes.


def test_bytes_are_on_the_disk_before_they_are_shown_and_names_before_the_call_returns(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create("ledger/record", b"1")
    store.replace("ledger/record", b"2")
    real_fsync = os.fsync
    events: list[str] = []

    def fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        shown = (root / "ledger/one").exists() or store.read("ledger/record") == b"3"
        events.append(
            f"{'folder' if is_folder else 'file'} synced {'after' if shown else 'before'} it is shown"
        )
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store.create("ledger/one", b"1")
    (root / "ledger/one").unlink()
    store.replace("ledger/record", b"3")
    assert events == ["file synced before it is shown", "folder synced after it is shown"] * 2


# Links.


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    write(tmp_path / "outside/secret", b"not yours")
    return tmp_path / "outside"


def test_a_link_that_leaves_the_root_is_shown_but_not_followed(
    store: LocalStore, root: Path, outside: Path, tmp_path: Path
) -> None:
    (root / "data").mkdir(parents=True)
    (root / "data/file").symlink_to(outside / "secret")
    (root / "data/folder").symlink_to(outside)
    (root / "data/dangling").symlink_to(tmp_path / "nowhere")
    assert paths_of(store.list("data", recursive=True)) == ["data/dangling", "data/file", "data/folder"]
    for path in ("data/file", "data/folder", "data/folder/secret", "data/dangling"):
        for call in (store.read, store.stat, store.list):
            with pytest.raises(
                UnsafePath, match=r"leads out of .*Put a copy in its place, or use `driverun upload`"
            ):
                call(path)
        with pytest.raises(UnsafePath):
            store.download(path, tmp_path / "target")
    for write_to in (store.create, store.replace):
        with pytest.raises(UnsafePath):
            write_to("data/folder/new", b"")
    with pytest.raises(UnsafePath):
        store.ensure_folder("data/folder/new")
    with pytest.raises(UnsafePath):
        store.delete("data/folder/secret")
    assert [each.name for each in outside.iterdir()] == ["secret"]


def test_deleting_a_link_removes_the_link(store: LocalStore, root: Path, outside: Path) -> None:
    root.mkdir()
    (root / "file").symlink_to(outside / "secret")
    (root / "folder").symlink_to(outside)
    store.delete("file")
    store.delete("folder")
    assert store.list("", recursive=True) == []
    assert (outside / "secret").read_bytes() == b"not yours"


def test_links_within_the_root_are_followed_but_not_in_circles(store: LocalStore, root: Path) -> None:
    write(root / "data/real/one")
    (root / "data/file").symlink_to("real/one")
    (root / "data/folder").symlink_to("real")
    (root / "data/real/up").symlink_to("..")
    (root / "data/self").symlink_to("self")
    (root / "data/gone").symlink_to("real/two")
    assert paths_of(store.list("data", recursive=True)) == ["data/file", "data/folder/one", "data/real/one"]
    assert store.read("data/folder/one") == b"by a person"
    assert store.stat("data/file").size_bytes == 11
    with pytest.raises(ObjectNotFound):
        store.read("data/gone")


# What a folder can hold and a store cannot.


def test_files_whose_names_cannot_be_paths_are_left_out_and_told_once(
    store: LocalStore, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(root / "data/good")
    write(root / "data/back\\slash")
    write(Path(os.fsdecode(os.fsencode(root / "data/latin-") + b"\xe9")))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert paths_of(store.list("data")) == ["data/good"]
    assert len(caplog.records) == 2


def test_what_is_neither_file_nor_folder_is_no_object(store: LocalStore, root: Path) -> None:
    write(root / "data/good")
    os.mkfifo(root / "data/pipe")
    assert paths_of(store.list("data")) == ["data/good"]
    with pytest.raises(ObjectNotFound):
        store.stat("data/pipe")


def test_files_that_vanish_while_they_are_listed_are_left_out(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write(root / "ledger" / name)

    class Vanishing:
        """An entry of a folder whose file is removed once it was seen."""

        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name, self.path, self.entry = entry.name, entry.path, entry

        def is_symlink(self) -> bool:
            Path(self.path).unlink()
            return False

        def stat(self, *, follow_symlinks: bool) -> os.stat_result:
            return self.entry.stat(follow_symlinks=follow_symlinks)

    class Scan:
        def __init__(self, folder: Path) -> None:
            with real_scandir(folder) as entries:
                self.entries = [Vanishing(each) if each.name == "a" else each for each in entries]

        def __enter__(self) -> Iterator[object]:
            return iter(self.entries)

        def __exit__(self, *exc: object) -> None:
            return None

    real_scandir = os.scandir
    monkeypatch.setattr(os, "scandir", Scan)
    assert paths_of(store.list("ledger")) == ["ledger/b"]


# Faults.


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, StoreQuotaExceeded),
        (errno.EDQUOT, StoreQuotaExceeded),
        (errno.EIO, TransientStoreError),
        (errno.EROFS, StoreAccessDenied),
    ],
)
@pytest.mark.parametrize(
    "write_new",
    [lambda store: store.create("ledger/new", b"new"), lambda store: store.replace("ledger/record", b"new")],
    ids=["create", "replace"],
)
def test_a_write_that_fails_changes_nothing_and_says_why(
    store: LocalStore,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    kind: type[DriverunError],
    write_new: Callable[[LocalStore], object],
) -> None:
    store.create("ledger/record", b"old")
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", raising(code))
        with pytest.raises(kind):
            write_new(store)
    assert paths_of(store.list("", recursive=True)) == ["ledger/record"]
    assert store.read("ledger/record") == b"old"
    assert list((root / ".driverun/local/tmp").iterdir()) == []


def test_a_real_full_disk_is_the_roots_quota(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    opened = LocalStore._new_file

    def on_a_full_disk(
        self: LocalStore, folder: Path, *, prefix: str = "", suffix: str = ""
    ) -> tuple[Path, object]:
        file, out = opened(self, folder, prefix=prefix, suffix=suffix)
        out.close()
        return file, Path("/dev/full").open("wb", buffering=0)

    monkeypatch.setattr(LocalStore, "_new_file", on_a_full_disk)
    with pytest.raises(StoreQuotaExceeded, match="Free space"):
        store.create("one", b"content")
    assert store.list("") == []


def test_without_hard_links_a_taken_path_is_refused_under_the_lock(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(source: object, target: object) -> None:
        write(root / "one", b"by another")  # after the first look, before the lock was ours
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", overtaken)
    with pytest.raises(ObjectExists):
        store.create("one", b"mine")
    assert (root / "one").read_bytes() == b"by another"


def test_a_crash_between_stamping_and_showing_leaves_a_gap_and_no_object(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(root, time_ns=lambda: NOON_NS)

    def crash(source: object, target: object) -> None:
        raise SimulatedDisconnect

    with monkeypatch.context() as crashing:
        crashing.setattr(os, "link", crash)
        with pytest.raises(SimulatedDisconnect):
            store.create("one", b"")
    assert store.list("") == []
    assert store.create("one", b"").created_at == NOON + MICROSECOND


DIE_WITH_THE_LOCK = """
import os, signal, sys
from pathlib import Path
from driverun.storage.local import LocalStore
os.link = lambda source, target: os.kill(os.getpid(), signal.SIGKILL)
LocalStore(Path(sys.argv[1])).create("one", b"of the dead")
"""


def test_a_process_that_is_killed_with_the_lock_in_hand_blocks_nobody(store: LocalStore, root: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", DIE_WITH_THE_LOCK, str(root)], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((root / ".driverun/local/tmp").iterdir())) == 1
    assert store.list("", recursive=True) == []
    store.create("one", b"of the living")
    assert store.read("one") == b"of the living"


def test_a_crash_while_replacing_keeps_the_time_of_creation(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = store.create("record", b"old")
    with monkeypatch.context() as crashing:
        crashing.setattr(local, "_stamp", raising(errno.EIO))  # comes after the time was written down
        with pytest.raises(TransientStoreError):
            store.replace("record", b"new")
    assert (store.read("record"), store.stat("record").created_at) == (b"old", created.created_at)
    store.replace("record", b"newer")
    assert store.stat("record").created_at == created.created_at


@pytest.mark.parametrize(("content", "modified_ns"), [(b"12", NOON_NS), (b"2", NOON_NS + 1000)])
def test_a_file_that_changes_while_it_is_downloaded_is_not_taken(
    store: LocalStore,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    modified_ns: int,
) -> None:
    file = write(root / "data/growing", b"1")
    os.utime(file, ns=(NOON_NS, NOON_NS))
    real_write = local._write_all

    def write_and_change(out: io.FileIO, chunk: bytes) -> None:
        real_write(out, chunk)
        file.write_bytes(content)
        os.utime(file, ns=(modified_ns, modified_ns))

    monkeypatch.setattr(local, "_write_all", write_and_change)
    target = write(tmp_path / "target", b"an older file")
    with pytest.raises(IntegrityError, match="it changed while it was read"):
        store.download("data/growing", target)
    assert target.read_bytes() == b"an older file"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["root", "target"]


# Opening.


def test_leftovers_of_dead_writers_are_swept_after_a_day(root: Path) -> None:
    for name, age_s in (("old", 90_000), ("young", 80_000)):
        file = write(root / ".driverun/local/tmp" / name)
        os.utime(file, ns=(NOON_NS - age_s * 10**9,) * 2)
    LocalStore(root, time_ns=lambda: NOON_NS)
    assert [each.name for each in (root / ".driverun/local/tmp").iterdir()] == ["young"]


def test_a_name_that_a_dead_writer_left_is_passed_over(store: LocalStore, root: Path) -> None:
    left = write(root / f".driverun/local/tmp/{os.getpid()}-0", b"half")
    store.create("one", b"whole")
    assert (root / "one").read_bytes() == b"whole"
    assert left.read_bytes() == b"half"


def test_a_file_is_no_root(root: Path) -> None:
    write(root)
    with pytest.raises(UsageError, match="it is a file; name a folder"):
        LocalStore(root)


def test_a_mount_of_drive_is_refused_with_the_form_to_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = tmp_path / "drive"
    (mount / "MyDrive/experiments").mkdir(parents=True)
    (tmp_path / "link").symlink_to(mount / "MyDrive")
    monkeypatch.setattr(local, "_mounts", lambda: f"drive {mount} fuse.drive rw 0 0\n")
    with pytest.raises(UsageError, match=r"mount of Google Drive.* Use gdrive:experiments$"):
        LocalStore(tmp_path / "link" / "experiments")
    LocalStore(tmp_path / "elsewhere")


def test_a_store_says_where_it_is_as_it_was_told(root: Path) -> None:
    assert LocalStore(root / ".." / "root").location == str(root / ".." / "root")
    assert LocalStore(root).listing_lag_s == 0.0
