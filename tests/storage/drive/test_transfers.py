"""Large files: what is sent again after a drop, what is kept of a bad download, what it takes in memory."""

from __future__ import annotations

import hashlib
import os
import random
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from driverun.errors import IntegrityError, TransientStoreError
from driverun.storage.drive import downloads, uploads
from driverun.storage.drive.store import DriveStore
from driverun.storage.retrying import RetryingStore
from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator, Fault
from tests.storage.drive.emulated import Counted, Person, drive_root, id_of, patient

QUARTER = 1 << 18  # what Drive keeps of a piece that broke off is a multiple of it
CHUNK = 4 * QUARTER


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "FIRST_CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(uploads, "LONGEST_CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(downloads, "RANGE_BYTES", CHUNK)


@pytest.fixture
def store(emulator: DriveEmulator, clock: FakeClock) -> DriveStore:
    return drive_root(emulator, clock)


@pytest.fixture
def content() -> bytes:
    return random.Random(3).randbytes(6_000_000)


@pytest.fixture
def source(tmp_path: Path, content: bytes) -> Path:
    file = tmp_path / "source"
    file.write_bytes(content)
    return file


def sent_bytes(emulator: DriveEmulator) -> int:
    return sum(each.request_bytes for each in emulator.requests if each.method_id == "upload")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_large_file_goes_in_pieces(
    emulator: DriveEmulator, store: DriveStore, source: Path, content: bytes
) -> None:
    store.ensure_folder("runs")
    with Counted(emulator) as cost:
        created = store.create("runs/pack", source)
    assert cost.methods == ["files.insert", *["upload"] * 6]
    assert (created.sha256, created.size_bytes) == (sha256(content), len(content))
    assert emulator.content(created.object_id) == content


