"""Calls are held against the discovery document, and so are all answers."""

from __future__ import annotations

import re
from typing import Any

import pytest

from driverun.testing.drive_emulator import DriveEmulator
from driverun.testing.drive_emulator.contract import drive_v2
from tests.drive_emulator.schemas import problems
from tests.drive_emulator.speaking import Speaker


@pytest.mark.parametrize(
    ("verb", "path", "query", "reason", "words"),
    [
        ("GET", "files", {"pageSize": 5}, "badRequest", 'Unknown name "pageSize"'),  # v3's
        ("GET", "about", {"q": "x"}, "badRequest", 'Unknown name "q"'),
        ("GET", "files", {"fileId": "x"}, "badRequest", 'Unknown name "fileId"'),
        ("GET", "files", {"maxResults": "many"}, "invalidParameter", "Invalid integer value"),
        ("GET", "files", {"maxResults": -1}, "invalidParameter", "within the range: [0"),
        ("GET", "files/generateIds", {"maxResults": 1001}, "invalidParameter", "range: [1, 1000]"),
        ("GET", "files/generateIds", {"space": "moon"}, "invalid", "Invalid Value"),
        ("GET", "files", {"supportsAllDrives": "perhaps"}, "invalidParameter", "Invalid boolean"),
        ("GET", "files", {"corpus": "OURS"}, "invalidParameter", "Allowed values"),
        ("GET", "files", {"corpora": "ours"}, "invalid", "Invalid Value"),
        ("GET", "files", {"orderBy": "size"}, "invalid", "Invalid Value"),
        ("GET", "files", {"spaces": "moon"}, "invalid", "Invalid Value"),
        ("GET", "files", {"pageToken": "x"}, "invalid", "Invalid Value"),
        ("GET", "files", {"alt": "proto"}, "unsupportedOutputFormat", "proto"),
        ("GET", "files", {"alt": "media"}, "unsupportedOutputFormat", "media"),
        ("GET", "files", {"alt": "xml"}, "invalidParameter", "Allowed values"),
        ("GET", "changes", {"startChangeId": "first"}, "invalidParameter", "Invalid long value"),
        ("GET", "changes", {"pageToken": "first"}, "invalid", "Invalid Value"),
        ("GET", "files/x/export", {}, "required", "Required parameter: mimeType"),
        ("POST", "drives", {}, "required", "Required parameter: requestId"),
    ],
)
def test_a_parameter_that_the_document_does_not_know_is_refused(
    alice: Speaker, verb: str, path: str, query: dict[str, Any], reason: str, words: str
) -> None:
    refused = alice.call(verb, path, {} if verb == "POST" else None, **query)
    assert (refused.status, refused.reason) == (400, reason), refused
    assert words in refused.json["error"]["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"name": "v3 calls it so"}, 'Unknown name "name"'),
        ({"labels": {"trash": True}}, "Unknown name \"trash\" at 'labels'"),
        ({"title": 5}, "Invalid value at 'title' (TYPE_STRING), 5"),
        ({"labels": {"trashed": "yes"}}, "Invalid value at 'labels.trashed'"),
        ({"parents": {"id": "x"}}, "Invalid value at 'parents' (TYPE_LIST)"),
        ({"parents": ["x"]}, "Invalid value at 'parents[0]' (TYPE_MESSAGE)"),
        ({"modifiedDate": "today"}, "TYPE_DATE_TIME"),
        ({"fileSize": "big"}, "TYPE_INT64"),
        ([], "Root element"),
    ],
)
def test_a_body_of_another_shape_is_refused(alice: Speaker, body: Any, words: str) -> None:
    refused = alice.call("POST", "files", body)
    assert (refused.status, refused.reason) == (400, "badRequest")
    assert words in refused.json["error"]["message"]
    assert alice.call("GET", "files").json["items"] == []


def test_a_body_that_is_no_json_or_not_due_is_refused(alice: Speaker) -> None:
    assert alice.request("POST", "/drive/v2/files", b"{").reason == "parseError"
    made = alice.insert()
    assert alice.call("POST", f"files/{made['id']}/trash", {"title": "x"}).status == 400
    assert alice.call("POST", f"files/{made['id']}/permissions", {"type": "user"}).reason == "required"


def test_null_stands_for_nothing(alice: Speaker) -> None:
    assert alice.call("POST", "files", {"title": None}).json["title"] == "Untitled"


@pytest.mark.parametrize("path", ["/drive/v3/files", "/drive/v2/nothing", "/", "/upload/drive/v2/about"])
def test_where_there_is_no_api_there_is_a_page(alice: Speaker, path: str) -> None:
    found = alice.request("GET", path)
    assert found.status == 404
    assert found.headers["content-type"].startswith("text/html")


NOT_THERE = {
    "drive.apps.get",
    "drive.apps.list",
    "drive.changes.watch",
    "drive.channels.stop",
    "drive.files.generateCseToken",
    "drive.files.listLabels",
    "drive.files.modifyLabels",
    "drive.files.watch",
}


@pytest.mark.parametrize("method_id", sorted(drive_v2().methods))
def test_every_method_of_the_document_is_there_or_says_so(alice: Speaker, method_id: str) -> None:
    method = drive_v2().methods[method_id]
    body: Any = None if method.request_schema is None else {}
    answer = alice.call(method.verb, re.sub(r"\{\w+\}", "nothing", method.path), body)
    assert (answer.status == 501) is (method_id in NOT_THERE)
    if method_id in NOT_THERE:
        assert answer.reason == "notImplemented"


def test_addresses_lead_to_the_method_that_is_most_literal() -> None:
    def method(verb: str, path: str) -> str | None:
        found = drive_v2().match(verb, path)
        return None if found is None else found.method.id

    assert method("DELETE", "/drive/v2/files/trash") == "drive.files.emptyTrash"
    assert method("DELETE", "/drive/v2/files/other") == "drive.files.delete"
    assert method("GET", "/drive/v2/files/generateIds") == "drive.files.generateIds"
    assert method("GET", "/drive/v2/changes/startPageToken") == "drive.changes.getStartPageToken"
    assert method("POST", "/upload/drive/v2/files") == "drive.files.insert"
    assert method("PATCH", "/upload/drive/v2/files/x") is None  # the document has media in update alone
    assert method("GET", "/drive/v2/files/") is None


def test_an_answer_of_another_shape_would_be_noticed(alice: Speaker) -> None:
    made = alice.insert()
    assert problems("File", made) == []
    assert problems("File", {**made, "name": "x"}) != []
    assert problems("File", {**made, "fileSize": 5}) != []
    assert problems("File", {**made, "createdDate": "2026-01-01 00:00"}) != []
    assert problems("File", {**made, "kind": "drive#folder"}) != []
    assert problems("FileList", {"items": [{"labels": {"gone": True}}]}) != []


def test_the_date_is_that_of_the_emulators_clock(emulator: DriveEmulator, alice: Speaker) -> None:
    assert alice.call("GET", "about").headers["date"] == "Thu, 01 Jan 2026 00:00:00 GMT"
