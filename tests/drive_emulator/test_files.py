"""Files: created, read, changed, moved to the trash, deleted."""

from __future__ import annotations

import hashlib

import pytest

from driverun.testing.drive_emulator import DriveEmulator, Fault
from tests.drive_emulator.speaking import Speaker


def test_a_file_is_read_as_it_was_written(alice: Speaker) -> None:
    content = bytes(range(256)) * 400
    made = alice.insert("weights.bin", content)
    assert made["md5Checksum"] == hashlib.md5(content).hexdigest()
    assert made["sha256Checksum"] == hashlib.sha256(content).hexdigest()
    assert made["fileSize"] == str(len(content))
    assert made["createdDate"] == "2026-01-01T00:00:00.000Z"
    got = alice.call("GET", f"files/{made['id']}", alt="media")
    assert got.body == content
    part = alice.call("GET", f"files/{made['id']}", alt="media", headers={"Range": "bytes=10-19"})
    assert (part.status, part.body) == (206, content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(content)}"


def test_an_id_makes_one_file_and_no_second(alice: Speaker, bob: Speaker) -> None:
    first, second = alice.ids(2)
    assert alice.insert("a", id=first)["id"] == first
    again = alice.multipart("POST", "files", {"title": "a", "id": first}, b"")
    assert (again.status, again.reason) == (409, "fileIdInUse")
    assert bob.multipart("POST", "files", {"id": second}, b"").status == 400  # it was made for alice
    alice.call("DELETE", f"files/{first}")
    assert alice.multipart("POST", "files", {"id": first}, b"").status == 409  # once used is used for ever


def test_a_stale_etag_changes_nothing(alice: Speaker) -> None:
    made = alice.insert()
    path, stale = f"files/{made['id']}", {"If-Match": made["etag"]}
    renamed = alice.call("PUT", path, {"title": "b"}, headers=stale)
    assert renamed.json["etag"] != made["etag"]
    assert alice.call("PUT", path, {"title": "c"}, headers=stale).status == 412
    assert alice.call("PATCH", path, {"title": "c"}, headers=stale).status == 412
    assert alice.multipart("PUT", path, {}, b"new", headers=stale).status == 412
    assert alice.call("DELETE", path, headers=stale).status == 412
    assert alice.call("GET", path).json["title"] == "b"


def test_a_lost_answer_leaves_the_work_done(emulator: DriveEmulator, alice: Speaker) -> None:
    for when, made in (("before", 0), ("after", 1)):
        emulator.faults.add(Fault(kind="drop", method="drive.files.insert", when=when))
        with pytest.raises(ConnectionError):
            alice.insert(when)
        assert [one.title for one in emulator.files()] == ["after"] * made
        assert emulator.requests[-1].fault == f"drop@{when}"


def test_a_deleted_file_is_not_found(alice: Speaker) -> None:
    made = alice.insert()
    assert alice.call("DELETE", f"files/{made['id']}").status == 204
    again = alice.call("DELETE", f"files/{made['id']}")
    assert (again.status, again.reason) == (404, "notFound")
