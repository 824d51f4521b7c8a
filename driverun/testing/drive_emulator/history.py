"""The methods of `changes`, `revisions` and `about`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from driverun.testing.drive_emulator.access import Role, is_service_account
from driverun.testing.drive_emulator.calls import Call, Reply
from driverun.testing.drive_emulator.exporting import EXPORTS, IMPORTS
from driverun.testing.drive_emulator.files import Files
from driverun.testing.drive_emulator.records import ChangeRecord, FileRecord, Revision
from driverun.testing.drive_emulator.refusals import Refusal, invalid_value, not_found, not_permitted
from driverun.testing.drive_emulator.rendering import (
    Sight,
    change_resource,
    revision_resource,
)
from driverun.testing.drive_emulator.settings import EmulatorSettings
from driverun.testing.drive_emulator.state import State


class Changes:
    """The change log. It lags as listings do, and shows each file once, at its newest change."""

    def __init__(self, state: State, files: Files) -> None:
        self._state = state
        self._files = files

    def start_page_token(self, call: Call) -> Reply:
        with self._state.lock:
            self._check_drive(call)
            return {"kind": "drive#startPageToken", "startPageToken": str(self._newest(call)[1] + 1)}

    def list(self, call: Call) -> Reply:
        with self._state.lock:
            sight, newest = self._newest(call)
            self._check_drive(call)
            token = call.get("pageToken") or call.get("startChangeId") or "1"
            first = _change_number(token, len(self._state.changes))
            size = min(call.get("maxResults"), 1000)
            latest = {_subject(change): change.id for change in self._state.changes[first - 1 : newest]}
            items: list[dict[str, Any]] = []
            at = first
            while at <= newest and len(items) < size:
                change = self._state.changes[at - 1]
                at += 1
                if latest[_subject(change)] == change.id and self._is_shown(change, call, sight):
                    items.append(self._resource(change, sight))
            shown: dict[str, Any] = {
                "kind": "drive#changeList",
                "etag": sight.etag("changes", first, newest),
                "selfLink": sight.link("changes"),
                "largestChangeId": str(newest),
                "items": items,
            }
            if at <= newest:
                shown["nextPageToken"] = str(at)
                shown["nextLink"] = f"{sight.link('changes')}?pageToken={at}"
            else:
                # Never behind the token that was given, even where listings have fallen behind it.
                shown["newStartPageToken"] = str(max(first, newest + 1))
            return shown

    def get(self, call: Call) -> Reply:
        with self._state.lock:
            sight, newest = self._newest(call)
            number = call.get("changeId")
            if not number.isdigit() or not 1 <= int(number) <= newest:
                raise Refusal(404, "notFound", f"Change not found: {number}", location="changeId")
            return self._resource(self._state.changes[int(number) - 1], sight)

    def _newest(self, call: Call) -> tuple[Sight, int]:
        view, newest = self._state.listing(call.stale_s)
        return self._files.sight(call, view), newest

    def _check_drive(self, call: Call) -> None:
        drive_id = call.get("driveId") or call.get("teamDriveId")
        if drive_id:
            root = self._state.current.files.get(drive_id)
            if root is None or not self._files.role(root, call.account):
                raise not_found(drive_id)

    def _is_shown(self, change: ChangeRecord, call: Call, sight: Sight) -> bool:
        drive_id = call.get("driveId") or call.get("teamDriveId") or ""
        if drive_id:
            if change.drive_id != drive_id:
                return False
        elif change.drive_id and not (
            call.get("includeItemsFromAllDrives") or call.get("includeTeamDriveItems")
        ):
            return False
        if change.is_removed:
            return bool(call.get("includeDeleted")) and bool({call.account, "*"} & set(change.audience))
        record = sight.view.files.get(change.drive_id if change.is_drive else change.file_id)
        if record is None or (
            record.space == "appDataFolder" and "appData" not in (call.get("spaces") or "")
        ):
            return False
        return sight.role(record) is not Role.NONE

    def _resource(self, change: ChangeRecord, sight: Sight) -> dict[str, Any]:
        record = sight.view.files.get(change.file_id)
        drive = self._state.drives.get(change.drive_id) if change.is_drive else None
        return change_resource(change, record, drive, sight)


def _subject(change: ChangeRecord) -> str:
    return change.file_id or change.drive_id


def _change_number(token: str, newest: int) -> int:
    if not token.isdigit() or not 1 <= int(token) <= newest + 1:
        raise invalid_value("pageToken")
    return int(token)


class Revisions:
    """The contents that a file has had."""

    def __init__(self, state: State, files: Files) -> None:
        self._state = state
        self._files = files

    def list(self, call: Call) -> Reply:
        with self._state.lock:
            record = self._file(call)
            sight = self._files.sight(call)
            first = int(call.get("pageToken") or 0)
            size = call.get("maxResults")
            shown: dict[str, Any] = {
                "kind": "drive#revisionList",
                "etag": sight.etag("revisions", record.id, record.version),
                "selfLink": sight.link("files", record.id, "revisions"),
                "items": [
                    revision_resource(record, one, sight) for one in record.revisions[first : first + size]
                ],
            }
            if len(record.revisions) > first + size:
                shown["nextPageToken"] = str(first + size)
            return shown

    def get(self, call: Call) -> Reply:
        with self._state.lock:
            record = self._file(call)
            return revision_resource(record, self._revision(call, record), self._files.sight(call))

    def update(self, call: Call) -> Reply:
        with self._state.writing():
            record = self._file(call)
            revision = self._revision(call, record)
            if call.body.get("pinned") is not None:
                changed = replace(revision, is_pinned=call.body["pinned"])
                pinned = sum(one.is_pinned for one in record.revisions)
                if changed.is_pinned and pinned >= 200:
                    raise Refusal(
                        403, "pinnedRevisionsLimitExceeded", "A file has at most 200 pinned revisions."
                    )
                swapped = tuple(changed if one is revision else one for one in record.revisions)
                record = self._state.put_file(replace(record, revisions=swapped))
                revision = changed
            return revision_resource(record, revision, self._files.sight(call))

    def delete(self, call: Call) -> Reply:
        with self._state.writing():
            record = self._file(call)
            revision = self._revision(call, record)
            if not record.has_content:
                raise Refusal(
                    403, "revisionDeletionNotSupported", "Revisions of this file cannot be deleted."
                )
            if len(record.revisions) == 1:
                raise Refusal(400, "cannotDeleteOnlyRevision", "The last revision cannot be deleted.")
            kept = tuple(one for one in record.revisions if one is not revision)
            self._state.put_file(replace(record, revisions=kept))
            return None

    def _file(self, call: Call) -> FileRecord:
        record = self._files.find(call, call.get("fileId"))
        if self._files.role(record, call.account) < Role.WRITER:
            raise not_permitted(record.id)
        if not record.revisions:
            raise Refusal(403, "revisionsNotSupported", "The file does not support revisions.")
        return record

    def _revision(self, call: Call, record: FileRecord) -> Revision:
        wanted = call.get("revisionId")
        for revision in record.revisions:
            if revision.id == wanted or (wanted == "head" and revision is record.revisions[-1]):
                return revision
        raise Refusal(404, "notFound", f"Revision not found: {wanted}", location="revisionId")


class About:
    """What an account learns of itself."""

    def __init__(self, state: State, files: Files, settings: EmulatorSettings) -> None:
        self._state = state
        self._files = files
        self._settings = settings

    def get(self, call: Call) -> Reply:
        with self._state.lock:
            sight, account = self._files.sight(call), call.account
            root = self._state.root_of(account)
            used = self._state.usage.get(account, 0)
            trashed = sum(
                one.quota_bytes
                for one in self._state.current.files.values()
                if one.owner == account and self._state.current.is_trashed(one)
            )
            newest = self._state.settle()
            limit = 0 if is_service_account(account) else int(self._settings.quota_gb * 1e9)
            has_limit = limit > 0 or is_service_account(account)
            shown: dict[str, Any] = {
                "kind": "drive#about",
                "etag": sight.etag("about", account, newest, used),
                "selfLink": sight.link("about"),
                "name": account.partition("@")[0],
                "user": sight.user(account),
                "quotaBytesUsed": str(used),
                "quotaBytesUsedAggregate": str(used),
                "quotaBytesUsedInTrash": str(trashed),
                "quotaType": "LIMITED" if has_limit else "UNLIMITED",
                "quotaBytesByService": [
                    {"serviceName": "DRIVE", "bytesUsed": str(used)},
                    {"serviceName": "GMAIL", "bytesUsed": "0"},
                    {"serviceName": "PHOTOS", "bytesUsed": "0"},
                ],
                "largestChangeId": str(newest),
                "rootFolderId": root.id,
                "domainSharingPolicy": "allowed",
                "permissionId": self._state.permission_id(account),
                "importFormats": [
                    {"source": source, "targets": [target]} for source, target in IMPORTS.items()
                ],
                "exportFormats": [
                    {"source": source, "targets": list(targets)} for source, targets in EXPORTS.items()
                ],
                "maxUploadSizes": [{"type": "*", "size": "5497558138880"}],
                "isCurrentAppInstalled": False,
                "languageCode": "en",
                "folderColorPalette": ["#ac725e", "#d06b64", "#4986e7"],
                "driveThemes": [],
                "teamDriveThemes": [],
                "canCreateDrives": not is_service_account(account),
                "canCreateTeamDrives": not is_service_account(account),
            }
            if has_limit:
                shown["quotaBytesTotal"] = str(limit)
            if call.get("startChangeId"):
                left = max(0, newest - int(call.get("startChangeId")))
                shown["remainingChangeIds"] = str(min(2500, left))
            return shown
