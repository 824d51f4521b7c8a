"""What a piece of work costs in requests."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from driverun.storage.drive.client import ChangePage
from driverun.storage.drive.errors import DriveRefusal, Kind
from driverun.storage.drive.remote import RemoteFile
from driverun.storage.drive.store import DriveStore
from driverun.storage.drive.tree import RELIST_S
from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator
from tests.storage.drive.emulated import Counted, Person, drive_root, id_of

LAG_S = 10.0


@pytest.fixture
def store(emulator: DriveEmulator, clock: FakeClock) -> DriveStore:
    """A store that knows its ledger, as a worker's does."""
    store = drive_root(emulator, clock, listing_lag_s=LAG_S)
    store.ensure_folder("ledger")
    store.ensure_folder("runs")
    store.ensure_folder("jobs/one")
    store.create("ledger/mine.record.json", b"1")
    clock.advance(seconds=2 * LAG_S)
    store.list("ledger")
    store.list("jobs", recursive=True)
    store.list("")
    clock.advance(seconds=2 * LAG_S)
    for folder in ("ledger", "jobs", ""):
        store.list(folder, recursive=folder != "")
        clock.advance(seconds=2.0)
    return store


def test_a_heartbeat_is_one_write_and_one_poll(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore
) -> None:
    for beat in range(5):
        clock.advance(seconds=10.0)
        with Counted(emulator) as cost:
            store.replace("ledger/mine.record.json", b"beat", properties={"beat": str(beat)})
            store.list("ledger")
        assert cost.methods == ["files.update", "changes.list"]


def test_an_idle_poll_is_one_request_whatever_is_listed(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore
) -> None:
    for number in range(50):
        store.create(f"ledger/run-{number}.run.json", b"{}")
    for number in range(5):
        store.create(f"jobs/job-{number}/job.yaml", b"entrypoint: train.py")
    for _ in range(10):
        clock.advance(seconds=10.0)
        with Counted(emulator) as cost:
            assert len(store.list("ledger")) == 51
            assert len(store.list("jobs", recursive=True)) == 5
        assert cost.methods == ["changes.list"]


def test_a_creation_in_a_known_folder_is_one_request(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore
) -> None:
    store.list("ledger")
    with Counted(emulator) as cost:
        store.create("ledger/run.json", b"1")
        store.create("ledger/run.0001.w1.claim.json", b"2")
    assert cost.methods == ["files.insert"] * 2


def test_a_checkpoint_of_fifty_megabytes_is_at_most_six_requests_and_its_chunks(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore, tmp_path: Path
) -> None:
    pack = tmp_path / "pack"
    pack.write_bytes(bytes(50_000_000))
    clock.advance(seconds=60.0)
    with Counted(emulator) as cost:
        store.create("runs/run.0001.w1/pack-1", pack)  # the attempt's first: its folder is made
        store.list("ledger")
        store.create("runs/run.0001.w1/ckpt-1.json", b"{}")
    assert sorted(set(cost.methods)) == ["changes.list", "files.insert", "upload"]
    assert len([each for each in cost.methods if each != "upload"]) <= 6
    clock.advance(seconds=60.0)
    with Counted(emulator) as cost:
        store.create("runs/run.0001.w1/pack-2", pack)
        store.list("ledger")
        store.create("runs/run.0001.w1/ckpt-2.json", b"{}")
    assert len([each for each in cost.methods if each != "upload"]) <= 4


def test_a_known_object_is_read_and_fetched_by_one_request(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore, tmp_path: Path
) -> None:
    with Counted(emulator) as cost:
        store.read("ledger/mine.record.json")
        store.download("ledger/mine.record.json", tmp_path / "target")
        store.stat("ledger/mine.record.json")
        store.delete("ledger/mine.record.json")
    assert cost.methods == ["files.get", "files.get", "files.get", "files.delete"]