def test_pieces_that_get_through_are_followed_by_larger_ones(
    emulator: DriveEmulator,
    clock: FakeClock,
    store: DriveStore,
    source: Path,
    content: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uploads, "FIRST_CHUNK_BYTES", QUARTER)
    monkeypatch.setattr(uploads, "LONGEST_CHUNK_BYTES", 8 * QUARTER)
    emulator.faults.add(Fault(kind="drop", method="upload", skip=3))
    created = patient(store, clock).create("runs/pack", source)
    assert emulator.content(created.object_id) == content
    sizes = [each.request_bytes for each in emulator.requests if each.method_id == "upload" and each.status]
    assert [size // QUARTER for size in sizes] == [1, 4, 8, 0, 1, 4, 4]


@pytest.mark.parametrize("after_bytes", [0, 1, QUARTER, CHUNK // 2 + 5, CHUNK - 1])
@pytest.mark.parametrize("piece", [0, 2, 5])
def test_after_a_drop_at_most_one_piece_is_sent_again(
    emulator: DriveEmulator,
    clock: FakeClock,
    store: DriveStore,
    source: Path,
    content: bytes,
    piece: int,
    after_bytes: int,
) -> None:
    emulator.faults.add(Fault(kind="drop", method="upload", skip=piece, after_bytes=after_bytes))
    created = patient(store, clock).create("runs/pack", source)
    assert created.sha256 == sha256(content)
    assert sent_bytes(emulator) <= len(content) + CHUNK
    assert len([each for each in emulator.files() if each.title == "pack"]) == 1


@pytest.mark.parametrize("kind", ["drop", "status:500", "status:503", "html", "empty_body", "truncate"])
@pytest.mark.parametrize("piece", [0, 3, 5])
def test_an_answer_that_is_lost_half_way_costs_a_question(
    emulator: DriveEmulator,
    clock: FakeClock,
    store: DriveStore,
    source: Path,
    content: bytes,
    kind: str,
    piece: int,
) -> None:
    emulator.faults.add(Fault(kind=kind, method="upload", skip=piece, when="after"))
    created = patient(store, clock).create("runs/pack", source)
    assert emulator.content(created.object_id) == content
    assert sent_bytes(emulator) <= len(content) + CHUNK


def test_an_upload_that_advances_is_never_given_up(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore, source: Path, content: bytes
) -> None:
    for piece in range(0, 12, 2):
        emulator.faults.add(Fault(kind="drop", method="upload", skip=piece, when="after"))
    budget_s = 0.6  # of which a single wait takes the half
    assert patient(store, clock, budget_s=budget_s).create("runs/pack", source).sha256 == sha256(content)


def test_a_session_that_drive_forgot_is_begun_anew(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore, source: Path, content: bytes
) -> None:
    emulator.faults.add(Fault(kind="drop", method="upload", skip=3))
    with pytest.raises(TransientStoreError) as caught:
        store.create("runs/pack", source)
    assert caught.value.made_progress
    emulator.expire_uploads()
    assert store.create("runs/pack", source).sha256 == sha256(content)


def test_a_session_is_not_continued_with_other_bytes(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore, source: Path, content: bytes
) -> None:
    emulator.faults.add(Fault(kind="drop", method="upload", skip=3))
    with pytest.raises(TransientStoreError):
        store.create("runs/pack", source)
    other = bytes(reversed(content))
    assert store.create("runs/pack", other).sha256 == sha256(other)


def test_a_large_replacement_is_taken_up_too(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore, source: Path, content: bytes
) -> None:
    created = store.create("data/one.bin", b"old", properties={"kind": "data"})
    emulator.faults.add(Fault(kind="drop", method="upload", skip=3))
    replaced = patient(store, clock).replace("data/one.bin", source)
    assert (replaced.object_id, replaced.sha256) == (created.object_id, sha256(content))
    assert replaced.properties == {"kind": "data"}
    assert sent_bytes(emulator) <= len(content) + CHUNK


def test_a_source_that_shrinks_is_told(
    emulator: DriveEmulator,
    clock: FakeClock,
    store: DriveStore,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true_status = os.fstat

    def longer(descriptor: int) -> os.stat_result:
        status = true_status(descriptor)
        fields = list(status)
        fields[6] += 100
        return os.stat_result(fields) if status.st_size == source.stat().st_size else status

    monkeypatch.setattr("driverun.storage.drive.store.os.fstat", longer)
    with pytest.raises(IntegrityError, match="became shorter"):
        store.create("runs/pack", source)


# Downloads.


@pytest.fixture
def stored(store: DriveStore, source: Path) -> str:
    return store.create("runs/pack", source).object_id


def test_a_large_download_comes_in_ranges(
    emulator: DriveEmulator, store: DriveStore, stored: str, tmp_path: Path, content: bytes
) -> None:
    with Counted(emulator) as cost:
        found = store.download("runs/pack", tmp_path / "target")
    assert cost.methods == ["files.get"] * 6
    assert (tmp_path / "target").read_bytes() == content
    assert found.sha256 == sha256(content)


@pytest.mark.parametrize("kind", ["truncate", "drop", "status:503"])
def test_a_download_that_breaks_off_is_taken_up(
    emulator: DriveEmulator,
    clock: FakeClock,
    store: DriveStore,
    stored: str,
    tmp_path: Path,
    content: bytes,
    kind: str,
) -> None:
    for skip in (0, 2, 4):
        emulator.faults.add(Fault(kind=kind, method="drive.files.get", when="after", skip=skip))
    patient(store, clock).download("runs/pack", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == content


@pytest.mark.parametrize("size", [100, 6_000_000])
def test_wrong_bytes_are_never_kept(
    emulator: DriveEmulator, store: DriveStore, tmp_path: Path, content: bytes, size: int
) -> None:
    store.create("runs/one", content[:size])
    target = tmp_path / "target"
    target.write_bytes(b"an older file")
    before = sorted(tmp_path.iterdir())
    emulator.faults.add(Fault(kind="corrupt", method="drive.files.get", times=None))
    with pytest.raises(IntegrityError, match="other bytes arrived"):
        store.download("runs/one", target)
    with pytest.raises(TransientStoreError, match="other bytes arrive"):
        store.read("runs/one")
    assert target.read_bytes() == b"an older file"
    assert sorted(tmp_path.iterdir()) == before


def test_bytes_that_were_wrong_once_are_fetched_again(
    emulator: DriveEmulator, store: DriveStore, stored: str, tmp_path: Path, content: bytes
) -> None:
    emulator.faults.add(Fault(kind="corrupt", method="drive.files.get", skip=2))
    store.download("runs/pack", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == content


def test_a_file_that_was_replaced_meanwhile_arrives_as_it_is_now(
    emulator: DriveEmulator, store: DriveStore, tmp_path: Path, content: bytes
) -> None:
    store.create("data/one.txt", b"old")
    Person(emulator).change(id_of(emulator, "one.txt"), content[:5000])
    assert store.read("data/one.txt") == content[:5000]
    Person(emulator).change(id_of(emulator, "one.txt"), content[:3000])
    found = store.download("data/one.txt", tmp_path / "target")
    assert (found.size_bytes, found.sha256) == (3000, sha256(content[:3000]))


def test_a_lost_connection_leaves_the_target_alone(
    emulator: DriveEmulator, store: DriveStore, stored: str, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"an older file")
    before = sorted(tmp_path.iterdir())
    emulator.faults.add(Fault(kind="drop", method="drive.files.get", times=None))
    with pytest.raises(TransientStoreError):
        store.download("runs/pack", target)
    assert target.read_bytes() == b"an older file"
    assert sorted(tmp_path.iterdir()) == before


def test_a_full_local_disk_is_not_taken_for_the_network(
    emulator: DriveEmulator, store: DriveStore, stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("driverun.storage.drive.downloads.os.pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        store.download("runs/pack", tmp_path / "target")


def test_memory_does_not_grow_with_the_file(
    emulator: DriveEmulator, store: DriveStore, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(48_000_000)
    store.ensure_folder("runs")
    tracemalloc.start()
    try:
        store.create("runs/pack", source)
        store.download("runs/pack", tmp_path / "target")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


def test_many_threads_share_a_store(
    emulator: DriveEmulator, clock: FakeClock, tmp_path: Path, content: bytes
) -> None:
    emulator.settings.fault_rate = 0.02
    store: RetryingStore = patient(drive_root(emulator, clock), clock)
    pieces = {f"data/{number % 7}/{number}.bin": content[number : number + 2000] for number in range(200)}

    def there(path: str) -> None:
        store.create(path, pieces[path])

    def back(path: str) -> bytes:
        target = tmp_path / path.replace("/", "-")
        store.download(path, target)
        return target.read_bytes()

    with ThreadPoolExecutor(24) as threads:
        list(threads.map(there, pieces))
        assert [info.path for info in store.list("", recursive=True)] == sorted(pieces)
        assert list(threads.map(back, pieces)) == list(pieces.values())
    emulator.settings.fault_rate = 0.0
    places = [(each.title, each.parents) for each in emulator.files()]
    assert len(places) == len(set(places))
