"""The methods of `drives`, and of `teamdrives`, which is the old name of the same."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from driverun.testing.drive_emulator.access import Role, is_service_account
from driverun.testing.drive_emulator.calls import Call, Reply
from driverun.testing.drive_emulator.files import Files
from driverun.testing.drive_emulator.query import matches, parse_query
from driverun.testing.drive_emulator.records import FOLDER, DriveRecord, FileRecord, Permission
from driverun.testing.drive_emulator.refusals import Refusal, invalid_value
from driverun.testing.drive_emulator.rendering import Sight, drive_resource, team_drive_resource
from driverun.testing.drive_emulator.state import State


class FoundDrive:
    """A shared drive as a search looks at it."""

    def __init__(self, drive: DriveRecord, root: FileRecord, account: str) -> None:
        self._drive = drive
        self._root = root
        self._account = account

    def text(self, term: str) -> str:
        return self._drive.name if term == "name" else ""

    def time_ms(self, term: str) -> int | None:
        return self._drive.created_at if term == "createdDate" else None

    def flag(self, term: str) -> bool:
        return term == "hidden" and self._account in self._drive.hidden_by

    def number(self, term: str) -> int:
        of_all = term == "memberCount"
        return sum(of_all or one.role == "organizer" for one in self._root.permissions)

    def members(self, term: str) -> Collection[str]:
        raise KeyError(term)  # shared drives have no terms with members

    def has_property(self, key: str, value: str, visibility: str) -> bool:
        raise KeyError((key, value, visibility))  # nor properties


class Drives:
    """Shared drives, under one of their two names."""

    def __init__(self, state: State, files: Files, *, old_name: bool) -> None:
        self._state = state
        self._files = files
        self._kind = "teamDrive" if old_name else "drive"
        self._render: Callable[[DriveRecord, Sight], dict[str, Any]] = (
            team_drive_resource if old_name else drive_resource
        )

    def list(self, call: Call) -> Reply:
        with self._state.lock:
            text = call.get("q")
            query = parse_query(text, search="drives") if text and text.strip() else None
            found = [
                drive
                for _, drive in sorted(self._state.drives.items())
                if self._role(call, drive)
                and (query is None or matches(query, FoundDrive(drive, self._root(drive), call.account)))
            ]
            token = call.get("pageToken") or "0"
            if not token.isdigit():
                raise invalid_value("pageToken")
            first, size = int(token), call.get("maxResults")
            sight = self._files.sight(call)
            shown: dict[str, Any] = {
                "kind": f"drive#{self._kind}List",
                "items": [self._render(one, sight) for one in found[first : first + size]],
            }
            if len(found) > first + size:
                shown["nextPageToken"] = str(first + size)
            return shown

    def get(self, call: Call) -> Reply:
        with self._state.lock:
            return self._render(self._find(call), self._files.sight(call))

    def insert(self, call: Call) -> Reply:
        with self._state.writing():
            if is_service_account(call.account):
                raise Refusal(
                    403, "userCannotCreateTeamDrives", "The user does not have permission to create drives."
                )
            name = call.body.get("name")
            if not name:
                raise Refusal(400, "required", "Required field: name", location="name")
            request_id = call.get("requestId")
            for drive in self._state.drives.values():
                if (drive.request_id, drive.created_by) == (request_id, call.account):
                    raise Refusal(409, "duplicate", "A shared drive was made of this request before.")
            now = self._state.now_ms()
            drive_id = "0A" + self._state.new_word(15) + "Uk9PVA"
            organizer = Permission(
                id=self._state.permission_id(call.account), type="user", role="organizer", value=call.account
            )
            self._state.put_file(
                FileRecord(
                    id=drive_id,
                    title=name,
                    mime_type=FOLDER,
                    owner="",
                    created_at=now,
                    modified_at=now,
                    modified_by=call.account,
                    drive_id=drive_id,
                    permissions=(organizer,),
                    is_root=True,
                )
            )
            drive = DriveRecord(
                id=drive_id, name=name, created_at=now, request_id=request_id, created_by=call.account
            )
            self._state.put_drive(drive)
            return self._render(drive, self._files.sight(call))

    def update(self, call: Call) -> Reply:
        with self._state.writing():
            drive = self._find(call, least=Role.ORGANIZER)
            body = call.body
            restrictions = {
                "driveMembersOnly" if name == "teamMembersOnly" else name: value
                for name, value in (body.get("restrictions") or {}).items()
                if isinstance(value, bool)
            }
            drive = replace(
                drive,
                name=body.get("name") or drive.name,
                color=body.get("colorRgb") or drive.color,
                theme_id=body.get("themeId") or drive.theme_id,
                restrictions={**drive.restrictions, **restrictions},
            )
            root = self._root(drive)
            if root.title != drive.name:
                self._state.put_file(replace(root, title=drive.name))
            self._state.put_drive(drive)
            return self._render(drive, self._files.sight(call))

    def hide(self, call: Call) -> Reply:
        return self._hide(call, True)

    def unhide(self, call: Call) -> Reply:
        return self._hide(call, False)

    def _hide(self, call: Call, hidden: bool) -> Reply:
        with self._state.writing():
            drive = self._find(call)
            others = tuple(one for one in drive.hidden_by if one != call.account)
            drive = replace(drive, hidden_by=(*others, call.account) if hidden else others)
            self._state.put_drive(drive)
            return self._render(drive, self._files.sight(call))

    def delete(self, call: Call) -> Reply:
        with self._state.writing():
            drive = self._find(call, least=Role.ORGANIZER)
            root = self._root(drive)
            children = self._state.current.children.get(root.id, {})
            kept = [one for one in children if not self._state.current.files[one].is_trashed]
            if kept and not call.get("allowItemDeletion"):
                raise Refusal(
                    403, "cannotDeleteNonemptyTeamDrive", "A shared drive with untrashed items stays."
                )
            self._files.remove(root)
            self._state.remove_drive(drive.id)
            return None

    def _root(self, drive: DriveRecord) -> FileRecord:
        return self._state.current.files[drive.id]

    def _role(self, call: Call, drive: DriveRecord) -> Role:
        return self._files.role(self._root(drive), call.account)

    def _find(self, call: Call, *, least: Role = Role.READER) -> DriveRecord:
        drive_id = call.get("driveId") or call.get("teamDriveId")
        drive = self._state.drives.get(drive_id)
        role = Role.NONE if drive is None else self._role(call, drive)
        if drive is None or role is Role.NONE:
            raise Refusal(404, "notFound", f"Shared drive not found: {drive_id}", location="driveId")
        if role < least:
            raise Refusal(
                403,
                "insufficientFilePermissions",
                "The user does not have sufficient permissions for this shared drive.",
                location="file.permissions",
                location_type="other",
            )
        return drive
