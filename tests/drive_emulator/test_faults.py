"""Everything that can be told to go wrong, does, and is in the log."""

from __future__ import annotations

import contextlib
import http.client
from collections import Counter
from typing import Any

import pytest

from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import AdminClient, DriveEmulator, EmulatorSettings, Fault
from driverun.testing.drive_emulator.faults import DRAWN, KINDS, Faults, Subject
from tests.drive_emulator.speaking import Speaker


def subject(method: str = "drive.files.get", **more: Any) -> Subject:
    about = {"account": "alice@example.com", "path": "/drive/v2/files/x", "is_download": False, **more}
    return Subject(method_id=method, **about)


def drawn(faults: Faults, number: int, method: str = "drive.files.get", **more: Any) -> list[str]:
    found = (faults.draw(subject(method, **more)) for _ in range(number))
    return ["" if fault is None else fault.kind for fault in found]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(kind="drop"), ["drop", "", "", ""]),
        (Fault(kind="drop", skip=2), ["", "", "drop", ""]),
        (Fault(kind="drop", times=2, skip=1), ["", "drop", "drop", ""]),
        (Fault(kind="drop", times=None), ["drop"] * 4),
        (Fault(kind="drop", method="drive.files.insert"), [""] * 4),
        (Fault(kind="drop", method="drive.files.*"), ["drop", "", "", ""]),
        (Fault(kind="drop", account="bob@*"), [""] * 4),
        (Fault(kind="drop", path="*/files/x"), ["drop", "", "", ""]),
        (Fault(kind="drop", rate=0.0, times=None), [""] * 4),
        (Fault(kind="corrupt", times=None), [""] * 4),  # there is nothing to corrupt but downloads
    ],
)
def test_a_fault_meets_the_calls_that_it_fits(fault: Fault, expected: list[str]) -> None:
    faults = Faults(seed=0, rate=lambda: 0.0)
    faults.add(fault)
    assert drawn(faults, 4) == expected


def test_draws_follow_the_seed_and_the_rate() -> None:
    def found(seed: int) -> list[str]:
        faults = Faults(seed=seed, rate=lambda: 0.25)
        return drawn(faults, 4000, is_download=True)

    assert found(1) == found(1)
    assert found(1) != found(2)
    kinds = Counter(found(1))
    assert 900 < 4000 - kinds[""] < 1100
    assert set(kinds) - {""} == {kind for kind, _ in DRAWN}


def test_one_fault_at_a_rate_has_draws_of_its_own() -> None:
    faults = Faults(seed=3, rate=lambda: 0.0)
    faults.add(Fault(kind="html", rate=0.5, times=None))
    found = drawn(faults, 1000)
    assert 430 < found.count("html") < 570


@pytest.mark.parametrize("kind", ["burn", "status", "status:many", "status:500:a:b"])
def test_a_kind_that_is_none_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="is no fault"):
        Fault(kind=kind)
    with pytest.raises(ValueError, match="before or after"):
        Fault(kind="drop", when="during")


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("status:400", 400, "badRequest"),
        ("status:401", 401, "authError"),
        ("status:403", 403, "userRateLimitExceeded"),
        ("status:403:rateLimitExceeded", 403, "rateLimitExceeded"),
        ("status:403:dailyLimitExceeded", 403, "dailyLimitExceeded"),
        ("status:403:storageQuotaExceeded", 403, "storageQuotaExceeded"),
        ("status:403:insufficientFilePermissions", 403, "insufficientFilePermissions"),
        ("status:404", 404, "notFound"),
        ("status:408", 408, "requestTimeout"),
        ("status:409", 409, "conflict"),
        ("status:412", 412, "conditionNotMet"),
        ("status:429", 429, "rateLimitExceeded"),
        ("status:500", 500, "internalError"),
        ("status:502", 502, "badGateway"),
        ("status:503", 503, "backendError"),
        ("status:504", 504, "gatewayTimeout"),
        ("status:507", 507, "backendError"),
        ("status:418:teapot", 418, "teapot"),
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_errors_of_every_class(
    emulator: DriveEmulator, alice: Speaker, kind: str, status: int, reason: str, when: str
) -> None:
    emulator.faults.add(Fault(kind=kind, when=when))
    refused = alice.multipart("POST", "files", {}, b"x")
    assert (refused.status, refused.reason) == (status, reason)
    assert refused.json["error"]["code"] == status
    assert len(emulator.files()) == (when == "after")
    assert emulator.requests[-1].fault == f"{kind}@{when}"
    assert alice.multipart("POST", "files", {}, b"x").status == 200


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_page_instead_of_json(emulator: DriveEmulator, alice: Speaker, when: str) -> None:
    emulator.faults.add(Fault(kind="html", when=when))
    found = alice.multipart("POST", "files", {}, b"x")
    assert found.status == 502
    assert found.body.startswith(b"<!DOCTYPE html>")
    assert len(emulator.files()) == (when == "after")


