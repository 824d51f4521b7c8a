"""Files and folders that a person shares, outside of the root."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from driverun.errors import ObjectNotFound, StoreAccessDenied
from driverun.storage.base import OpensLinks
from driverun.storage.retrying import RetryingLinksStore, RetryingStore
from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator, Fault
from tests.storage.drive.emulated import Person, drive_root


@pytest.fixture
def store(emulator: DriveEmulator, clock: FakeClock) -> RetryingLinksStore:
    return RetryingLinksStore(drive_root(emulator, clock), clock=clock, random=random.Random(1), budget_s=1e6)


@pytest.fixture
def person(emulator: DriveEmulator) -> Person:
    return Person(emulator)


def test_only_a_store_on_drive_opens_links(store: RetryingLinksStore) -> None:
    assert isinstance(store, OpensLinks)
    assert not issubclass(RetryingStore, OpensLinks)


def test_a_file_by_its_id(store: RetryingLinksStore, person: Person, tmp_path: Path) -> None:
    file_id = person.make("set.npz", "root", content=b"digits")
    item = store.open_link(file_id)
    assert (item.name, item.is_folder) == ("set.npz", False)
    assert [(info.path, info.size_bytes) for info in item.list()] == [("set.npz", 6)]
    item.download("set.npz", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"digits"
    with pytest.raises(ObjectNotFound, match=r"it is set\.npz"):
        item.download("other", tmp_path / "other")


def test_a_folder_by_its_id(store: RetryingLinksStore, person: Person, tmp_path: Path) -> None:
    folder = person.make_folder("pictures")
    person.make("b.png", person.make_folder("inner", folder), content=b"2")
    person.make("a.png", folder, content=b"1")
    item = store.open_link(folder)
    assert (item.name, item.is_folder) == ("pictures", True)
    assert [info.path for info in item.list()] == ["a.png", "inner/b.png"]
    item.download("inner/b.png", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"2"


def test_an_answer_that_fails_is_asked_for_again(
    store: RetryingLinksStore, person: Person, emulator: DriveEmulator, tmp_path: Path
) -> None:
    file_id = person.make("set.npz", "root", content=b"digits")
    for kind in ("status:503", "drop", "corrupt"):
        emulator.faults.add(Fault(kind=kind, method="drive.files.get"))
    store.open_link(file_id).download("set.npz", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"digits"


def test_what_cannot_be_read_says_why(
    store: RetryingLinksStore, person: Person, emulator: DriveEmulator
) -> None:
    with pytest.raises(ObjectNotFound):
        store.open_link("1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
    stranger = Person(emulator, "stranger@example.com").make("secret", "root", content=b"x")
    with pytest.raises(ObjectNotFound):
        store.open_link(stranger)
    document = person.make("essay", "root", mime_type="application/vnd.google-apps.document")
    with pytest.raises(StoreAccessDenied, match="Google document"):
        store.open_link(document)


def test_the_key_of_a_link_goes_with_every_request(
    emulator: DriveEmulator, clock: FakeClock, person: Person
) -> None:
    inner = drive_root(emulator, clock)
    file_id = person.make("set.npz", "root", content=b"digits")
    inner.open_link(file_id, resource_key="0-abc")
    assert inner._client.transport.resource_keys == {file_id: "0-abc"}
