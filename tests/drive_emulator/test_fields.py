"""Partial answers."""

from __future__ import annotations

from typing import Any

import pytest

from driverun.testing.drive_emulator.contract import drive_v2
from driverun.testing.drive_emulator.fields import apply_mask, check_mask, parse_mask
from driverun.testing.drive_emulator.refusals import Refusal
from tests.drive_emulator.speaking import Speaker

DOCUMENT = {
    "kind": "drive#fileList",
    "items": [
        {"id": "1", "labels": {"trashed": False, "starred": True}, "parents": [{"id": "p", "isRoot": False}]},
        {"id": "2", "title": "b"},
    ],
}


@pytest.mark.parametrize(
    ("mask", "left"),
    [
        ("kind", {"kind": "drive#fileList"}),
        ("items/id", {"items": [{"id": "1"}, {"id": "2"}]}),
        ("items(id,title)", {"items": [{"id": "1"}, {"id": "2", "title": "b"}]}),
        (" items ( id , title ) ", {"items": [{"id": "1"}, {"id": "2", "title": "b"}]}),
        ("items/labels/starred", {"items": [{"labels": {"starred": True}}, {}]}),
        ("items(parents/id),kind", {"kind": "drive#fileList", "items": [{"parents": [{"id": "p"}]}, {}]}),
        ("items/id,items/title", {"items": [{"id": "1"}, {"id": "2", "title": "b"}]}),
        ("items(labels/starred,labels/trashed)", {"items": [{"labels": DOCUMENT["items"][0]["labels"]}, {}]}),  # type: ignore[index]
        ("*", DOCUMENT),
        ("items/*", {"items": DOCUMENT["items"]}),
        ("items(*,labels/starred)", None),
    ],
)
def test_a_mask_leaves_what_it_names(mask: str, left: Any) -> None:
    read = parse_mask(mask)
    check_mask(read, "FileList", drive_v2())
    masked = apply_mask(read, DOCUMENT)
    if left is None:
        assert masked["items"][0]["labels"] == {"starred": True}
        assert masked["items"][1] == {"id": "2", "title": "b"}
    else:
        assert masked == left


@pytest.mark.parametrize(
    "mask",
    [
        "",
        ",",
        "a,",
        "items(",
        "items)",
        "items(id",
        "items(id))",
        "items()",
        "/id",
        "items/",
        "items id",
        "a;b",
    ],
)
def test_what_is_no_mask_is_refused(mask: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_mask(mask)
    assert (caught.value.status, caught.value.location) == (400, "fields")


@pytest.mark.parametrize("mask", ["files", "items/name", "items(id,labels/gone)", "nextPageToken/x"])
def test_a_field_that_is_not_in_the_document_is_refused(mask: str, alice: Speaker) -> None:
    with pytest.raises(Refusal):
        check_mask(parse_mask(mask), "FileList", drive_v2())
    refused = alice.call("GET", "files", fields=mask)
    assert (refused.status, refused.reason) == (400, "invalidParameter")


def test_the_api_answers_with_the_fields_that_are_asked_for(alice: Speaker) -> None:
    made = alice.insert("a.txt", b"x")
    path = f"files/{made['id']}"
    assert alice.call("GET", path, fields="id,title").json == {"id": made["id"], "title": "a.txt"}
    assert alice.call("GET", path, fields="id").headers["etag"] == made["etag"]
    listed = alice.call("GET", "files", fields="items(id,labels/trashed)").json
    assert listed == {"items": [{"id": made["id"], "labels": {"trashed": False}}]}
    patched = alice.call("PATCH", path, {"title": "b"}, fields="title").json
    assert patched == {"title": "b"}
    assert alice.multipart("POST", "files", {"title": "c"}, b"x", fields="title").json == {"title": "c"}
    everything = alice.call("GET", path, fields="*").json
    assert everything == alice.call("GET", path).json
