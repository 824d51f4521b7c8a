"""Several calls in one request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from driverun.testing.drive_emulator import DriveEmulator
from driverun.testing.drive_emulator.batching import read_batch
from driverun.testing.drive_emulator.refusals import Refusal
from tests.drive_emulator.speaking import ALICE, Speaker

pydriving = pytest.importorskip("tests.drive_emulator.pydriving", reason="PyDrive2 is not installed")


def test_googles_client_sends_a_batch(emulator: DriveEmulator) -> None:
    drive = pydriving.drive_of(emulator.url, ALICE)
    service = drive.auth.service
    found: dict[str, Any] = {}
    batch = service.new_batch_http_request(
        callback=lambda name, answer, error: found.update({name: answer if error is None else error})
    )
    batch.add(service.files().insert(body={"title": "a"}, fields="title"), request_id="one")
    batch.add(service.files().get(fileId="gone"), request_id="two")
    batch.add(service.files().list(fields="items/title"), request_id="three")
    batch.execute()
    drive.auth.close()
    assert found["one"] == {"title": "a"}
    assert found["two"].status_code == 404
    assert found["three"] == {"items": [{"title": "a"}]}
    assert emulator.requests.counts() == {
        "drive.files.insert": 1,
        "drive.files.get": 1,
        "drive.files.list": 1,
        "batch": 1,
    }


def test_what_is_no_batch_is_refused(alice: Speaker) -> None:
    for body, kind in (
        (b"{}", "application/json"),
        (b"--x\r\n\r\n\r\n--x--\r\n", "multipart/mixed; boundary=x"),
    ):
        refused = alice.request("POST", "/batch/drive/v2", body, {"Content-Type": kind})
        assert (refused.status, json.loads(refused.body)["error"]["code"]) == (400, 400)


def test_a_batch_has_a_hundred_calls_at_most() -> None:
    part = b"--x\r\nContent-Type: application/http\r\n\r\nGET /drive/v2/about HTTP/1.1\r\n\r\n\r\n"
    kind = "multipart/mixed; boundary=x"
    assert len(read_batch(part * 100 + b"--x--", kind)) == 100
    with pytest.raises(Refusal):
        read_batch(part * 101 + b"--x--", kind)