def test_nothing_in_an_answer(emulator: DriveEmulator, alice: Speaker) -> None:
    emulator.faults.add(Fault(kind="empty_body"))
    found = alice.multipart("POST", "files", {}, b"x")
    assert (found.status, found.body) == (200, b"")
    assert len(emulator.files()) == 1


def test_an_answer_that_breaks_off(emulator: DriveEmulator, alice: Speaker) -> None:
    made = alice.insert("a", b"x" * 3_000_000)
    for query in ({}, {"alt": "media"}):
        emulator.faults.add(Fault(kind="truncate"))
        with pytest.raises(http.client.IncompleteRead) as caught:
            alice.call("GET", f"files/{made['id']}", **query)
        assert len(caught.value.partial) == emulator.requests[-1].response_bytes
    assert emulator.requests[-1].response_bytes == 1_500_000


def test_a_corrupted_download_differs_in_one_byte(emulator: DriveEmulator, alice: Speaker) -> None:
    content = bytes(600_000)
    made = alice.insert("a", content)
    path = f"files/{made['id']}"
    emulator.faults.add(Fault(kind="corrupt", times=2))
    assert alice.call("GET", path).status == 200  # this is no download
    for headers, size in (({}, 600_000), ({"Range": "bytes=5-9"}, 5)):
        got = alice.call("GET", path, alt="media", headers=headers).body
        assert len(got) == size
        assert sum(byte != 0 for byte in got) == 1
    assert alice.call("GET", path, alt="media").body == content


def test_a_hang_lasts_until_the_client_gives_up(emulator: DriveEmulator, alice: Speaker) -> None:
    emulator.faults.add(Fault(kind="hang", seconds=3600, when="after"))
    impatient = http.client.HTTPConnection(emulator.url.removeprefix("http://"), timeout=0.2)
    impatient.request("POST", "/drive/v2/files", b"{}", {"Authorization": "Bearer user:a@example.com"})
    with pytest.raises(TimeoutError):
        impatient.getresponse()
    impatient.close()
    for _ in range(10_000):  # it looks for the client twenty times a second
        alice.call("GET", "about")
        if emulator.requests.count("drive.files.insert"):
            break
    (met,) = [record for record in emulator.requests if record.fault]
    assert (met.fault, met.status, len(emulator.files())) == ("hang@after", 0, 1)


def test_a_hang_ends_without_an_answer(emulator: DriveEmulator, alice: Speaker) -> None:
    emulator.settings.hang_s = 0.1
    emulator.faults.add(Fault(kind="hang"))
    with pytest.raises(ConnectionError):
        alice.insert()
    assert emulator.files() == []


def test_latency_of_one_call(emulator: DriveEmulator, alice: Speaker, clock: FakeClock) -> None:
    emulator.faults.add(Fault(kind="latency", seconds=7, when="before"))
    emulator.faults.add(Fault(kind="latency", seconds=5, when="after"))
    assert alice.call("GET", "about").status == 200
    assert clock.monotonic() == 7
    assert alice.call("GET", "about").status == 200
    assert clock.monotonic() == 12