def test_a_folder_of_many_files_is_listed_by_the_thousand(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore
) -> None:
    for number in range(60):
        store.ensure_folder(f"data/{number:02d}")
    other = drive_root(emulator, clock, listing_lag_s=LAG_S)
    with Counted(emulator) as cost:
        assert other.list("", recursive=True) != []
    # The beginning of the feed; the root; its four folders; beneath them sixty-one, twenty of which go into a query.
    assert cost.methods.count("changes.getStartPageToken") == 1
    assert (
        cost.methods.count("files.list") <= 6 + 61
    )  # where twenty are all empty, each is asked for by itself
    with Counted(emulator) as cost:
        other.list("", recursive=True)
    assert cost.methods == []  # within the second, the answer is shared


def test_what_others_do_arrives_by_the_feed(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore, tmp_path: Path
) -> None:
    person = Person(emulator)
    ledger, jobs = id_of(emulator, "ledger"), id_of(emulator, "jobs")
    made = person.make("wish.json", ledger, content=b"cancel")
    job = person.make_folder("new job", jobs)
    person.make("job.yaml", job, content=b"entrypoint: train.py")
    clock.advance(seconds=10.0)
    assert [info.path for info in store.list("ledger")] == ["ledger/mine.record.json", "ledger/wish.json"]
    assert store.read("ledger/wish.json") == b"cancel"
    assert [info.path for info in store.list("jobs", recursive=True)] == ["jobs/new job/job.yaml"]
    person.change(made, b"retry")
    person.rename(job, "newer job")
    clock.advance(seconds=10.0)
    assert [info.path for info in store.list("jobs", recursive=True)] == ["jobs/newer job/job.yaml"]
    assert store.read("ledger/wish.json") == b"retry"
    person.move(made, away_from=ledger, into=jobs)
    person.trash(job)
    clock.advance(seconds=10.0)
    assert [info.path for info in store.list("ledger")] == ["ledger/mine.record.json"]
    assert [info.path for info in store.list("jobs", recursive=True)] == ["jobs/wish.json"]
    person.untrash(job)
    person.delete(made)
    clock.advance(seconds=10.0)
    assert [info.path for info in store.list("jobs", recursive=True)] == ["jobs/newer job/job.yaml"]


def test_a_file_that_the_first_listing_missed_is_found_though_the_feed_never_tells_of_it(
    emulator: DriveEmulator, clock: FakeClock
) -> None:
    first = drive_root(emulator, clock, listing_lag_s=LAG_S)
    first.ensure_folder("ledger")
    clock.advance(seconds=60.0)
    emulator.settings.listing_lag_s = 5.0
    first.create("ledger/young.json", b"1")
    clock.advance(seconds=1.0)
    second = drive_root(emulator, clock, listing_lag_s=LAG_S)
    assert second.list("ledger") == []
    clock.advance(seconds=LAG_S)
    assert [info.path for info in second.list("ledger")] == ["ledger/young.json"]


def test_what_is_as_old_as_the_store_says_that_it_lags_is_shown_though_a_poll_is_shared(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore
) -> None:
    """Who waits so long after a write of its own has to see every claim that is older than it."""
    emulator.settings.listing_lag_s = LAG_S
    drive_root(emulator, clock).create("ledger/theirs.claim.json", b"1")
    clock.advance(seconds=LAG_S - 0.1)
    assert [info.path for info in store.list("ledger")] == ["ledger/mine.record.json"]  # as a heartbeat does
    clock.advance(seconds=store.listing_lag_s - LAG_S + 0.1)
    assert "ledger/theirs.claim.json" in [info.path for info in store.list("ledger")]


def test_what_this_process_did_is_seen_at_once_though_listings_lag(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore
) -> None:
    emulator.settings.listing_lag_s = 60.0
    store.create("ledger/new.json", b"1")
    store.delete("ledger/mine.record.json")
    for _ in range(30):
        assert [info.path for info in store.list("ledger")] == ["ledger/new.json"]
        clock.advance(seconds=RELIST_S / 20)


