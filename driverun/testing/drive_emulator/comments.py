"""The methods of `comments` and `replies`.

A file's comments are remembered together, in the order in which they were written.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

from driverun.testing.drive_emulator.access import Role
from driverun.testing.drive_emulator.calls import Call, Reply
from driverun.testing.drive_emulator.files import Files
from driverun.testing.drive_emulator.records import FileRecord, milliseconds, rfc3339
from driverun.testing.drive_emulator.refusals import Refusal, invalid_value, not_permitted
from driverun.testing.drive_emulator.rendering import Sight
from driverun.testing.drive_emulator.state import State

Entry = dict[str, Any]
Entries = list[Entry]


class Comments:
    """What people say about a file, and what others say to that."""

    def __init__(self, state: State, files: Files) -> None:
        self._state = state
        self._files = files

    # Comments

    def list(self, call: Call) -> Reply:
        with self._state.lock:
            record = self._files.find(call, call.get("fileId"))
            since = call.get("updatedMin")
            found = [
                one
                for one in self._of(record)
                if (call.get("includeDeleted") or not one["deleted"])
                and (since is None or one["modified_at"] >= _time(since))
            ]
            sight = self._files.sight(call)
            return _page(call, "comment", [self._comment(record, one, sight, call) for one in found], sight)

    def get(self, call: Call) -> Reply:
        with self._state.lock:
            record = self._files.find(call, call.get("fileId"))
            return self._comment(record, self._find(call, record), self._files.sight(call), call)

    def insert(self, call: Call) -> Reply:
        with self._state.writing():
            record = self._files.find(call, call.get("fileId"), least=Role.COMMENTER)
            entry = {**self._new(call), "status": "open", "replies": []}
            entry["anchor"] = call.body.get("anchor")
            entry["context"] = call.body.get("context")
            self._save(record, [*self._of(record), entry])
            return self._comment(record, entry, self._files.sight(call), call)

    def update(self, call: Call) -> Reply:
        return self._change_comment(call, lambda entry: self._rewrite(call, entry))

    def delete(self, call: Call) -> Reply:
        self._change_comment(call, _erase)
        return None

    def _change_comment(self, call: Call, change: Callable[[Entry], Entry]) -> Entry:
        with self._state.writing():
            record = self._files.find(call, call.get("fileId"))
            old = self._find(call, record)
            self._check_author(call, record, old)
            new = change(old)
            self._save(record, [new if one is old else one for one in self._of(record)])
            return self._comment(record, new, self._files.sight(call), call)

    # Replies

    def list_replies(self, call: Call) -> Reply:
        with self._state.lock:
            comment = self._find(call, self._files.find(call, call.get("fileId")))
            sight = self._files.sight(call)
            wanted = [one for one in comment["replies"] if call.get("includeDeleted") or not one["deleted"]]
            return _page(call, "commentReply", [_reply(one, sight) for one in wanted], sight)

    def get_reply(self, call: Call) -> Reply:
        with self._state.lock:
            comment = self._find(call, self._files.find(call, call.get("fileId")))
            return _reply(self._find_reply(call, comment), self._files.sight(call))

    def insert_reply(self, call: Call) -> Reply:
        with self._state.writing():
            record = self._files.find(call, call.get("fileId"), least=Role.COMMENTER)
            comment = self._find(call, record)
            verb = call.body.get("verb")
            if verb not in (None, "resolve", "reopen"):
                raise invalid_value("verb")
            entry = {**self._new(call, may_be_empty=verb is not None), "verb": verb}
            status = {"resolve": "resolved", "reopen": "open"}.get(verb or "", comment["status"])
            changed = {**comment, "replies": [*comment["replies"], entry], "status": status}
            self._replace(record, comment, changed)
            return _reply(entry, self._files.sight(call))

    def update_reply(self, call: Call) -> Reply:
        return self._change_reply(call, lambda entry: self._rewrite(call, entry))

    def delete_reply(self, call: Call) -> Reply:
        self._change_reply(call, _erase)
        return None

    def _change_reply(self, call: Call, change: Callable[[Entry], Entry]) -> Entry:
        with self._state.writing():
            record = self._files.find(call, call.get("fileId"))
            comment = self._find(call, record)
            old = self._find_reply(call, comment)
            self._check_author(call, record, old)
            new = change(old)
            replies = [new if one is old else one for one in comment["replies"]]
            self._replace(record, comment, {**comment, "replies": replies})
            return _reply(new, self._files.sight(call))

    # What both need

    def _new(self, call: Call, *, may_be_empty: bool = False) -> Entry:
        content = call.body.get("content")
        if not content and not may_be_empty:
            raise Refusal(400, "required", "Required field: content", location="content")
        now = self._state.now_ms()
        return {
            "id": "AAAA" + self._state.new_word(8),
            "content": content or "",
            "author": call.account,
            "created_at": now,
            "modified_at": now,
            "deleted": False,
        }

    def _rewrite(self, call: Call, entry: Entry) -> Entry:
        content = call.body.get("content") or entry["content"]
        return {**entry, "content": content, "modified_at": self._state.now_ms()}

    def _of(self, record: FileRecord) -> Entries:
        found: Entries = self._state.entry("comments", record.id) or []
        return found

    def _save(self, record: FileRecord, entries: Entries) -> None:
        self._state.set_entry("comments", record.id, entries)

    def _replace(self, record: FileRecord, old: Entry, new: Entry) -> None:
        new = {**new, "modified_at": self._state.now_ms()}
        self._save(record, [new if one is old else one for one in self._of(record)])

    def _find(self, call: Call, record: FileRecord) -> Entry:
        return _find(self._of(record), call.get("commentId"), "Comment", call)

    def _find_reply(self, call: Call, comment: Entry) -> Entry:
        return _find(comment["replies"], call.get("replyId"), "Reply", call)

    def _check_author(self, call: Call, record: FileRecord, entry: Entry) -> None:
        if entry["author"] != call.account:
            raise not_permitted(record.id)

    def _comment(self, record: FileRecord, entry: Entry, sight: Sight, call: Call) -> Entry:
        shown = {
            **_said(entry, sight),
            "kind": "drive#comment",
            "selfLink": sight.link("files", record.id, "comments", entry["id"]),
            "commentId": entry["id"],
            "fileId": record.id,
            "fileTitle": record.title,
            "status": entry["status"],
            "replies": [
                _reply(one, sight)
                for one in entry["replies"]
                if call.get("includeDeleted") or not one["deleted"]
            ],
        }
        for name in ("anchor", "context"):
            if entry[name] is not None:
                shown[name] = entry[name]
        return shown


def _find(entries: Entries, wanted: str, kind: str, call: Call) -> Entry:
    may_be_gone = bool(call.get("includeDeleted"))
    for entry in entries:
        if entry["id"] == wanted and (may_be_gone or not entry["deleted"]):
            return entry
    raise Refusal(404, "notFound", f"{kind} not found: {wanted}", location=f"{kind.lower()}Id")


def _erase(entry: Entry) -> Entry:
    return {**entry, "deleted": True, "content": ""}


def _said(entry: Entry, sight: Sight) -> Entry:
    return {
        "content": entry["content"],
        "htmlContent": html.escape(entry["content"]),
        "author": sight.user(entry["author"]),
        "createdDate": rfc3339(entry["created_at"]),
        "modifiedDate": rfc3339(entry["modified_at"]),
        "deleted": entry["deleted"],
    }


def _reply(entry: Entry, sight: Sight) -> Entry:
    shown = {**_said(entry, sight), "kind": "drive#commentReply", "replyId": entry["id"]}
    return {**shown, "verb": entry["verb"]} if entry["verb"] is not None else shown


def _time(text: str) -> int:
    try:
        return milliseconds(text)
    except ValueError as exc:
        raise invalid_value("updatedMin") from exc


def _page(call: Call, kind: str, items: Entries, sight: Sight) -> Entry:
    token = call.get("pageToken") or "0"
    if not token.isdigit():
        raise invalid_value("pageToken")
    first, size = int(token), call.get("maxResults") or 20
    link = sight.link("files", call.get("fileId"), "comments")
    shown: Entry = {"kind": f"drive#{kind}List", "selfLink": link, "items": items[first : first + size]}
    if len(items) > first + size:
        shown["nextPageToken"] = str(first + size)
        shown["nextLink"] = f"{link}?pageToken={first + size}"
    return shown
