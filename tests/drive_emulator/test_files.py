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


def test_a_token_of_another_version_gives_nothing_twice(alice: Speaker) -> None:
    made = alice.insert()
    path = f"files/{made['id']}"
    same = alice.call("GET", path, headers={"If-None-Match": made["etag"]})
    assert (same.status, same.body) == (304, b"")
    assert alice.call("POST", "files", {}, headers={"If-None-Match": "*"}).status == 412
    assert alice.call("PATCH", path, {"title": "b"}, headers={"If-Match": "*"}).status == 200
    assert alice.call("PATCH", path, {"title": "c"}, headers={"If-Match": "W/unquoted"}).status == 412


@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        ("bytes=0-0", 206, b"0"),
        ("bytes=5-", 206, b"56789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=8-100", 206, b"89"),
        ("bytes=-100", 206, b"0123456789"),
        ("bytes=10-", 416, None),
        ("bytes=5-4", 200, b"0123456789"),
        ("bytes=0-1,3-4", 200, b"0123456789"),
        ("bytes=a-b", 200, b"0123456789"),
        ("lines=0-1", 200, b"0123456789"),
    ],
)
def test_a_range_is_answered(alice: Speaker, asked: str, status: int, expected: bytes | None) -> None:
    made = alice.insert("a", b"0123456789")
    got = alice.call("GET", f"files/{made['id']}", alt="media", headers={"Range": asked})
    assert got.status == status
    if expected is not None:
        assert got.body == expected
    else:
        assert got.headers["content-range"] == "bytes */10"


def test_an_empty_file_has_no_range(alice: Speaker) -> None:
    made = alice.insert("a", b"")
    path = f"files/{made['id']}"
    assert alice.call("GET", path, alt="media").body == b""
    assert alice.call("GET", path, alt="media", headers={"Range": "bytes=0-10"}).status == 416


def test_the_trash_takes_what_is_in_a_folder_along(alice: Speaker) -> None:
    folder = alice.folder()
    made = alice.insert(parents=[{"id": folder["id"]}])
    path = f"files/{made['id']}"
    trashed = alice.call("POST", f"files/{folder['id']}/trash").json
    assert trashed["explicitlyTrashed"] is True
    inside = alice.call("GET", path).json
    assert (inside["labels"]["trashed"], inside["explicitlyTrashed"]) == (True, False)
    again = alice.call("POST", f"files/{folder['id']}/trash").json
    assert again["version"] == trashed["version"]
    alice.call("POST", f"files/{folder['id']}/untrash")
    assert alice.call("GET", path).json["labels"]["trashed"] is False
    assert alice.call("PATCH", path, {"labels": {"trashed": True}}).json["labels"]["trashed"] is True
    assert alice.call("PATCH", path, {"labels": {"trashed": False}}).json["labels"]["trashed"] is False


def test_deleting_a_folder_deletes_what_is_in_it(alice: Speaker, emulator: DriveEmulator) -> None:
    folder = alice.folder()
    inner = alice.folder(parents=[{"id": folder["id"]}])
    alice.insert(parents=[{"id": inner["id"]}])
    assert alice.call("DELETE", f"files/{folder['id']}").status == 204
    assert emulator.files() == []
    assert list(emulator.state.blobs.folder.glob("??/*")) == []


def test_a_file_lies_in_one_folder(alice: Speaker) -> None:
    one, two = alice.folder("one"), alice.folder("two")
    made = alice.insert(parents=[{"id": one["id"]}])
    path = f"files/{made['id']}"
    assert alice.call("PATCH", path, {}, addParents=two["id"]).reason == "cannotAddParent"
    assert alice.call("PATCH", path, {}, removeParents=one["id"]).reason == "cannotRemoveParent"
    moved = alice.call("PATCH", path, {}, addParents=two["id"], removeParents=one["id"]).json
    assert [parent["id"] for parent in moved["parents"]] == [two["id"]]
    back = alice.call("PATCH", path, {"parents": [{"id": one["id"]}]}).json
    assert [parent["id"] for parent in back["parents"]] == [one["id"]]
    both = [{"id": one["id"]}, {"id": two["id"]}]
    assert alice.call("POST", "files", {"parents": both}).status == 400
    inner = alice.folder(parents=[{"id": one["id"]}])
    query = {"addParents": inner["id"], "removeParents": "root"}
    assert alice.call("PATCH", f"files/{one['id']}", {}, **query).reason == "cyclicParent"
    assert alice.call("POST", "files", {"parents": [{"id": made["id"]}]}).reason == "parentNotAFolder"
    listed = alice.call("GET", f"{path}/parents").json["items"]
    assert [parent["id"] for parent in listed] == [one["id"]]
    assert alice.call("GET", f"{path}/parents/{one['id']}").json["isRoot"] is False
    assert alice.call("POST", f"{path}/parents", {"id": two["id"]}).reason == "cannotAddParent"
    assert alice.call("DELETE", f"{path}/parents/{one['id']}").reason == "cannotRemoveParent"


