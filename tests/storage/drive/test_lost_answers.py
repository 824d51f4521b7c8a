"""Every request of a piece of work goes wrong in turn, before or after Drive did what it was asked to."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from driverun.errors import ObjectExists, StoreAccessDenied, StoreQuotaExceeded, TransientStoreError
from driverun.storage.base import ObjectStore
from driverun.storage.drive.transport import DriveTransport
from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator, EmulatorSettings, Fault
from driverun.testing.faulty import SimulatedDisconnect
from driverun.transfer.put import put
from tests.storage.drive.emulated import ACCOUNT, Counted, drive_root, patient

LARGE = bytes(range(256)) * 25_000  # above what one request takes
MOMENTS = ("before", "after")
_roots = itertools.count()


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory, clock: FakeClock) -> Iterator[DriveEmulator]:
    settings = EmulatorSettings(latency_ms=2.0, hang_s=0.0)
    with DriveEmulator(tmp_path_factory.mktemp("drive"), clock=clock, settings=settings) as emulator:
        yield emulator


def work(store: ObjectStore, folder: Path) -> None:
    """A little of everything. Whoever dies in it begins again and comes to the same end."""
    store.ensure_folder("ledger")
    for path, content in (("ledger/run.json", b"run"), ("runs/a.0001.w1/pack-1", LARGE)):
        put(store, path, content)
    put(store, "ledger/record.json", b"beat 1")
    store.replace("ledger/record.json", b"beat 2", properties={"beat": "2"})
    put(store, "ledger/passing.json", b"to be deleted")
    assert len(store.list("ledger")) == 3
    store.delete("ledger/passing.json")
    store.download("runs/a.0001.w1/pack-1", folder / "pack")
    assert (folder / "pack").read_bytes() == LARGE
    assert store.read("ledger/record.json") == b"beat 2"


EXPECTED = [("ledger/record.json", 6), ("ledger/run.json", 3), ("runs/a.0001.w1/pack-1", len(LARGE))]


def assert_done(emulator: DriveEmulator, clock: FakeClock, path: str) -> None:
    """Assert that the root holds what `work` leaves, each of it once, seen with fresh eyes."""
    fresh = drive_root(emulator, clock, path=path)
    assert [(info.path, info.size_bytes) for info in fresh.list("", recursive=True)] == EXPECTED
    assert fresh.stat("ledger/record.json").properties == {"beat": "2"}
    places = [(each.title, each.parents) for each in emulator.files() if not each.is_trashed]
    assert len(places) == len(set(places)), "there are two of a name"


#: What opening the root and the work take; the first test counts them.
CLEAN_RUN_REQUESTS = 18

#: Every request loses its answer in both ways in which that happens; the rest of the kinds are spread over them.
FAULTS = [
    (kind, when, at)
    for at in range(CLEAN_RUN_REQUESTS)
    for kind, when in (
        ("drop", "before"),
        ("drop", "after"),
        *(
            (("html", "after"), ("status:503", "before"), ("status:401", "before")),
            (("truncate", "after"), ("status:503", "after"), ("status:408", "before")),
            (("empty_body", "after"), ("hang", "after"), ("status:429", "before")),
        )[at % 3],
    )
]


def test_how_many_requests_the_work_takes(emulator: DriveEmulator, clock: FakeClock, tmp_path: Path) -> None:
    path = f"root-{next(_roots)}"
    with Counted(emulator) as cost:
        work(patient(drive_root(emulator, clock, path=path), clock), tmp_path)
    assert_done(emulator, clock, path)
    assert len(cost.methods) == CLEAN_RUN_REQUESTS


@pytest.mark.parametrize(("kind", "when", "at"), FAULTS)
def test_no_lost_answer_makes_a_second_file(
    emulator: DriveEmulator, clock: FakeClock, tmp_path: Path, kind: str, when: str, at: int
) -> None:
    path = f"root-{next(_roots)}"
    emulator.faults.clear()
    emulator.faults.add(Fault(kind=kind, when=when, skip=at))
    try:
        work(patient(drive_root(emulator, clock, path=path), clock), tmp_path)
    finally:
        emulator.faults.clear()
    assert_done(emulator, clock, path)


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("at", range(CLEAN_RUN_REQUESTS))
def test_a_crash_at_any_request_is_survived_by_beginning_again(
    emulator: DriveEmulator,
    clock: FakeClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
    at: int,
) -> None:
    path = f"root-{next(_roots)}"
    sent = itertools.count()
    send = DriveTransport._send_once

    def dying(self: DriveTransport, *request: Any) -> urllib3.BaseHTTPResponse:
        number = next(sent)
        if number == at and when == "before":
            raise SimulatedDisconnect
        answer = send(self, *request)
        if number == at:
            answer.read()
            raise SimulatedDisconnect
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(DriveTransport, "_send_once", dying)
        with pytest.raises(SimulatedDisconnect):
            work(patient(drive_root(emulator, clock, path=path), clock), tmp_path)
    clock.advance(seconds=60)
    work(patient(drive_root(emulator, clock, path=path), clock), tmp_path)
    assert_done(emulator, clock, path)


def test_a_full_drive_is_no_reason_to_try_again(emulator: DriveEmulator, clock: FakeClock) -> None:
    store = patient(drive_root(emulator, clock, path=f"root-{next(_roots)}"), clock)
    store.create("ledger/record.json", b"1")
    emulator.settings.quota_gb = 1e-9
    try:
        with Counted(emulator) as cost:
            with pytest.raises(StoreQuotaExceeded, match="Free space"):
                store.create("ledger/two.json", b"22")
            with pytest.raises(StoreQuotaExceeded):
                store.create("ledger/large", LARGE)
            with pytest.raises(StoreQuotaExceeded):
                store.replace("ledger/record.json", b"longer than before")
        assert len(cost.methods) <= 4
        assert store.read("ledger/record.json") == b"1"
    finally:
        emulator.settings.quota_gb = 15.0
    store.create("ledger/two.json", b"22")
    store.create("ledger/large", LARGE)


def test_a_lasting_outage_ends_with_the_budget(emulator: DriveEmulator, clock: FakeClock) -> None:
    inner = drive_root(emulator, clock, path=f"root-{next(_roots)}")
    store = patient(inner, clock, budget_s=60.0)
    store.create("ledger/record.json", b"1")
    emulator.faults.add(Fault(kind="status:503", times=None))
    try:
        with pytest.raises(TransientStoreError, match="Drive has trouble"):
            store.replace("ledger/record.json", b"2")
    finally:
        emulator.faults.clear()
    store.replace("ledger/record.json", b"2")


def test_a_rest_that_drive_asks_for_is_kept(emulator: DriveEmulator, clock: FakeClock) -> None:
    store = patient(drive_root(emulator, clock, path=f"root-{next(_roots)}"), clock)
    store.create("ledger/record.json", b"1")
    emulator.faults.add(Fault(kind="status:429", method="drive.files.update", times=3))
    started = clock.monotonic()
    store.replace("ledger/record.json", b"2")
    assert clock.monotonic() - started >= 3 * 0.5
    assert store.read("ledger/record.json") == b"2"


def test_a_token_that_expires_in_the_middle_is_renewed(emulator: DriveEmulator, clock: FakeClock) -> None:
    store = drive_root(emulator, clock, path=f"root-{next(_roots)}")
    store.create("ledger/one.json", b"1")
    emulator.expire_tokens(ACCOUNT)
    store.create("ledger/two.json", b"2")
    assert store.read("ledger/two.json") == b"2"
    emulator.expire_tokens(ACCOUNT)
    store.create("ledger/large", LARGE)
    assert store.read("ledger/large") == LARGE


def test_a_login_that_was_withdrawn_is_told_and_not_tried_again(tmp_path: Path, clock: FakeClock) -> None:
    with DriveEmulator(tmp_path / "drive", clock=clock) as emulator:
        store = patient(drive_root(emulator, clock), clock)
        store.create("one", b"1")
        emulator.expire_tokens(ACCOUNT)
        emulator.revoke(f"refresh:{ACCOUNT}")
        with Counted(emulator) as cost, pytest.raises(StoreAccessDenied, match="driverun login"):
            store.read("one")
        assert len(cost.methods) <= 3


def test_content_that_differs_from_that_of_a_lost_creation_is_not_taken_for_it(
    emulator: DriveEmulator, clock: FakeClock
) -> None:
    store = drive_root(emulator, clock, path=f"root-{next(_roots)}")
    store.ensure_folder("ledger")
    emulator.faults.add(Fault(kind="drop", method="drive.files.insert", when="after"))
    with pytest.raises(TransientStoreError):
        store.create("ledger/one.json", b"first")
    with pytest.raises(ObjectExists):
        store.create("ledger/one.json", b"other")
    assert store.read("ledger/one.json") == b"first"
