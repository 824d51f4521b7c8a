"""Who may do what: permissions, shared drives, service accounts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator
from tests.drive_emulator.speaking import Speaker

ROBOT = "robot@project.iam.gserviceaccount.com"


@pytest.fixture
def robot(emulator: DriveEmulator) -> Iterator[Speaker]:
    speaker = Speaker(emulator.url, f"user:{ROBOT}")
    yield speaker
    speaker.close()


def share(speaker: Speaker, item: Any, who: str, role: str, **more: Any) -> Any:
    body = {"type": "user", "value": who, "role": role, **more}
    query = {"supportsAllDrives": True}
    given = speaker.call("POST", f"files/{item['id']}/permissions", body, **query)
    assert given.status == 200, given
    return given.json


ACTIONS: dict[str, tuple[str, str, Any]] = {
    "get": ("GET", "files/{id}", None),
    "copy": ("POST", "files/{id}/copy", {}),
    "rename": ("PATCH", "files/{id}", {"title": "b"}),
    "touch": ("POST", "files/{id}/touch", None),
    "revisions": ("GET", "files/{id}/revisions", None),
    "permissions": ("GET", "files/{id}/permissions", None),
    "trash": ("POST", "files/{id}/trash", None),
    "delete": ("DELETE", "files/{id}", None),
}


@pytest.mark.parametrize(
    ("role", "more", "allowed"),
    [
        ("reader", {}, {"get", "copy"}),
        ("reader", {"additionalRoles": ["commenter"]}, {"get", "copy"}),
        ("writer", {}, {"get", "copy", "rename", "touch", "revisions", "permissions"}),
    ],
)
@pytest.mark.parametrize("is_inherited", [False, True])
def test_a_role_allows_what_it_allows(
    alice: Speaker, bob: Speaker, role: str, more: Any, allowed: set[str], is_inherited: bool
) -> None:
    folder = alice.folder()
    made = alice.insert(parents=[{"id": folder["id"]}])
    for verb, path, body in ACTIONS.values():
        assert bob.call(verb, path.format(**made), body).status == 404
    share(alice, folder if is_inherited else made, "bob@example.com", role, **more)
    for name, (verb, path, body) in ACTIONS.items():
        done = bob.call(verb, path.format(**made), body)
        if name in allowed:
            assert done.status == 200, name
        else:
            assert (done.status, done.reason) == (403, "insufficientFilePermissions"), name
            assert done.json["error"]["errors"][0]["location"] == "file.permissions"


def test_what_bob_puts_into_alices_folder_is_bobs(alice: Speaker, bob: Speaker) -> None:
    folder = alice.folder()
    share(alice, folder, "bob@example.com", "writer")
    made = bob.insert("of bob", parents=[{"id": folder["id"]}])
    assert made["ownerNames"] == ["bob"]
    seen = alice.call("GET", f"files/{made['id']}").json
    assert (seen["userPermission"]["role"], seen["ownedByMe"]) == ("writer", False)
    assert alice.call("DELETE", f"files/{made['id']}").status == 403
    assert alice.call("DELETE", f"files/{folder['id']}").status == 204
    assert bob.call("GET", f"files/{made['id']}").json["parents"][0]["isRoot"] is True


def test_a_permission_is_changed_listed_and_taken(alice: Speaker, bob: Speaker, clock: FakeClock) -> None:
    made = alice.insert()
    path = f"files/{made['id']}/permissions"
    given = share(alice, made, "bob@example.com", "reader")
    assert alice.call("GET", "permissionIds/bob@example.com").json["id"] == given["id"]
    assert alice.call("PATCH", f"{path}/{given['id']}", {"role": "writer"}).json["role"] == "writer"
    assert bob.call("GET", f"{path}/me").json["role"] == "writer"
    listed = alice.call("GET", path, maxResults=1).json
    assert [one["role"] for one in listed["items"]] == ["owner"]
    assert len(alice.call("GET", path, pageToken=listed["nextPageToken"]).json["items"]) == 1
    until = {"expirationDate": "2026-01-01T01:00:00Z"}
    alice.call("PUT", f"{path}/{given['id']}", until)
    clock.advance(seconds=3600)
    assert bob.call("GET", f"files/{made['id']}").status == 404
    alice.call("PATCH", f"{path}/{given['id']}", {}, removeExpiration=True)
    assert bob.call("DELETE", f"{path}/{given['id']}").status == 204  # bob may leave
    assert bob.call("GET", f"files/{made['id']}").status == 404
    assert alice.call("DELETE", f"{path}/{given['id']}").status == 404


@pytest.mark.parametrize(
    "body",
    [
        {"type": "user", "role": "king", "value": "bob@example.com"},
        {"type": "alien", "role": "reader", "value": "bob@example.com"},
        {"type": "user", "role": "reader", "value": "bob"},
        {"type": "domain", "role": "reader", "value": "bob@example.com"},
        {"type": "user", "role": "organizer", "value": "bob@example.com"},
    ],
)
def test_a_permission_that_cannot_be_is_refused(alice: Speaker, body: Any) -> None:
    made = alice.insert()
    assert alice.call("POST", f"files/{made['id']}/permissions", body).status in (400, 403)


def test_a_file_changes_hands_when_that_is_said_twice(alice: Speaker, bob: Speaker) -> None:
    made = alice.insert("a", b"12345")
    path = f"files/{made['id']}/permissions"
    given = share(alice, made, "bob@example.com", "writer")
    assert alice.call("PATCH", f"{path}/{given['id']}", {"role": "owner"}).status == 403
    moved = alice.call("PATCH", f"{path}/{given['id']}", {"role": "owner"}, transferOwnership=True)
    assert moved.json["role"] == "owner"
    assert bob.call("GET", "about").json["quotaBytesUsed"] == "5"
    assert alice.call("GET", "about").json["quotaBytesUsed"] == "0"
    assert alice.call("GET", f"{path}/me").json["role"] == "writer"
    assert bob.call("DELETE", f"{path}/{bob.call('GET', f'{path}/me').json['id']}").status == 403


def test_a_domain_sees_what_is_shared_with_it(alice: Speaker, bob: Speaker) -> None:
    made = alice.insert()
    share(alice, made, "example.com", "reader", type="domain")
    assert bob.call("GET", f"files/{made['id']}").status == 200
    found = alice.call("GET", "files", q="visibility = 'domainCanFind'").json["items"]
    assert [one["id"] for one in found] == [made["id"]]


def test_a_service_account_has_no_storage(alice: Speaker, robot: Speaker) -> None:
    refused = robot.multipart("POST", "files", {"title": "a"}, b"x")
    assert (refused.status, refused.reason) == (403, "storageQuotaExceeded")
    assert robot.folder("mine")["title"] == "mine"  # a folder takes no storage
    folder = alice.folder()
    made = alice.insert(parents=[{"id": folder["id"]}])
    share(alice, folder, ROBOT, "writer")
    inside = robot.multipart("POST", "files", {"parents": [{"id": folder["id"]}]}, b"x")
    assert inside.reason == "storageQuotaExceeded"  # it would own the file all the same
    assert robot.multipart("PUT", f"files/{made['id']}", {}, b"changed").status == 200
    assert robot.call("GET", "about").json["quotaBytesTotal"] == "0"


@pytest.fixture
def team(alice: Speaker) -> Any:
    return alice.call("POST", "drives", {"name": "Team"}, requestId="r1").json


ALL = {"supportsAllDrives": True}
EVERYWHERE = {"supportsAllDrives": True, "includeItemsFromAllDrives": True}


def test_a_service_account_can_write_into_a_shared_drive(alice: Speaker, robot: Speaker, team: Any) -> None:
    share(alice, team, ROBOT, "fileOrganizer")
    body = {"title": "a", "parents": [{"id": team["id"]}]}
    made = robot.multipart("POST", "files", body, b"x", supportsAllDrives="true").json
    assert made["driveId"] == team["id"]
    assert "owners" not in made
    assert robot.call("POST", f"files/{made['id']}/trash", **ALL).status == 200
    assert robot.call("DELETE", f"files/{made['id']}", **ALL).status == 403  # a manager alone deletes
    assert alice.call("DELETE", f"files/{made['id']}", **ALL).status == 204


def test_who_does_not_speak_of_shared_drives_does_not_see_them(alice: Speaker, team: Any) -> None:
    body = {"title": "a", "parents": [{"id": team["id"]}]}
    assert alice.multipart("POST", "files", body, b"x").status == 404
    made = alice.multipart("POST", "files", body, b"x", supportsAllDrives="true").json
    assert alice.call("GET", f"files/{made['id']}").status == 404
    assert alice.call("GET", f"files/{made['id']}", supportsTeamDrives=True).status == 200
    assert alice.call("GET", "files").json["items"] == []
    assert len(alice.call("GET", "files", **EVERYWHERE).json["items"]) == 1
    drive = {"corpora": "drive", "driveId": team["id"], **EVERYWHERE}
    assert len(alice.call("GET", "files", **drive).json["items"]) == 1
    assert len(alice.call("GET", "files", **{**drive, "q": f"'{team['id']}' in parents"}).json["items"]) == 1
    for wrong in (
        {"corpora": "drive", **EVERYWHERE},
        {"driveId": team["id"], **EVERYWHERE},
        {"corpora": "drive", "driveId": team["id"], **ALL},
        {"includeItemsFromAllDrives": True},
        {"corpora": "drive", "driveId": "gone", **EVERYWHERE},
    ):
        assert alice.call("GET", "files", **wrong).status in (400, 403, 404), wrong


def test_changes_of_a_shared_drive(alice: Speaker, team: Any) -> None:
    token = alice.call("GET", "changes/startPageToken", driveId=team["id"], **ALL).json["startPageToken"]
    body = {"title": "a", "parents": [{"id": team["id"]}]}
    made = alice.multipart("POST", "files", body, b"x", supportsAllDrives="true").json
    assert alice.call("GET", "changes", pageToken=token).json["items"] == []
    found = alice.call("GET", "changes", pageToken=token, driveId=team["id"], **EVERYWHERE).json["items"]
    assert [one["fileId"] for one in found] == [made["id"]]
    everything = alice.call("GET", "changes", pageToken="1", **EVERYWHERE).json["items"]
    assert [one["changeType"] for one in everything] == ["drive", "file"]
    assert everything[0]["drive"]["name"] == "Team"


def test_shared_drives_are_made_found_changed_and_deleted(alice: Speaker, bob: Speaker, team: Any) -> None:
    path = f"drives/{team['id']}"
    assert alice.call("POST", "drives", {"name": "Team"}, requestId="r1").status == 409
    assert alice.call("POST", "drives", {}, requestId="r2").reason == "required"
    assert bob.call("GET", path).status == 404
    share(alice, team, "bob@example.com", "reader")
    assert bob.call("GET", path).json["capabilities"]["canEdit"] is False
    assert bob.call("PUT", path, {"name": "Ours"}).status == 403
    changed = alice.call("PUT", path, {"name": "Ours", "restrictions": {"driveMembersOnly": True}}).json
    assert (changed["name"], changed["restrictions"]["driveMembersOnly"]) == ("Ours", True)
    assert alice.call("GET", f"files/{team['id']}", **ALL).json["title"] == "Ours"
    assert bob.call("POST", f"{path}/hide").json["hidden"] is True
    assert bob.call("GET", "drives", q="hidden = false").json["items"] == []
    assert bob.call("POST", f"{path}/unhide").json["hidden"] is False
    assert alice.call("GET", "drives", q="name contains 'our' and memberCount = 2").json["items"] != []
    alice.call("POST", "drives", {"name": "Another"}, requestId="r3")
    page = alice.call("GET", "drives", maxResults=1).json
    assert len(alice.call("GET", "drives", pageToken=page["nextPageToken"]).json["items"]) == 1
    body = {"title": "a", "parents": [{"id": team["id"]}]}
    alice.multipart("POST", "files", body, b"x", supportsAllDrives="true")
    assert alice.call("DELETE", path).status == 403
    assert alice.call("DELETE", path, allowItemDeletion=True).status == 204
    assert alice.call("GET", path).status == 404


def test_a_shared_drive_has_its_old_name_too(alice: Speaker, team: Any) -> None:
    path = f"teamdrives/{team['id']}"
    assert alice.call("GET", path).json["capabilities"]["canDeleteTeamDrive"] is True
    assert alice.call("GET", "teamdrives").json["items"][0]["name"] == "Team"
    made = alice.call("POST", "teamdrives", {"name": "Old"}, requestId="o").json
    assert alice.call("PUT", f"teamdrives/{made['id']}", {"name": "Older"}).json["name"] == "Older"
    assert alice.call("DELETE", f"teamdrives/{made['id']}").status == 204


def test_a_shared_drive_keeps_an_organizer(alice: Speaker, team: Any) -> None:
    path = f"files/{team['id']}/permissions"
    mine = alice.call("GET", f"{path}/me", **ALL).json
    assert mine["permissionDetails"][0]["permissionType"] == "member"
    assert alice.call("DELETE", f"{path}/{mine['id']}", **ALL).reason == "cannotRemoveLastOrganizer"


def test_a_file_moves_into_a_shared_drive(alice: Speaker, team: Any) -> None:
    made = alice.insert("a", b"123")
    query = {"addParents": team["id"], "removeParents": "root", **ALL}
    moved = alice.call("PATCH", f"files/{made['id']}", {}, **query).json
    assert moved["driveId"] == team["id"]
    assert alice.call("GET", "about").json["quotaBytesUsed"] == "0"
