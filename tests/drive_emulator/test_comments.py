"""Comments and replies."""

from __future__ import annotations

from driverun.testing.clock import FakeClock
from tests.drive_emulator.speaking import Speaker


def test_people_talk_about_a_file(alice: Speaker, bob: Speaker, clock: FakeClock) -> None:
    made = alice.insert("plan <b>")
    path = f"files/{made['id']}/comments"
    assert bob.call("POST", path, {"content": "?"}).status == 404
    body = {"type": "user", "value": "bob@example.com", "role": "reader", "additionalRoles": ["commenter"]}
    alice.call("POST", f"files/{made['id']}/permissions", body)
    first = bob.call(
        "POST", path, {"content": "1 < 2?", "context": {"type": "text/plain", "value": "x"}}
    ).json
    assert first["htmlContent"] == "1 &lt; 2?"
    assert (first["author"]["displayName"], first["status"]) == ("bob", "open")
    clock.advance(seconds=1)
    replies = f"{path}/{first['commentId']}/replies"
    one = alice.call("POST", replies, {"content": "yes", "verb": "resolve"}).json
    assert alice.call("GET", f"{path}/{first['commentId']}").json["status"] == "resolved"
    bob.call("POST", replies, {"verb": "reopen"})
    found = bob.call("GET", path).json["items"]
    assert [reply["content"] for reply in found[0]["replies"]] == ["yes", ""]
    assert found[0]["status"] == "open"
    assert alice.call("PATCH", f"{replies}/{one['replyId']}", {"content": "no"}).json["content"] == "no"
    assert bob.call("PATCH", f"{replies}/{one['replyId']}", {"content": "!"}).status == 403
    assert alice.call("DELETE", f"{replies}/{one['replyId']}").status == 204
    assert alice.call("GET", f"{replies}/{one['replyId']}").status == 404
    assert len(bob.call("GET", replies).json["items"]) == 1
    assert len(bob.call("GET", replies, includeDeleted=True).json["items"]) == 2


def test_comments_come_in_pages_and_since_a_time(alice: Speaker, clock: FakeClock) -> None:
    made = alice.insert()
    path = f"files/{made['id']}/comments"
    for text in "abc":
        alice.call("POST", path, {"content": text})
        clock.advance(seconds=1)
    page = alice.call("GET", path, maxResults=2).json
    rest = alice.call("GET", path, maxResults=2, pageToken=page["nextPageToken"]).json
    assert [one["content"] for one in page["items"] + rest["items"]] == ["a", "b", "c"]
    late = alice.call("GET", path, updatedMin="2026-01-01T00:00:02Z").json["items"]
    assert [one["content"] for one in late] == ["c"]
    gone = page["items"][0]["commentId"]
    assert alice.call("PUT", f"{path}/{gone}", {"content": "A"}).json["content"] == "A"
    assert alice.call("DELETE", f"{path}/{gone}").status == 204
    assert alice.call("GET", f"{path}/{gone}").status == 404
    assert alice.call("GET", f"{path}/{gone}", includeDeleted=True).json["content"] == ""
    assert alice.call("POST", path, {}).reason == "required"
    assert alice.call("GET", path, updatedMin="then").status == 400
    replies = f"{path}/{rest['items'][0]['commentId']}/replies"
    assert alice.call("POST", replies, {"content": "x", "verb": "shout"}).status == 400
