"""`files.list` and its kin: what is found, in which order, page by page."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from driverun.testing.drive_emulator.access import Role, has_found, permissions_on
from driverun.testing.drive_emulator.calls import Call, Reply
from driverun.testing.drive_emulator.files import Files
from driverun.testing.drive_emulator.query import (
    And,
    Expression,
    Membership,
    Not,
    Or,
    matches,
    parents_named,
    parents_required,
    parse_query,
)
from driverun.testing.drive_emulator.records import FileRecord
from driverun.testing.drive_emulator.refusals import Refusal, invalid_value, not_found
from driverun.testing.drive_emulator.rendering import Sight, file_resource
from driverun.testing.drive_emulator.state import State, View

#: So many at most come with one page, whatever is asked for (`maxResults` of the reference).
PAGE_LIMIT = 1000
#: Bytes of a text file that a search of its full text sees.
INDEXED_BYTES = 100_000


class Found:
    """A file as a search looks at it."""

    def __init__(self, record: FileRecord, sight: Sight) -> None:
        self._record = record
        self._sight = sight

    def text(self, term: str) -> str:
        record = self._record
        match term:
            case "title":
                return record.title
            case "mimeType":
                return record.mime_type
            case "shortcutDetails.targetId":
                return record.shortcut_target
            case "visibility":
                return self._visibility()
            case _:
                parts = [record.title, record.description, record.indexable_text, self._content()]
                return " ".join(parts)

    def _content(self) -> str:
        head = self._record.head
        if head is None or not (head.mime_type.startswith("text/") or self._record.is_google_document):
            return ""
        with self._sight.state.blobs.path_of(head.blob).open("rb") as stream:
            return stream.read(INDEXED_BYTES).decode("utf-8", errors="replace")

    def _visibility(self) -> str:
        found = "limited"
        for permission, _ in permissions_on(self._sight.view, self._record):
            if permission.type == "anyone":
                return "anyoneWithLink" if permission.with_link else "anyoneCanFind"
            if permission.type == "domain":
                found = "domainWithLink" if permission.with_link else "domainCanFind"
        return found

    def time_ms(self, term: str) -> int | None:
        record, account = self._record, self._sight.account
        match term:
            case "modifiedDate":
                return record.modified_at
            case "createdDate":
                return record.created_at
            case "lastViewedByMeDate":
                return dict(record.viewed_at).get(account)
            case _:
                return next((at for who, at, _ in record.shared_at if who == account), None)

    def flag(self, term: str) -> bool:
        match term:
            case "trashed":
                return self._sight.view.is_trashed(self._record)
            case "starred":
                return self._sight.account in self._record.starred_by
            case _:
                return any(who == self._sight.account for who, _, _ in self._record.shared_at)

    def number(self, term: str) -> int:
        raise KeyError(term)  # files have no terms with numbers

    def members(self, term: str) -> Collection[str]:
        if term == "parents":
            return self._record.parents
        if term == "owners":
            names = [self._record.owner] if self._record.owner else []
        else:
            lowest = ("owner", "organizer", "fileOrganizer", "writer") if term == "writers" else None
            names = [
                permission.value
                for permission, _ in permissions_on(self._sight.view, self._record)
                if lowest is None or permission.role in lowest
            ]
        return {*names, "me"} if self._sight.account in names else names

    def has_property(self, key: str, value: str, visibility: str) -> bool:
        return any(
            one.key == key
            and one.value == value
            and one.visibility == visibility
            and (visibility == "PUBLIC" or one.client == self._sight.client)
            for one in self._record.properties
        )


class Listing:
    """`files.list` and `children.list`."""

    def __init__(self, state: State, files: Files) -> None:
        self._state = state
        self._files = files

    def files(self, call: Call) -> Reply:
        with self._state.lock:
            view, _ = self._state.listing(call.stale_s)
            sight = self._files.sight(call, view)
            query = self._query(call)
            drive_id, with_drives = _corpora(call)
            if drive_id and drive_id not in self._state.drives:
                raise not_found(drive_id)
            found = self._found(call, sight, query, drive_id=drive_id, with_drives=with_drives)
            page, token = paged(found, call, _order(call.get("orderBy"), sight), limit=PAGE_LIMIT)
            shown: dict[str, Any] = {
                "kind": "drive#fileList",
                "etag": sight.etag("files", [(one.id, one.version) for one in page]),
                "selfLink": sight.link("files"),
                "incompleteSearch": False,
                "items": [file_resource(one, sight, call.wanted_in_items) for one in page],
            }
            if token:
                shown["nextPageToken"] = token
                shown["nextLink"] = f"{sight.link('files')}?pageToken={token}"
            return shown

    def children(self, call: Call) -> Reply:
        with self._state.lock:
            view, _ = self._state.listing(call.stale_s)
            sight = self._files.sight(call, view)
            folder = self._files.find(call, call.get("folderId"))
            query = self._query(call)
            found = [
                record
                for record in _in_folders(view, [folder.id])
                if sight.role(record) and (query is None or matches(query, Found(record, sight)))
            ]
            page, token = paged(found, call, _order(call.get("orderBy"), sight), limit=PAGE_LIMIT)
            link = sight.link("files", folder.id, "children")
            shown: dict[str, Any] = {
                "kind": "drive#childList",
                "etag": sight.etag("children", [one.id for one in page]),
                "selfLink": link,
                "items": [child_reference(folder.id, one.id, sight) for one in page],
            }
            if token:
                shown["nextPageToken"] = token
                shown["nextLink"] = f"{link}?pageToken={token}"
            return shown

    def _query(self, call: Call) -> Expression | None:
        text = call.get("q")
        if not text or not text.strip():
            return None
        query = parse_query(text)
        for name in parents_named(query):
            actual = self._files.resolve(name, call.account)
            record = self._state.current.files.get(actual)
            # Drive answers so, and without the id: kopia/kopia#90, rclone/rclone#3114.
            if record is None or not self._files.role(record, call.account):
                raise not_found(".")
            if actual != name:
                query = _with_parent(query, name, actual)
        return query

    def _found(
        self,
        call: Call,
        sight: Sight,
        query: Expression | None,
        *,
        drive_id: str,
        with_drives: bool,
    ) -> list[FileRecord]:
        spaces = {one.strip() for one in (call.get("spaces") or "drive").split(",")}
        if not spaces <= {"drive", "appDataFolder", "photos"}:
            raise invalid_value("spaces")
        folders = None if query is None else parents_required(query)
        if folders is None:
            candidates: Iterable[FileRecord] = sight.view.files.values()
        else:
            candidates = _in_folders(sight.view, folders)
            spaces |= {"appDataFolder"}
        found = []
        for record in candidates:
            if record.is_root or record.space not in spaces:
                continue
            if (record.drive_id != drive_id) if drive_id else (record.drive_id and not with_drives):
                continue
            if folders is None:
                if not has_found(sight.view, record, call.account):
                    continue
            elif sight.role(record) is Role.NONE:
                continue
            if query is None or matches(query, Found(record, sight)):
                found.append(record)
        return found


def _in_folders(view: View, folders: Iterable[str]) -> list[FileRecord]:
    return [view.files[one] for folder in folders for one in view.children.get(folder, ())]


def _corpora(call: Call) -> tuple[str, bool]:
    """Return the shared drive that is searched, if it is one, and whether shared drives are looked into."""
    corpora = call.get("corpora") or "default"
    if corpora not in ("default", "domain", "drive", "allDrives", "teamDrive", "allTeamDrives", "user"):
        raise invalid_value("corpora")
    includes = bool(call.get("includeItemsFromAllDrives") or call.get("includeTeamDriveItems"))
    drive_id = call.get("driveId") or call.get("teamDriveId") or ""
    if corpora in ("drive", "teamDrive") and not drive_id:
        raise Refusal(
            400,
            "required",
            "The driveId parameter must be specified if and only if corpora is set to drive.",
            location="driveId",
        )
    if drive_id and corpora not in ("drive", "teamDrive"):
        raise Refusal(
            400,
            "invalid",
            "The driveId parameter must be specified if and only if corpora is set to drive.",
            location="driveId",
        )
    if includes and not call.sees_shared_drives:
        raise Refusal(
            403,
            "teamDrivesNotSupported",
            "includeItemsFromAllDrives requires supportsAllDrives.",
            location="includeItemsFromAllDrives",
        )
    if corpora not in ("default", "domain", "user") and not includes:
        raise Refusal(
            403,
            "teamDriveItemsNotIncluded",
            "The corpora need includeItemsFromAllDrives.",
            location="includeItemsFromAllDrives",
        )
    return drive_id, includes


def _with_parent(query: Expression, alias: str, actual: str) -> Expression:
    match query:
        case And(left, right) | Or(left, right):
            return type(query)(_with_parent(left, alias, actual), _with_parent(right, alias, actual))
        case Not(inner):
            return Not(_with_parent(inner, alias, actual))
        case Membership(value, "parents") if value == alias:
            return replace(query, value=actual)
        case _:
            return query


def child_reference(folder_id: str, child_id: str, sight: Sight) -> dict[str, Any]:
    return {
        "kind": "drive#childReference",
        "id": child_id,
        "selfLink": sight.link("files", folder_id, "children", child_id),
        "childLink": sight.link("files", child_id),
    }


# Order and pages

Key = Callable[[FileRecord], list[Any]]
_NUMBERS = re.compile(r"(\d+)")


def _order(text: str | None, sight: Sight) -> Key:
    """Return the sort key of `orderBy`; what is equal in it comes by id, so that pages neither overlap nor
    leave out."""
    parts: list[tuple[Callable[[FileRecord], Any], bool]] = []
    for entry in (text or "modifiedDate desc").split(","):
        name, _, direction = entry.strip().partition(" ")
        if direction.strip() not in ("", "desc") or name not in _ORDERS.keys() | _PERSONAL_ORDERS.keys():
            raise invalid_value("orderBy")
        render = _ORDERS.get(name) or partial(_PERSONAL_ORDERS[name], sight.account)
        parts.append((render, direction.strip() == "desc"))

    def key(record: FileRecord) -> list[Any]:
        values: list[Any] = []
        for render, is_reversed in parts:
            value = render(record)
            values.append(_backwards(value) if is_reversed else value)
        return [*values, record.id]

    return key


def _backwards(value: Any) -> Any:
    if isinstance(value, str):
        return [-ord(character) for character in value] + [1]
    if isinstance(value, list):
        return [_backwards(one) for one in value]
    return -value


def _natural(title: str) -> list[Any]:
    parts = _NUMBERS.split(title.casefold())
    return [[1, int(part), ""] if part.isdigit() else [0, 0, part] for part in parts if part]


_ORDERS: Mapping[str, Callable[[FileRecord], Any]] = {
    "createdDate": lambda one: one.created_at,
    "folder": lambda one: 0 if one.is_folder else 1,
    "modifiedDate": lambda one: one.modified_at,
    "quotaBytesUsed": lambda one: one.quota_bytes,
    "title": lambda one: one.title.casefold(),
    "title_natural": lambda one: _natural(one.title),
}
#: Orders that depend on the account that asks.
_PERSONAL_ORDERS: Mapping[str, Callable[[str, FileRecord], Any]] = {
    "lastViewedByMeDate": lambda account, one: dict(one.viewed_at).get(account, 0),
    "modifiedByMeDate": lambda account, one: one.modified_at if one.modified_by == account else 0,
    "recency": lambda account, one: max(one.modified_at, one.created_at, dict(one.viewed_at).get(account, 0)),
    "sharedWithMeDate": lambda account, one: next((at for who, at, _ in one.shared_at if who == account), 0),
    "starred": lambda account, one: int(account in one.starred_by),
}


def paged(
    found: list[FileRecord], call: Call, key: Key, *, limit: int
) -> tuple[list[FileRecord], str | None]:
    """Return one page in order, and the token of the next; None: there is none.

    A token holds the last key of its page, so that what comes and goes meanwhile moves nothing else.
    """
    token = call.get("pageToken")
    asked = {name: call.get(name) for name in ("q", "orderBy", "corpora", "driveId", "folderId")}
    keyed = sorted((key(record), record.id) for record in found)
    if token:
        after = read_token(token, asked)
        keyed = [entry for entry in keyed if entry[0] > after]
    size = min(call.get("maxResults"), limit) or limit
    by_id = {record.id: record for record in found}
    page = [by_id[record_id] for _, record_id in keyed[:size]]
    more = len(keyed) > size
    return page, write_token(keyed[size - 1][0], asked) if more else None


def write_token(after: Any, asked: Any) -> str:
    text = json.dumps([after, asked], separators=(",", ":"))
    return "~!!~" + base64.urlsafe_b64encode(text.encode()).decode()


def read_token(token: str, asked: Any) -> Any:
    """Return where a page begins.

    Raises:
        Refusal: 400, the token is none, or of another question.
    """
    try:
        after, question = json.loads(base64.urlsafe_b64decode(token.removeprefix("~!!~")))
    except ValueError as exc:
        raise invalid_value("pageToken") from exc
    if question != asked:
        raise invalid_value("pageToken")
    return after