def test_a_folder_is_listed_anew_now_and_then_in_place_of_a_poll(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore
) -> None:
    clock.advance(seconds=RELIST_S + 1)
    with Counted(emulator) as cost:
        store.list("ledger")
    assert cost.methods == ["files.list"]
    clock.advance(seconds=10)
    with Counted(emulator) as cost:
        store.list("ledger")
    assert cost.methods == ["changes.list"]


def test_a_busy_account_is_listed_anew(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from driverun.storage.drive import client

    monkeypatch.setattr(client, "PAGE", 3)
    person = Person(emulator)
    elsewhere = person.make_folder("photos")
    for number in range(20):
        person.make(f"{number}.jpg", elsewhere)
    person.make("wish.json", id_of(emulator, "ledger"), content=b"cancel")
    clock.advance(seconds=10)
    with Counted(emulator) as cost:
        listed = [info.path for info in store.list("ledger")]
    assert cost.methods.count("changes.list") == 5
    assert cost.methods[-2:] == ["changes.getStartPageToken", "files.list"]
    assert "ledger/wish.json" in listed, "at once: who looks after a long time may look but once"


@pytest.mark.parametrize("kind", [Kind.FAULTY, Kind.ABSENT])
def test_a_feed_that_has_forgotten_where_we_were_begins_anew(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    mark = store.news("ledger").mark
    person = Person(emulator)
    person.make("wish.json", id_of(emulator, "ledger"), content=b"cancel")
    clock.advance(seconds=3 * LAG_S)

    def refusing(page_token: str) -> ChangePage:
        monkeypatch.undo()
        raise DriveRefusal(kind, "the page token is too old")

    monkeypatch.setattr(store._client, "changes", refusing)
    assert [info.path for info in store.news("ledger", mark).changed] == ["ledger/wish.json"]
    person.make("more.json", id_of(emulator, "ledger"), content=b"cancel")
    clock.advance(seconds=3 * LAG_S)
    assert "ledger/more.json" in [info.path for info in store.list("ledger")]


def test_a_heartbeat_does_not_wait_for_a_listing_that_hangs(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore
) -> None:
    asked, answer = threading.Event(), threading.Event()
    poll = store._client.changes

    def hanging(page_token: str) -> ChangePage:
        asked.set()
        assert answer.wait(30)
        return poll(page_token)

    store._client.changes = hanging  # type: ignore[method-assign]
    clock.advance(seconds=10.0)
    with ThreadPoolExecutor(1) as threads:
        listing = threads.submit(store.list, "ledger")
        assert asked.wait(30)
        store.replace("ledger/mine.record.json", b"beat")
        assert store.read("ledger/mine.record.json") == b"beat"
        assert not listing.done()
        answer.set()
        assert [info.size_bytes for info in listing.result()] == [4]


def test_the_time_is_known_without_asking_again(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore
) -> None:
    clock.advance(seconds=300.0)
    with Counted(emulator) as cost:
        now = store.now()
    assert cost.methods == []
    assert abs((clock.now() - now).total_seconds()) <= 1.0
    clock.advance(seconds=3600.0)
    with Counted(emulator) as cost:
        store.now()
    assert cost.methods == ["changes.getStartPageToken"]


def test_a_first_listing_that_was_broken_off_is_made_again(
    emulator: DriveEmulator, clock: FakeClock, store: DriveStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        store.create(f"ledger/run-{number}.run.json", b"{}")
    clock.advance(seconds=2 * LAG_S)
    anew = drive_root(emulator, clock, listing_lag_s=LAG_S)
    anew.list("")
    taken = anew._tree._apply
    files: list[str] = []

    def interrupted(file: RemoteFile) -> None:
        files.append(file.title)
        if len(files) == 3:
            raise KeyboardInterrupt
        taken(file)

    monkeypatch.setattr(anew._tree, "_apply", interrupted)
    with pytest.raises(KeyboardInterrupt):
        anew.list("ledger")
    monkeypatch.undo()
    assert len(anew.list("ledger")) == 6, "half of them would pass for all there are"