def test_properties_are_public_or_of_one_client(emulator: DriveEmulator, alice: Speaker) -> None:
    other = Speaker(emulator.url, "user:alice@example.com/other-client")
    given = [{"key": "mine", "value": "1"}, {"key": "all", "value": "2", "visibility": "PUBLIC"}]
    made = alice.insert(properties=given)
    path = f"files/{made['id']}"
    assert {one["key"] for one in made["properties"]} == {"mine", "all"}
    assert [one["key"] for one in other.call("GET", path).json["properties"]] == ["all"]
    assert [one["key"] for one in other.call("GET", f"{path}/properties").json["items"]] == ["all"]
    changed = alice.call("PATCH", path, {"properties": [{"key": "mine", "value": "3"}]}).json
    assert {one["key"]: one["value"] for one in changed["properties"]} == {"mine": "3", "all": "2"}
    gone = {"properties": [{"key": "all", "value": None, "visibility": "PUBLIC"}]}
    assert [one["key"] for one in alice.call("PATCH", path, gone).json["properties"]] == ["mine"]
    added = alice.call("POST", f"{path}/properties", {"key": "k", "value": "v"}).json
    assert added["visibility"] == "PRIVATE"
    assert alice.call("GET", f"{path}/properties/k").json["value"] == "v"
    assert alice.call("GET", f"{path}/properties/k", visibility="PUBLIC").status == 404
    assert alice.call("PUT", f"{path}/properties/k", {"value": "w"}).json["value"] == "w"
    assert alice.call("DELETE", f"{path}/properties/k").status == 204
    assert other.call("GET", f"{path}/properties/mine").status == 404
    other.close()


def test_properties_have_limits(alice: Speaker) -> None:
    def status(*properties: dict[str, str]) -> int:
        return alice.call("POST", "files", {"properties": list(properties)}).status

    assert status({"key": "k" * 24, "value": "v" * 100}) == 200
    assert status({"key": "k" * 24, "value": "v" * 101}) == 400
    assert status({"key": "ü" * 12, "value": "v" * 101}) == 400  # bytes of UTF-8 are counted
    assert status({"value": "v"}) == 400
    assert status({"key": "k", "value": "v", "visibility": "SECRET"}) == 400
    many = [{"key": f"k{number}", "value": "v", "visibility": "PUBLIC"} for number in range(31)]
    assert status(*many[:30]) == 200
    assert status(*many) == 403
    assert status(*({**one, "visibility": "PRIVATE"} for one in many)) == 403


def test_googles_own_documents_are_exported_and_not_downloaded(alice: Speaker) -> None:
    kind = "application/vnd.google-apps."
    made = alice.multipart("POST", "files", {"title": "t"}, b"a,b", convert="true").json
    path = f"files/{made['id']}"
    assert made["mimeType"] == kind + "document"
    assert "md5Checksum" not in made
    refused = alice.call("GET", path, alt="media")
    assert (refused.status, refused.reason) == (403, "fileNotDownloadable")
    for target, starts in (
        ("text/plain", "\ufeffa,b".encode()),
        ("text/html", b"<html>"),
        ("application/pdf", b"%PDF-"),
        ("application/rtf", b"{\\rtf1"),
        ("application/zip", b"PK"),
    ):
        got = alice.request("GET", made["exportLinks"][target])
        assert got.body.startswith(starts), target
        assert got.headers["content-type"] == target
    assert alice.call("GET", f"{path}/export", mimeType="video/mp4").status == 400
    plain = alice.insert()
    assert (
        alice.call("GET", f"files/{plain['id']}/export", mimeType="text/plain").reason == "fileNotExportable"
    )
    empty = alice.insert("sheet", None, mimeType=kind + "spreadsheet")
    assert alice.call("GET", f"files/{empty['id']}/export", mimeType="text/csv").body == b""
    assert alice.call("POST", "files", {"mimeType": kind + "unheard-of"}).status == 400
    assert alice.call("POST", "files", {"id": alice.ids()[0], "mimeType": kind + "document"}).status == 400
    assert alice.folder(id=alice.ids()[0])["mimeType"] == kind + "folder"
    assert alice.multipart("POST", "files", {"mimeType": kind + "folder"}, b"x").status == 400


def test_a_shortcut_points_to_a_file(alice: Speaker) -> None:
    made = alice.insert()
    kind = "application/vnd.google-apps.shortcut"
    link = alice.insert("link", None, mimeType=kind, shortcutDetails={"targetId": made["id"]})
    assert link["shortcutDetails"] == {"targetId": made["id"], "targetMimeType": "text/plain"}
    assert alice.call("GET", f"files/{link['id']}", alt="media").reason == "fileNotDownloadable"
    assert alice.call("POST", "files", {"mimeType": kind}).reason == "required"
    chained = {"mimeType": kind, "shortcutDetails": {"targetId": link["id"]}}
    assert alice.call("POST", "files", chained).reason == "shortcutTargetInvalid"


def test_a_copy_is_a_file_of_its_own(alice: Speaker, emulator: DriveEmulator) -> None:
    folder = alice.folder()
    made = alice.insert("a", b"x", parents=[{"id": folder["id"]}], properties=[{"key": "k", "value": "v"}])
    copied = alice.call("POST", f"files/{made['id']}/copy", {}).json
    assert (copied["title"], copied["parents"][0]["id"]) == ("Copy of a", folder["id"])
    assert copied["properties"][0]["value"] == "v"
    alice.call("DELETE", f"files/{made['id']}")
    assert emulator.content(copied["id"]) == b"x"
    chosen = alice.call(
        "POST", f"files/{copied['id']}/copy", {"title": "b", "parents": [{"id": "root"}]}
    ).json
    assert (chosen["title"], chosen["parents"][0]["isRoot"]) == ("b", True)
    assert alice.call("POST", f"files/{folder['id']}/copy", {}).reason == "cannotCopyFile"
    assert list(emulator.state.blobs.incoming.iterdir()) == []


def test_my_drive_stays_what_it_is(alice: Speaker) -> None:
    root = alice.call("GET", "files/root").json
    assert (root["title"], root["id"]) == ("My Drive", alice.call("GET", "about").json["rootFolderId"])
    assert alice.call("DELETE", "files/root").status == 403
    assert alice.call("POST", "files/root/trash").status == 403
    assert alice.call("PATCH", "files/root", {"title": "Mine"}).status == 403
