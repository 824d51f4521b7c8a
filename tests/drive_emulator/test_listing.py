"""Listings: order, pages, lag, and what is looked into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator, Fault
from tests.drive_emulator.conftest import CheckedEmulator
from tests.drive_emulator.speaking import Speaker


def titles(speaker: Speaker, **query: Any) -> list[str]:
    found = speaker.call("GET", "files", **query)
    assert found.status == 200, found
    return [one["title"] for one in found.json["items"]]


def pages(speaker: Speaker, **query: Any) -> list[list[str]]:
    found: list[list[str]] = []
    token: dict[str, str] = {}
    while True:
        page = speaker.call("GET", "files", **query, **token).json
        found.append([one["title"] for one in page["items"]])
        if "nextPageToken" not in page:
            return found
        token = {"pageToken": page["nextPageToken"]}


@pytest.fixture
def shelf(alice: Speaker, clock: FakeClock) -> Speaker:
    """Alice, with `b10`, `B9`, a folder `c`, and `a` of three bytes, made in this order."""
    for title, content in (("b10", b"1"), ("B9", b"22"), ("c", None), ("a", b"333")):
        clock.advance(seconds=1)
        if content is None:
            alice.folder(title)
        else:
            alice.insert(title, content)
    return alice


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (None, ["a", "c", "B9", "b10"]),  # the newest first
        ("title", ["a", "b10", "B9", "c"]),
        ("title desc", ["c", "B9", "b10", "a"]),
        ("title_natural", ["a", "B9", "b10", "c"]),
        ("folder,title", ["c", "a", "b10", "B9"]),
        ("folder desc,quotaBytesUsed desc", ["a", "B9", "b10", "c"]),
        ("createdDate", ["b10", "B9", "c", "a"]),
        ("modifiedDate desc", ["a", "c", "B9", "b10"]),
        ("recency", ["b10", "B9", "c", "a"]),
        ("modifiedByMeDate desc", ["a", "c", "B9", "b10"]),
    ],
)
def test_a_listing_has_the_order_that_is_asked_for(shelf: Speaker, order: str | None, expected: Any) -> None:
    assert titles(shelf, **({} if order is None else {"orderBy": order})) == expected
    together = pages(shelf, maxResults=3, **({} if order is None else {"orderBy": order}))
    assert together == [expected[:3], expected[3:]]


def test_pages_neither_overlap_nor_leave_out_while_files_come_and_go(
    shelf: Speaker, emulator: DriveEmulator
) -> None:
    first = shelf.call("GET", "files", orderBy="title", maxResults=2).json
    assert [one["title"] for one in first["items"]] == ["a", "b10"]
    shelf.call("DELETE", f"files/{first['items'][0]['id']}")
    shelf.insert("aa")
    query = {"orderBy": "title", "pageToken": first["nextPageToken"]}
    assert titles(shelf, **query) == ["B9", "c"]
    other = shelf.call("GET", "files", orderBy="title desc", pageToken=first["nextPageToken"])
    assert (other.status, other.json["error"]["errors"][0]["location"]) == (400, "pageToken")


def test_a_listing_lags_behind_and_a_get_does_not(
    alice: Speaker, clock: FakeClock, emulator: DriveEmulator
) -> None:
    emulator.settings.listing_lag_s = 30
    made = alice.insert("new")
    path = f"files/{made['id']}"
    assert titles(alice) == []
    assert alice.call("GET", path).status == 200
    clock.advance(seconds=29)
    alice.call("PATCH", path, {"title": "renamed"})
    clock.advance(seconds=1)
    assert titles(alice) == ["new"]
    assert alice.call("GET", path).json["title"] == "renamed"
    clock.advance(seconds=29)
    assert titles(alice) == ["renamed"]
    alice.call("POST", f"{path}/trash")
    assert titles(alice, q="trashed = false") == ["renamed"]
    clock.advance(seconds=30)
    assert titles(alice, q="trashed = false") == []
    alice.call("DELETE", path)
    assert titles(alice) == ["renamed"]
    emulator.settings.listing_lag_s = 0
    assert titles(alice) == []


def test_a_new_folder_is_empty_in_a_lagging_listing_and_not_missing(
    alice: Speaker, emulator: DriveEmulator, clock: FakeClock
) -> None:
    emulator.settings.listing_lag_s = 10
    folder = alice.folder()
    alice.insert("a", parents=[{"id": folder["id"]}])
    assert titles(alice, q=f"'{folder['id']}' in parents") == []
    clock.advance(seconds=10)
    assert titles(alice, q=f"'{folder['id']}' in parents") == ["a"]
    assert alice.call("GET", "files", q="'nowhere' in parents").status == 404


def test_changes_lag_as_listings_do(alice: Speaker, clock: FakeClock, emulator: DriveEmulator) -> None:
    emulator.settings.listing_lag_s = 5
    start = alice.call("GET", "changes/startPageToken").json["startPageToken"]
    alice.insert("a")
    assert alice.call("GET", "changes", pageToken=start).json["items"] == []
    clock.advance(seconds=5)
    found = alice.call("GET", "changes", pageToken=start).json
    assert [one["file"]["title"] for one in found["items"]] == ["a"]
    assert found["newStartPageToken"] == str(int(start) + 1)


def test_what_listings_show_survives_a_restart(
    start: Callable[..., CheckedEmulator], clock: FakeClock
) -> None:
    first = start()
    alice = Speaker(first.url)
    kept, gone = alice.insert("kept"), alice.insert("gone")
    first.settings.listing_lag_s = 10
    alice.call("PATCH", f"files/{kept['id']}", {"title": "renamed"})
    alice.call("PATCH", f"files/{kept['id']}", {"title": "renamed again"})
    alice.call("DELETE", f"files/{gone['id']}")
    alice.insert("new")
    token = alice.call("GET", "changes/startPageToken").json
    alice.close()
    first.close()
    second = start(settings=first.settings)
    again = Speaker(second.url)
    assert sorted(titles(again)) == ["gone", "kept"]
    assert again.call("GET", "changes/startPageToken").json == token
    assert again.call("GET", f"files/{kept['id']}").json["title"] == "renamed again"
    clock.advance(seconds=10)
    assert sorted(titles(again)) == ["new", "renamed again"]
    again.close()


def test_what_anyone_may_see_is_in_nobodys_listing(alice: Speaker, bob: Speaker) -> None:
    made = alice.insert("open")
    body = {"type": "anyone", "role": "reader", "withLink": True}
    alice.call("POST", f"files/{made['id']}/permissions", body)
    assert bob.call("GET", f"files/{made['id']}").json["title"] == "open"
    assert titles(bob) == []


def test_children_of_a_folder(alice: Speaker) -> None:
    folder = alice.folder()
    one, two = (alice.insert(name, parents=[{"id": folder["id"]}]) for name in "ab")
    path = f"files/{folder['id']}/children"
    page = alice.call("GET", path, orderBy="title", maxResults=1).json
    assert [child["id"] for child in page["items"]] == [one["id"]]
    rest = alice.call("GET", path, orderBy="title", pageToken=page["nextPageToken"]).json
    assert [child["id"] for child in rest["items"]] == [two["id"]]
    assert alice.call("GET", path, q="title = 'b'").json["items"][0]["id"] == two["id"]
    assert alice.call("GET", f"{path}/{one['id']}").json["id"] == one["id"]
    assert alice.call("GET", f"{path}/{folder['id']}").status == 404
    assert alice.call("POST", path, {"id": one["id"]}).status == 200  # it is there already
    assert alice.call("DELETE", f"{path}/{one['id']}").reason == "cannotRemoveParent"


def test_the_folder_of_an_application_is_apart(alice: Speaker) -> None:
    alice.insert("hidden", parents=[{"id": "appDataFolder"}])
    assert titles(alice) == []
    assert titles(alice, spaces="appDataFolder") == ["hidden"]
    assert titles(alice, q="'appDataFolder' in parents") == ["hidden"]


def test_one_listing_may_be_stale(alice: Speaker, emulator: DriveEmulator, clock: FakeClock) -> None:
    folder = alice.folder()
    old, gone, moved = (alice.insert(name) for name in ("old", "gone", "moved"))
    clock.advance(seconds=60)
    newest = alice.call("GET", "changes/startPageToken").json
    alice.insert("new")
    alice.call("PATCH", f"files/{old['id']}", {"title": "renamed"})
    alice.call("DELETE", f"files/{gone['id']}")
    alice.call("PATCH", f"files/{moved['id']}", {"parents": [{"id": folder["id"]}]})
    inside = f"'{folder['id']}' in parents"
    fresh = alice.call("GET", "changes/startPageToken").json["startPageToken"]
    emulator.faults.add(Fault(kind="stale", seconds=30, times=5))
    assert alice.call("GET", f"files/{gone['id']}").status == 404  # a get is never stale
    assert sorted(titles(alice)) == ["folder", "gone", "moved", "old"]
    assert titles(alice, q=inside) == []
    assert alice.call("GET", "changes/startPageToken").json == newest
    assert alice.call("GET", "changes", pageToken=newest["startPageToken"]).json["items"] == []
    assert alice.call("GET", "changes", pageToken=fresh).json["newStartPageToken"] == fresh
    assert sorted(titles(alice)) == ["folder", "moved", "new", "renamed"]
    assert titles(alice, q=inside) == ["moved"]
