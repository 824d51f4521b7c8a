"""What people do to a Drive, and what Drive allows that no other store does."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from driverun.errors import (
    ObjectExists,
    ObjectNotFound,
    RootNotFound,
    StoreAccessDenied,
    UsageError,
)
from driverun.storage.base import ObjectInfo
from driverun.storage.drive.store import DriveStore
from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator
from tests.storage.drive.emulated import Person, drive_root, id_of, patient

DOC = "application/vnd.google-apps.document"
SHEET = "application/vnd.google-apps.spreadsheet"


@pytest.fixture
def store(emulator: DriveEmulator, clock: FakeClock) -> DriveStore:
    """A root with an empty folder `data`."""
    store = drive_root(emulator, clock)
    store.ensure_folder("data")
    return store


@pytest.fixture
def person(emulator: DriveEmulator) -> Person:
    return Person(emulator)


@pytest.fixture
def data(emulator: DriveEmulator, store: DriveStore) -> str:
    """The id of the folder `data`."""
    return id_of(emulator, "data")


def paths_of(found: list[ObjectInfo]) -> list[str]:
    return [each.path for each in found]


# Equal names.


def test_of_files_of_one_name_the_oldest_counts_and_it_is_said(
    store: DriveStore, person: Person, data: str, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    oldest = person.make("one.txt", data, content=b"oldest")
    clock.advance(seconds=1)
    person.make("one.txt", data, content=b"younger")
    with caplog.at_level(logging.WARNING):
        assert [(each.path, each.object_id) for each in store.list("data")] == [("data/one.txt", oldest)]
        assert store.read("data/one.txt") == b"oldest"
        assert store.stat("data/one.txt").object_id == oldest
    assert [each for each in caplog.messages if "is there 2 times; the oldest counts" in each]
    with pytest.raises(ObjectExists):
        store.create("data/one.txt", b"third")
    store.delete("data/one.txt")
    with pytest.raises(ObjectNotFound):
        store.read("data/one.txt")


def test_folders_of_one_name_are_read_together_and_the_oldest_is_written_to(
    emulator: DriveEmulator, store: DriveStore, person: Person, data: str, clock: FakeClock
) -> None:
    [parent] = [each.parents[0] for each in emulator.files() if each.id == data]
    clock.advance(seconds=1)
    copy = person.make_folder("data", parent)
    person.make("theirs.txt", copy, content=b"theirs")
    store.create("data/ours.txt", b"ours")
    person.make("deeper.txt", person.make_folder("deep", copy), content=b"deeper")
    clock.advance(seconds=10)
    assert paths_of(store.list("data")) == ["data/ours.txt", "data/theirs.txt"]
    assert paths_of(store.list("", recursive=True)) == [
        "data/deep/deeper.txt",
        "data/ours.txt",
        "data/theirs.txt",
    ]
    assert store.read("data/theirs.txt") == b"theirs"
    created = store.create("data/more.txt", b"more")
    [place] = [each.parents[0] for each in emulator.files() if each.id == created.object_id]
    assert place == data


def test_two_processes_that_make_one_folder_at_once_read_what_both_write(
    emulator: DriveEmulator, store: DriveStore, clock: FakeClock
) -> None:
    other = drive_root(emulator, clock)
    other.list("")
    emulator.settings.listing_lag_s = 30.0
    store.create("runs/one/a.txt", b"a")
    other.create("runs/two/b.txt", b"b")
    assert len([each for each in emulator.files() if each.title == "runs"]) == 2
    emulator.settings.listing_lag_s = 0.0
    for each in (store, other, drive_root(emulator, clock)):
        assert paths_of(each.list("runs", recursive=True)) == ["runs/one/a.txt", "runs/two/b.txt"]
        assert each.read("runs/one/a.txt") + each.read("runs/two/b.txt") == b"ab"


# Names.


def test_a_name_is_found_in_either_unicode_form(store: DriveStore, person: Person, data: str) -> None:
    person.make("cafe\u0301.txt", data, content=b"by a Mac")
    assert store.read("data/caf\u00e9.txt") == b"by a Mac"
    assert paths_of(store.list("data")) == ["data/cafe\u0301.txt"]
    with pytest.raises(ObjectExists):
        store.create("data/caf\u00e9.txt", b"another")
    person.make("caf\u00e9.txt", data, content=b"by another")
    assert len(store.list("data")) == 2
    assert store.read("data/caf\u00e9.txt") == b"by another"
    assert store.read("data/cafe\u0301.txt") == b"by a Mac"


def test_names_that_differ_in_case_are_different(store: DriveStore) -> None:
    store.create("data/Model.txt", b"upper")
    store.create("data/model.txt", b"lower")
    assert (store.read("data/Model.txt"), store.read("data/model.txt")) == (b"upper", b"lower")


@pytest.mark.parametrize(
    "title",
    ["a/b.txt", "..", ".", "back\\slash", "bell\x07", "é" * 128, "/etc/passwd", "half of a pair \ud83d"],
)
def test_a_name_that_no_path_can_hold_is_passed_over_and_said(
    store: DriveStore, person: Person, data: str, caplog: pytest.LogCaptureFixture, title: str
) -> None:
    person.make(title, data, content=b"x")
    person.make("fine.txt", data, content=b"y")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert paths_of(store.list("", recursive=True)) == ["data/fine.txt"]
    assert len([each for each in caplog.messages if "passed over. Rename it" in each]) == 1


def test_quotes_in_the_name_of_a_folder_do_no_harm(emulator: DriveEmulator, clock: FakeClock) -> None:
    path = "it's \\ \"mine\" or '1' = '1"
    with pytest.raises(RootNotFound):
        drive_root(emulator, clock, path=path, make=False)
    drive_root(emulator, clock, path=path).create("one.txt", b"1")
    assert drive_root(emulator, clock, path=path, make=False).read("one.txt") == b"1"


# The trash.


def test_what_is_in_the_trash_is_not_there(
    store: DriveStore, person: Person, clock: FakeClock, tmp_path: Path
) -> None:
    created = store.create("data/one.txt", b"1")
    person.trash(created.object_id)
    with pytest.raises(ObjectNotFound):
        store.stat("data/one.txt")
    assert store.list("data") == []
    store.create("data/one.txt", b"2")
    assert store.read("data/one.txt") == b"2"


def test_a_folder_in_the_trash_takes_along_what_is_in_it(
    emulator: DriveEmulator, store: DriveStore, person: Person, data: str, clock: FakeClock
) -> None:
    store.create("data/deep/one.txt", b"1")
    person.trash(data)
    clock.advance(seconds=10)
    assert store.list("", recursive=True) == []
    with pytest.raises(ObjectNotFound):
        store.read("data/deep/one.txt")
    store.create("data/deep/two.txt", b"2")
    assert paths_of(store.list("", recursive=True)) == ["data/deep/two.txt"]
    person.untrash(data)
    clock.advance(seconds=10)
    assert paths_of(store.list("", recursive=True)) == ["data/deep/one.txt", "data/deep/two.txt"]


def test_a_folder_that_goes_to_the_trash_under_a_creation_is_made_anew(
    emulator: DriveEmulator, store: DriveStore, person: Person, data: str, clock: FakeClock
) -> None:
    store.list("data")
    person.trash(data)
    patient(store, clock).create("data/one.txt", b"1")
    fresh = drive_root(emulator, clock)
    assert paths_of(fresh.list("", recursive=True)) == ["data/one.txt"]


def test_a_folder_that_is_deleted_under_a_creation_is_made_anew(
    emulator: DriveEmulator, store: DriveStore, person: Person, data: str, clock: FakeClock
) -> None:
    store.list("data")
    person.delete(data)
    patient(store, clock).create("data/one.txt", b"1")
    store.ensure_folder("data/deep")
    person.delete(id_of(emulator, "data"))
    patient(store, clock).create("data/deep/deeper/two.txt", b"2")
    fresh = drive_root(emulator, clock)
    assert paths_of(fresh.list("", recursive=True)) == ["data/deep/deeper/two.txt"]


def test_a_root_in_the_trash_is_refused(
    emulator: DriveEmulator, store: DriveStore, person: Person, clock: FakeClock
) -> None:
    root = id_of(emulator, "of mine")
    person.trash(root)
    with pytest.raises(RootNotFound, match="in the trash"):
        drive_root(emulator, clock, folder_id=root)
    with pytest.raises(RootNotFound, match="no folder experiments/of mine"):
        drive_root(emulator, clock, make=False)


# Shortcuts and Google's own documents.


def test_a_shortcut_to_a_file_is_read_and_never_written_through(
    store: DriveStore, person: Person, data: str, tmp_path: Path
) -> None:
    elsewhere = person.make_folder("Downloads")
    target = person.make("big.npz", elsewhere, content=b"big data")
    person.make_shortcut("mnist.npz", data, target)
    [info] = store.list("data")
    assert (info.path, info.size_bytes) == ("data/mnist.npz", 8)
    assert store.read("data/mnist.npz") == b"big data"
    store.download("data/mnist.npz", tmp_path / "target")
    assert store.stat("data/mnist.npz").sha256 == info.sha256
    with pytest.raises(StoreAccessDenied, match="shortcut"):
        store.replace("data/mnist.npz", b"other")
    with pytest.raises(ObjectExists):
        store.create("data/mnist.npz", b"other")
    store.delete("data/mnist.npz")
    assert store.list("data") == []
    person.rename(target, "still there")


def test_a_shortcut_to_a_folder_is_read_and_never_written_through(
    store: DriveStore, person: Person, data: str
) -> None:
    elsewhere = person.make_folder("datasets")
    person.make("one.txt", elsewhere, content=b"1")
    person.make("two.txt", person.make_folder("more", elsewhere), content=b"2")
    person.make_shortcut("shared", data, elsewhere)
    assert paths_of(store.list("", recursive=True)) == ["data/shared/more/two.txt", "data/shared/one.txt"]
    assert store.read("data/shared/more/two.txt") == b"2"
    for path in ("data/shared/three.txt", "data/shared/more/three.txt", "data/shared/new/three.txt"):
        with pytest.raises(StoreAccessDenied, match="shortcut"):
            store.create(path, b"3")


def test_shortcuts_that_lead_nowhere_or_in_circles_do_no_harm(
    store: DriveStore, person: Person, data: str, caplog: pytest.LogCaptureFixture
) -> None:
    gone = person.make("gone.txt", "root", content=b"x")
    person.make_shortcut("lost.txt", data, gone)
    person.delete(gone)
    person.make_shortcut("round and round", data, data)
    store.create("data/fine.txt", b"y")
    with caplog.at_level(logging.WARNING):
        assert paths_of(store.list("", recursive=True)) == ["data/fine.txt"]
        with pytest.raises(ObjectNotFound):
            store.read("data/lost.txt")
    assert [each for each in caplog.messages if "lost.txt is a shortcut to something that is gone" in each]


@pytest.mark.parametrize("mime_type", [DOC, SHEET])
def test_a_google_document_is_refused_in_plain_words(
    store: DriveStore, person: Person, data: str, tmp_path: Path, mime_type: str
) -> None:
    person.make("table.csv", data, mime_type=mime_type)
    assert store.list("data") == []
    for call in (
        lambda: store.read("data/table.csv"),
        lambda: store.stat("data/table.csv"),
        lambda: store.download("data/table.csv", tmp_path / "target"),
        lambda: store.replace("data/table.csv", b"1,2"),
    ):
        with pytest.raises(StoreAccessDenied, match=r"Google document.*File > Download"):
            call()
    with pytest.raises(ObjectExists, match="a Google document is there already"):
        store.create("data/table.csv", b"1,2")
    store.delete("data/table.csv")
    assert len(person.children(data)) == 1


# Roots of all kinds.


def test_a_root_is_opened_by_its_folders_id(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore
) -> None:
    store.create("one.txt", b"1")
    by_id = drive_root(emulator, clock, folder_id=id_of(emulator, "of mine"), make=False)
    assert by_id.read("one.txt") == b"1"
    assert by_id.location == f"gdrive://{id_of(emulator, 'of mine')}"


def test_what_is_no_folder_is_no_root(emulator: DriveEmulator, clock: FakeClock, store: DriveStore) -> None:
    created = store.create("one.txt", b"1")
    with pytest.raises(UsageError, match=r"one\.txt is not a folder"):
        drive_root(emulator, clock, folder_id=created.object_id)
    with pytest.raises(RootNotFound, match="shared with the account"):
        drive_root(emulator, clock, folder_id="1aBcDeFgHiJkLmNoPqRsTuVwXyZ")
    with pytest.raises(RootNotFound, match="driverun init gdrive:none/of this"):
        drive_root(emulator, clock, path="none/of this", make=False)


def test_a_folder_of_somebody_else_is_used_if_it_is_shared(
    emulator: DriveEmulator, clock: FakeClock, tmp_path: Path
) -> None:
    owner = Person(emulator, "owner@example.com")
    root = owner.make_folder("for all")
    with pytest.raises(RootNotFound):
        drive_root(emulator, clock, folder_id=root)
    owner.share(root, "person@example.com")
    store = drive_root(emulator, clock, folder_id=root)
    ours = drive_root(emulator, clock, folder_id=root, account="owner@example.com")
    store.create("runs/a/one.txt", b"1")
    assert paths_of(ours.list("", recursive=True)) == ["runs/a/one.txt"]
    ours.create("runs/a/two.txt", b"2")
    for _ in range(2):
        clock.advance(seconds=61)
        found = store.list("", recursive=True)
    assert paths_of(found) == ["runs/a/one.txt", "runs/a/two.txt"]
    store.replace("runs/a/one.txt", b"new")
    store.delete("runs/a/one.txt")


def test_who_may_only_read_is_told_when_writing(emulator: DriveEmulator, clock: FakeClock) -> None:
    owner = Person(emulator, "owner@example.com")
    root = owner.make_folder("for all to read")
    owner.make("one.txt", root, content=b"1")
    owner.share(root, "person@example.com", role="reader")
    store = drive_root(emulator, clock, folder_id=root)
    assert store.read("one.txt") == b"1"
    with pytest.raises(StoreAccessDenied, match="share it with you as an editor"):
        store.create("two.txt", b"2")
    with pytest.raises(StoreAccessDenied):
        store.replace("one.txt", b"2")
    with pytest.raises(StoreAccessDenied):
        store.delete("one.txt")


def test_a_folder_of_a_shared_drive_is_a_root(
    emulator: DriveEmulator, clock: FakeClock, tmp_path: Path
) -> None:
    drive = Person(emulator).make_shared_drive("laboratory")
    for folder_id in (drive, Person(emulator).make_folder("experiments", drive)):
        store = drive_root(emulator, clock, folder_id=folder_id)
        store.create("runs/a/one.txt", b"1")
        other = drive_root(emulator, clock, folder_id=folder_id)
        assert other.read("runs/a/one.txt") == b"1"
        other.create("runs/a/two.txt", b"2")
        clock.advance(seconds=10)
        assert "runs/a/two.txt" in paths_of(store.list("runs", recursive=True))
        store.replace("runs/a/one.txt", b"new")
        store.delete("runs/a/two.txt")
        clock.advance(seconds=10)
        assert paths_of(other.list("runs/a")) == ["runs/a/one.txt"]


@pytest.mark.parametrize("endpoint", ["https://127.0.0.1:1", "http://example.com", "http://10.0.0.1:80", "x"])
def test_an_endpoint_elsewhere_is_refused(clock: FakeClock, endpoint: str) -> None:
    from driverun.storage.drive.opening import DriveOpening
    from driverun.storage.locate import DrivePathAddress

    with pytest.raises(UsageError, match="for an emulator on this machine"):
        DriveOpening(
            DrivePathAddress(path="x"),
            environment={"DRIVERUN_DRIVE_ENDPOINT": endpoint},
            home=Path("/nowhere"),
            clock=clock,
        )
