"""The language of `q`: what is read, what is refused, what is found."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import pytest

from driverun.testing.drive_emulator.query import (
    And,
    Comparison,
    Has,
    Membership,
    Not,
    Or,
    matches,
    parents_named,
    parents_required,
    parse_query,
)
from driverun.testing.drive_emulator.refusals import Refusal
from tests.drive_emulator.speaking import Speaker


@dataclass(kw_only=True)
class Item:
    """Something to search for."""

    texts: dict[str, str] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)
    lists: dict[str, list[str]] = field(default_factory=dict)
    properties: set[tuple[str, str, str]] = field(default_factory=set)

    def text(self, term: str) -> str:
        return self.texts.get(term, "")

    def time_ms(self, term: str) -> int | None:
        return self.times.get(term)

    def flag(self, term: str) -> bool:
        return term in self.flags

    def number(self, term: str) -> int:
        return 3

    def members(self, term: str) -> Collection[str]:
        return self.lists.get(term, [])

    def has_property(self, key: str, value: str, visibility: str) -> bool:
        return (key, value, visibility) in self.properties


ITEM = Item(
    texts={
        "title": "HelloWorld final_report (2).txt",
        "mimeType": "text/plain",
        "fullText": "the quick brown fox",
        "visibility": "limited",
    },
    times={"modifiedDate": 1_767_225_600_000},  # 2026-01-01T00:00:00Z
    flags={"starred"},
    lists={"parents": ["folder"], "owners": ["me", "alice@example.com"]},
    properties={("k", "v", "PUBLIC"), ("p", "it's", "PRIVATE")},
)


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("title = 'helloworld FINAL_report (2).txt'", True),  # equality does not see upper case
        ("title = 'hello'", False),
        ("title != 'hello'", True),
        ("title contains 'hello'", True),
        ("title contains 'world'", False),  # only the beginnings of words
        ("title contains 'final'", True),
        ("title contains 'report'", True),
        ("mimeType = 'text/plain'", True),
        ("mimeType contains 'text/'", True),
        ("mimeType contains 'plain'", False),
        ("fullText contains 'quick fox'", True),
        ("fullText contains 'slow'", False),
        ("modifiedDate = '2026-01-01T00:00:00'", True),  # the default zone is UTC
        ("modifiedDate > '2025-12-31T23:59:59.999Z'", True),
        ("modifiedDate >= '2026-01-01T01:00:00+01:00'", True),
        ("modifiedDate < '2026-01-01T00:00:00Z'", False),
        ("modifiedDate <= '2026-01-01'", True),
        ("lastViewedByMeDate > '2000-01-01T00:00:00'", False),
        ("trashed = false", True),
        ("trashed=true", False),
        ("trashed != true", True),
        ("starred = true", True),
        ("sharedWithMe = true", False),
        ("visibility = 'limited'", True),
        ("'folder' in parents", True),
        ("'other' in parents", False),
        ("not 'other' in parents", True),
        ("'me' in owners", True),
        ("'alice@example.com' in owners", True),
        ("'bob@example.com' in writers", False),
        ("properties has { key='k' and value='v' and visibility='PUBLIC' }", True),
        ("properties has {key='k' and value='v'}", False),  # private is the default
        (r"properties has { key='p' and value='it\'s' and visibility='PRIVATE' }", True),
        ("starred = true and trashed = true or 'folder' in parents", True),  # from left to right
        ("'folder' in parents or starred = true and trashed = true", False),
        ("'folder' in parents or (starred = true and trashed = true)", True),
        ("not (starred = true and trashed = true)", True),
        ("not not starred = true", True),
        ('title contains "hello"', True),
        ("STARRED = true", None),
        ("starred = TRUE AND NOT trashed = TRUE", True),
    ],
)
def test_a_query_finds_what_it_says(text: str, is_found: bool | None) -> None:
    if is_found is None:
        with pytest.raises(Refusal):
            parse_query(text)
    else:
        assert matches(parse_query(text), ITEM) is is_found


@pytest.mark.parametrize(
    "text",
    [
        "name = 'v3 calls it so'",
        "title",
        "title = ",
        "title = hello",
        "title = 'hello",
        "title > 'a'",
        "title in 'a'",
        "'a' in title",
        "'a' in",
        "trashed",
        "trashed = maybe",
        "trashed contains true",
        "modifiedDate = 'yesterday'",
        "modifiedDate contains '2026'",
        "fullText = 'a'",
        "(title = 'a'",
        "title = 'a')",
        "title = 'a' title = 'b'",
        "title = 'a' and",
        "and title = 'a'",
        "not",
        "properties has { key='k' }",
        "properties has { value='v' }",
        "properties has { name='k' and value='v' }",
        "properties has { key='k' and value='v'",
        "properties = 'k'",
        "title = 'a' & trashed = false",
        "appProperties has { key='k' and value='v' }",
    ],
)
def test_what_is_no_query_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_query(text)
    assert (caught.value.status, caught.value.reason, caught.value.location) == (400, "invalid", "q")


def test_a_query_is_read_into_its_parts() -> None:
    assert parse_query("not 'a' in parents and title = 'b' or trashed = true") == Or(
        And(Not(Membership("a", "parents")), Comparison("title", "=", "b")),
        Comparison("trashed", "=", True),
    )
    assert parse_query("properties has {key='k' and value='v'}") == Has("k", "v", "PRIVATE")
    assert parse_query(r"title = 'a \\ b \' c'") == Comparison("title", "=", r"a \ b ' c")


@pytest.mark.parametrize(
    ("text", "named", "required"),
    [
        ("trashed = false", set(), None),
        ("'a' in parents and trashed = false", {"a"}, {"a"}),
        ("('a' in parents or 'b' in parents) and trashed = false", {"a", "b"}, {"a", "b"}),
        ("'a' in parents or trashed = false", {"a"}, None),
        ("not 'a' in parents", {"a"}, None),
        ("('a' in parents or 'b' in parents) and 'a' in parents", {"a", "b"}, {"a"}),
    ],
)
def test_the_folders_of_a_query_are_known(text: str, named: set[str], required: set[str] | None) -> None:
    query = parse_query(text)
    assert parents_named(query) == named
    assert parents_required(query) == required


def test_shared_drives_have_terms_of_their_own() -> None:
    assert matches(parse_query("name contains 'hel' or memberCount = 3", search="drives"), ITEM)
    assert not matches(parse_query("memberCount > 3", search="drives"), ITEM)
    with pytest.raises(Refusal):
        parse_query("title = 'a'", search="drives")
    with pytest.raises(Refusal):
        parse_query("memberCount = 'many'", search="drives")


def test_a_search_finds_files_by_what_they_are(alice: Speaker, bob: Speaker) -> None:
    folder = alice.folder("docs")
    inner = alice.insert(
        "plan.txt",
        b"buy milk",
        parents=[{"id": folder["id"]}],
        labels={"starred": True},
        properties=[{"key": "k", "value": "v", "visibility": "PUBLIC"}],
    )
    alice.insert("other.bin", b"x", mimeType="application/octet-stream")
    shared = bob.insert("of bob", b"x")
    bob.call(
        "POST",
        f"files/{shared['id']}/permissions",
        {"type": "user", "role": "writer", "value": "alice@example.com"},
    )
    link = alice.insert(
        "link",
        None,
        mimeType="application/vnd.google-apps.shortcut",
        shortcutDetails={"targetId": inner["id"]},
    )

    def found(query: str) -> set[str]:
        return {one["title"] for one in alice.call("GET", "files", q=query).json["items"]}

    assert found(f"'{folder['id']}' in parents") == {"plan.txt"}
    assert found("'root' in parents") == {"docs", "other.bin", "link"}
    assert found("starred = true") == {"plan.txt"}
    assert found("fullText contains 'milk'") == {"plan.txt"}
    assert found("properties has { key='k' and value='v' and visibility='PUBLIC' }") == {"plan.txt"}
    assert found("sharedWithMe = true") == {"of bob"}
    assert found("'bob@example.com' in owners") == {"of bob"}
    assert found("'me' in owners and mimeType = 'application/octet-stream'") == {"other.bin"}
    assert found("'me' in writers and not 'me' in owners") == {"of bob"}
    assert found(f"shortcutDetails.targetId = '{inner['id']}'") == {link["title"]}
    alice.call("POST", f"files/{folder['id']}/trash")
    assert found("trashed = true") == {"docs", "plan.txt"}  # what is in the folder, too