def test_bandwidth_of_one_call(emulator: DriveEmulator, alice: Speaker, clock: FakeClock) -> None:
    made = alice.insert("a", bytes(1_000_000))
    emulator.faults.add(Fault(kind="bandwidth", mbps=8))
    assert len(alice.call("GET", f"files/{made['id']}", alt="media").body) == 1_000_000
    assert clock.monotonic() == pytest.approx(1.0)


def test_a_token_expires_at_a_call(emulator: DriveEmulator, alice: Speaker) -> None:
    emulator.faults.add(Fault(kind="expire_token", skip=1))
    assert [alice.call("GET", "about").status for _ in range(3)] == [200, 401, 401]


def test_a_connection_drops_in_the_middle_of_a_body(emulator: DriveEmulator, alice: Speaker) -> None:
    emulator.faults.add(Fault(kind="drop", method="drive.files.insert", after_bytes=100_000))
    with pytest.raises(ConnectionError):
        alice.multipart("POST", "files", {}, bytes(5_000_000))
    assert emulator.requests[-1].request_bytes == 100_000
    assert emulator.files() == []
    assert list(emulator.state.blobs.incoming.iterdir()) == []


def test_faults_of_all_kinds_come_at_a_rate(emulator: DriveEmulator, alice: Speaker) -> None:
    emulator.settings.hang_s = 0.0
    emulator.settings.fault_rate = 0.5
    made = 0
    for _ in range(300):
        with contextlib.suppress(OSError, http.client.HTTPException):
            made += alice.multipart("POST", "files", {}, b"x").status == 200
    met = Counter(record.fault for record in emulator.requests if record.fault)
    assert {kind.split(":")[0] for kind in met} >= {"status", "html@before", "drop@after", "hang@before"}
    assert 100 < sum(met.values()) < 200
    assert len(emulator.files()) > made  # some were made whose answer was lost
    assert emulator.requests.count("drive.files.insert") == 300


def test_settings_may_be_replaced_as_a_whole(emulator: DriveEmulator, alice: Speaker) -> None:
    emulator.settings = EmulatorSettings(quota_gb=1e-9)
    assert alice.multipart("POST", "files", {}, b"xx").status == 403
    assert AdminClient(emulator.url).settings()["quota_gb"] == 1e-9


def test_every_kind_is_told_of() -> None:
    for kind in KINDS:
        assert Fault(kind=kind).label.startswith(kind)


def test_another_process_has_the_same_switches(emulator: DriveEmulator, alice: Speaker) -> None:
    admin = AdminClient(emulator.url)
    admin.change(latency_ms=50, quota_gb=1)
    assert admin.settings()["latency_ms"] == 50
    assert emulator.settings.quota_gb == 1
    for wrong in ({"latency_ms": -1}, {"speed": 5}, {"latency_ms": True}):
        with pytest.raises(ValueError, match=r"setting|number"):
            admin.change(**wrong)
    fault = Fault(kind="drop", method="drive.files.insert", when="after", skip=1)
    admin.add_fault(fault)
    assert admin.faults() == [fault]
    admin.clear_faults()
    assert admin.faults() == []
    made = alice.insert()
    assert admin.counts() == {"drive.files.insert": 1}
    assert [one.number for one in admin.requests(since=0)] == [1]
    assert admin.requests(since=1) == []
    assert admin.requests() == list(emulator.requests)
    assert [one.id for one in admin.files()] == [made["id"]]
    assert admin.files() == emulator.files()
    admin.clear_requests()
    assert len(emulator.requests) == 0
    admin.expire_uploads()
    admin.expire_tokens("alice@example.com")
    assert alice.call("GET", "about").status == 401
    admin.revoke("user:bob@example.com")
    bob = Speaker(emulator.url, "user:bob@example.com")
    assert bob.call("GET", "about").status == 401
    assert bob.request("GET", "/_emulator/nothing").status == 404
    assert bob.request("POST", "/_emulator/faults", b'{"kind": "burn"}').status == 400
    assert bob.request("POST", "/_emulator/faults", b"{").status == 400
    bob.close()
