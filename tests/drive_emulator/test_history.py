"""Revisions, changes, quota."""

from __future__ import annotations

from typing import Any

from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator
from tests.drive_emulator.speaking import Speaker


def test_content_that_is_replaced_becomes_a_revision(alice: Speaker) -> None:
    made = alice.insert("a", b"one")
    path = f"files/{made['id']}"
    changed = alice.multipart("PUT", path, {}, b"three").json
    assert (changed["id"], changed["title"]) == (made["id"], "a")  # what is not sent stays
    assert changed["headRevisionId"] != made["headRevisionId"]
    found = alice.call("GET", f"{path}/revisions").json["items"]
    assert [one["fileSize"] for one in found] == ["3", "5"]
    old = found[0]
    assert alice.call("GET", f"{path}/revisions/{old['id']}").json == old
    assert alice.call("GET", path, alt="media", revisionId=old["id"]).body == b"one"
    assert alice.request("GET", old["downloadUrl"]).body == b"one"
    assert alice.call("GET", path, alt="media", revisionId="gone").status == 404
    page = alice.call("GET", f"{path}/revisions", maxResults=1).json
    assert len(alice.call("GET", f"{path}/revisions", pageToken=page["nextPageToken"]).json["items"]) == 1


def test_old_revisions_cost_nothing_unless_they_are_pinned(alice: Speaker) -> None:
    made = alice.insert("a", b"1234")
    path = f"files/{made['id']}"
    alice.multipart("PUT", path, {}, b"56")
    assert alice.call("GET", path).json["quotaBytesUsed"] == "2"
    old = f"{path}/revisions/{made['headRevisionId']}"
    assert alice.call("PATCH", old, {"pinned": True}).json["pinned"] is True
    assert alice.call("GET", path).json["quotaBytesUsed"] == "6"
    assert alice.call("GET", "about").json["quotaBytesUsed"] == "6"
    assert alice.call("DELETE", old).status == 204
    assert alice.call("GET", old).status == 404
    assert alice.call("DELETE", f"{path}/revisions/head").reason == "cannotDeleteOnlyRevision"


def test_the_hundredth_revision_pushes_the_first_out(alice: Speaker, emulator: DriveEmulator) -> None:
    made = alice.insert("a", b"0")
    for number in range(103):
        alice.multipart("PUT", f"files/{made['id']}", {}, str(number).encode())
    found = alice.call("GET", f"files/{made['id']}/revisions", maxResults=1000).json["items"]
    assert len(found) == 101  # the head is not counted
    assert made["headRevisionId"] not in {one["id"] for one in found}
    blobs = list(emulator.state.blobs.folder.glob("??/*"))
    assert len(blobs) == 101


def test_new_revision_false_replaces_the_last_one(alice: Speaker) -> None:
    made = alice.insert("a", b"one")
    alice.multipart("PUT", f"files/{made['id']}", {}, b"two", newRevision="false")
    assert len(alice.call("GET", f"files/{made['id']}/revisions").json["items"]) == 1


def test_a_folder_has_no_revisions(alice: Speaker) -> None:
    folder = alice.folder()
    assert alice.call("GET", f"files/{folder['id']}/revisions").status == 403


def changes(speaker: Speaker, token: str, **query: Any) -> list[tuple[str, bool]]:
    found = speaker.call("GET", "changes", pageToken=token, **query)
    return [(one["fileId"], one["deleted"]) for one in found.json["items"]]


def test_every_file_is_in_the_changes_once_at_its_newest(alice: Speaker, bob: Speaker) -> None:
    token = alice.call("GET", "changes/startPageToken").json["startPageToken"]
    one, two = alice.insert("one")["id"], alice.insert("two")["id"]
    assert changes(alice, token) == [(one, False), (two, False)]
    alice.call("PATCH", f"files/{one}", {"title": "renamed"})
    alice.call("DELETE", f"files/{two}")
    assert changes(alice, token) == [(one, False), (two, True)]
    assert changes(alice, token, includeDeleted=False) == [(one, False)]
    assert changes(bob, token) == []
    page = alice.call("GET", "changes", pageToken=token, maxResults=1).json
    assert [item["fileId"] for item in page["items"]] == [one]
    assert changes(alice, page["nextPageToken"]) == [(two, True)]
    assert alice.call("GET", f"changes/{page['items'][0]['id']}").json == page["items"][0]
    assert alice.call("GET", "changes/999").status == 404
    assert alice.call("GET", "changes", pageToken="999").status == 400
    newest = alice.call("GET", "changes", pageToken=token).json["newStartPageToken"]
    assert changes(alice, newest) == []


def test_the_trash_counts_until_it_is_deleted(alice: Speaker, emulator: DriveEmulator) -> None:
    emulator.settings.quota_gb = 10e-9
    folder = alice.folder()
    made = alice.insert("a", b"1234567", parents=[{"id": folder["id"]}])
    refused = alice.multipart("POST", "files", {"title": "b"}, b"1234")
    assert (refused.status, refused.reason) == (403, "storageQuotaExceeded")
    alice.call("POST", f"files/{folder['id']}/trash")
    about = alice.call("GET", "about").json
    assert (about["quotaBytesUsed"], about["quotaBytesUsedInTrash"]) == ("7", "7")
    assert alice.multipart("POST", "files", {"title": "b"}, b"1234").status == 403
    assert alice.multipart("PUT", f"files/{made['id']}", {}, b"1234567890").status == 200  # in its place
    assert alice.multipart("PUT", f"files/{made['id']}", {}, b"12345678901").status == 403
    assert alice.call("DELETE", "files/trash").status == 204
    assert alice.call("GET", "about").json["quotaBytesUsed"] == "0"
    assert alice.call("GET", f"files/{made['id']}").status == 404
    assert alice.multipart("POST", "files", {"title": "b"}, b"1234").status == 200


def test_about_without_a_limit(alice: Speaker, emulator: DriveEmulator) -> None:
    emulator.settings.quota_gb = 0
    about = alice.call("GET", "about", startChangeId=0).json
    assert about["quotaType"] == "UNLIMITED"
    assert "quotaBytesTotal" not in about


def test_dates_tell_what_happened(alice: Speaker, clock: FakeClock) -> None:
    made = alice.insert()
    path = f"files/{made['id']}"
    clock.advance(seconds=1.5)
    seen = alice.call("GET", path, updateViewedDate=True).json
    assert seen["lastViewedByMeDate"] == "2026-01-01T00:00:01.500Z"
    assert seen["modifiedDate"] == made["modifiedDate"]
    assert alice.call("POST", f"{path}/touch").json["modifiedDate"] == "2026-01-01T00:00:01.500Z"
    body = {"modifiedDate": "2020-05-05T05:05:05.000Z"}
    assert alice.call("PATCH", path, body).json["modifiedDate"] == "2026-01-01T00:00:01.500Z"
    assert alice.call("PATCH", path, body, setModifiedDate=True).json["modifiedDate"] == body["modifiedDate"]
    kept = alice.call("PATCH", path, {"title": "b"}, modifiedDateBehavior="noChange").json
    assert kept["modifiedDate"] == body["modifiedDate"]
