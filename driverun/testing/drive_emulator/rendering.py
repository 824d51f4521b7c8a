"""Records as the resources of the API, each as the account that asks is to see it.

A resource has over fifty fields; only those that the answer will carry are worked out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from driverun.testing.drive_emulator.access import ROLES, Role, permissions_on, role_of
from driverun.testing.drive_emulator.exporting import EXPORTS
from driverun.testing.drive_emulator.records import (
    ChangeRecord,
    DriveRecord,
    FileRecord,
    Permission,
    Property,
    Revision,
    rfc3339,
)
from driverun.testing.drive_emulator.state import State, View

LINK = "https://drive.google.com"


@dataclass(slots=True)
class Sight:
    """From where a resource is looked at."""

    state: State
    view: View  #: the current or the listed one
    account: str
    client: str
    base_url: str  #: as in `http://127.0.0.1:8080`

    def role(self, record: FileRecord) -> Role:
        return role_of(self.view, record, self.account, now_ms=self.state.now_ms())

    def link(self, *parts: str) -> str:
        return f"{self.base_url}/drive/v2/" + "/".join(quote(part, safe="@") for part in parts)

    def user(self, account: str) -> dict[str, Any]:
        return {
            "kind": "drive#user",
            "displayName": account.partition("@")[0],
            "isAuthenticatedUser": account == self.account,
            "permissionId": self.state.permission_id(account),
            "emailAddress": account,
        }

    def etag(self, *parts: object) -> str:
        return f'"{self.state.digest(*parts)}"'


def file_etag(state: State, record: FileRecord) -> str:
    """Return the etag of a file: another one for every version of it."""
    return f'"{state.digest("file", record.id, record.version)}"'


Render = Callable[[FileRecord, Sight], Any]


def _field(name: str) -> Callable[[Render], Render]:
    """Register how a field is worked out that takes more than a line."""

    def register(render: Render) -> Render:
        _PERSONAL[name] = render
        return render

    return register


def _when(record_time: int | None) -> str | None:
    return None if record_time is None else rfc3339(record_time)


def _extension(record: FileRecord) -> str | None:
    if not record.has_content:
        return None
    _, dot, extension = record.title.rpartition(".")
    return extension if dot else ""


#: Fields that are alike in every file.
_CONSTANTS: Mapping[str, Any] = {
    "kind": "drive#file",
    "markedViewedByMeDate": rfc3339(0),
    "inheritedPermissionsDisabled": False,
    "hasThumbnail": False,
    "thumbnailVersion": "0",
    "isAppAuthorized": True,
}
#: Fields that everybody sees alike; None: the file has no such field.
_COMMON: Mapping[str, Callable[[FileRecord], Any]] = {
    "id": lambda record: record.id,
    "shortcutDetails": lambda record: _shortcut(record),
    "title": lambda record: record.title,
    "mimeType": lambda record: record.mime_type,
    "description": lambda record: record.description or None,
    "createdDate": lambda record: rfc3339(record.created_at),
    "modifiedDate": lambda record: rfc3339(record.modified_at),
    "version": lambda record: str(record.version),
    "quotaBytesUsed": lambda record: str(record.quota_bytes),
    "fileSize": lambda record: _of_head(record, lambda head: str(head.size_bytes)),
    "md5Checksum": lambda record: _of_head(record, lambda head: head.md5),
    "sha1Checksum": lambda record: _of_head(record, lambda head: head.sha1),
    "sha256Checksum": lambda record: _of_head(record, lambda head: head.sha256),
    "headRevisionId": lambda record: _of_head(record, lambda head: head.id),
    "originalFilename": lambda record: record.original_filename if record.has_content else None,
    "fileExtension": lambda record: _extension(record),
    "fullFileExtension": lambda record: _extension(record),
    "webContentLink": lambda record: (
        f"{LINK}/uc?id={record.id}&export=download" if record.has_content else None
    ),
    "alternateLink": lambda record: _web_link(record),
    "embedLink": lambda record: None if record.is_folder else _web_link(record) + "/preview",
    "iconLink": lambda record: f"https://drive-thirdparty.googleusercontent.com/16/type/{record.mime_type}",
    "spaces": lambda record: [record.space],
    "appDataContents": lambda record: record.space == "appDataFolder",
    "explicitlyTrashed": lambda record: record.is_trashed,
    "trashedDate": lambda record: _when(record.trashed_at) if record.is_trashed else None,
    "lastModifyingUserName": lambda record: record.modified_by.partition("@")[0],
    "ownerNames": lambda record: [record.owner.partition("@")[0]] if record.owner else None,
    "driveId": lambda record: record.drive_id or None,
    "teamDriveId": lambda record: record.drive_id or None,
    "writersCanShare": lambda record: record.writers_can_share if record.owner else None,
    "copyRequiresWriterPermission": lambda record: record.copy_requires_writer,
    "folderColorRgb": lambda record: record.folder_color or None,
    "copyable": lambda record: not record.is_folder,
}
#: Fields that depend on who looks, and by which address.
_PERSONAL: dict[str, Render] = {
    "etag": lambda record, sight: file_etag(sight.state, record),
    "selfLink": lambda record, sight: sight.link("files", record.id),
    "modifiedByMeDate": lambda record, sight: (
        rfc3339(record.modified_at) if record.modified_by == sight.account else None
    ),
    "lastViewedByMeDate": lambda record, sight: _when(dict(record.viewed_at).get(sight.account)),
    "downloadUrl": lambda record, sight: (
        sight.link("files", record.id) + "?alt=media" if record.has_content else None
    ),
    "trashingUser": lambda record, sight: sight.user(record.trashed_by) if record.is_trashed else None,
    "lastModifyingUser": lambda record, sight: sight.user(record.modified_by),
    "owners": lambda record, sight: [sight.user(record.owner)] if record.owner else None,
    "ownedByMe": lambda record, sight: record.owner == sight.account if record.owner else None,
    "editable": lambda record, sight: sight.role(record) >= Role.WRITER,
    "canComment": lambda record, sight: sight.role(record) >= Role.COMMENTER,
    "canReadRevisions": lambda record, sight: sight.role(record) >= Role.WRITER,
    "shareable": lambda record, sight: sight.role(record) >= Role.WRITER,
    "shared": lambda record, sight: _is_shared(record, sight) if record.owner else None,
    "sharedWithMeDate": lambda record, sight: _when(_sharing(record, sight)[0]),
    "sharingUser": lambda record, sight: _sharing_user(record, sight),
}


def _of_head(record: FileRecord, render: Callable[[Revision], Any]) -> Any:
    return render(record.revisions[-1]) if record.has_content else None


def _web_link(record: FileRecord) -> str:
    if record.is_folder:
        return f"{LINK}/drive/folders/{record.id}"
    return f"{LINK}/file/d/{record.id}/view?usp=drivesdk"


def _is_shared(record: FileRecord, sight: Sight) -> bool:
    return any(permission.value != record.owner for permission, _ in permissions_on(sight.view, record))


def _sharing(record: FileRecord, sight: Sight) -> tuple[int | None, str]:
    for account, at, by in record.shared_at:
        if account == sight.account:
            return at, by
    return None, ""


def _sharing_user(record: FileRecord, sight: Sight) -> Any:
    _, by = _sharing(record, sight)
    return sight.user(by) if by else None


@_field("labels")
def _labels(record: FileRecord, sight: Sight) -> Any:
    return {
        "starred": sight.account in record.starred_by,
        "hidden": False,
        "trashed": sight.view.is_trashed(record),
        "restricted": record.copy_requires_writer,
        "viewed": any(account == sight.account for account, _ in record.viewed_at),
        "modified": record.modified_by == sight.account,
    }


@_field("parents")
def _parents(record: FileRecord, sight: Sight) -> Any:
    shown = []
    for parent in record.parents:
        above = sight.view.files.get(parent)
        # Who was given a file alone does not learn where its owner keeps it.
        if above is not None and sight.role(above) is not Role.NONE:
            shown.append(parent_reference(record, parent, sight))
    return shown or None if record.owner != sight.account else shown


def parent_reference(record: FileRecord, parent: str, sight: Sight) -> dict[str, Any]:
    above = sight.view.files.get(parent)
    return {
        "kind": "drive#parentReference",
        "id": parent,
        "selfLink": sight.link("files", record.id, "parents", parent),
        "parentLink": sight.link("files", parent),
        "isRoot": above is not None and above.is_root and above.space == "drive",
    }


@_field("properties")
def _properties(record: FileRecord, sight: Sight) -> Any:
    shown = [entry for entry in record.properties if may_see(entry, sight)]
    return [property_resource(record, entry, sight) for entry in shown] or None


def may_see(entry: Property, sight: Sight) -> bool:
    return entry.visibility == "PUBLIC" or entry.client == sight.client


def property_resource(record: FileRecord, entry: Property, sight: Sight) -> dict[str, Any]:
    link = sight.link("files", record.id, "properties", entry.key)
    return {
        "kind": "drive#property",
        "etag": sight.etag("property", record.id, entry),
        "selfLink": f"{link}?visibility={entry.visibility}",
        "key": entry.key,
        "value": entry.value,
        "visibility": entry.visibility,
    }


@_field("permissions")
def _permissions(record: FileRecord, sight: Sight) -> Any:
    if record.drive_id or sight.role(record) < Role.WRITER:
        return None
    return [permission_resource(record, *found, sight) for found in effective_permissions(record, sight)]


@_field("permissionIds")
def _permission_ids(record: FileRecord, sight: Sight) -> Any:
    if record.drive_id or sight.role(record) < Role.WRITER:
        return None
    return [permission.id for permission, _ in effective_permissions(record, sight)]


def effective_permissions(record: FileRecord, sight: Sight) -> list[tuple[Permission, FileRecord]]:
    """Return one permission for everybody who has any, the highest, with the item it stands on."""
    found: dict[str, tuple[Permission, FileRecord]] = {}
    for permission, place in permissions_on(sight.view, record):
        before = found.get(permission.id)
        if before is None or ROLES[before[0].role] < ROLES[permission.role]:
            found[permission.id] = (permission, place)
    return list(found.values())


def permission_resource(
    record: FileRecord, permission: Permission, place: FileRecord, sight: Sight
) -> dict[str, Any]:
    is_inherited = place is not record
    role = "writer" if is_inherited and permission.role == "owner" else permission.role
    primary, more = ("reader", ["commenter"]) if role == "commenter" else (role, [])
    shown: dict[str, Any] = {
        "kind": "drive#permission",
        "etag": sight.etag("permission", record.id, permission),
        "id": permission.id,
        "selfLink": sight.link("files", record.id, "permissions", permission.id),
        "type": permission.type,
        "role": primary,
        "deleted": False,
        "pendingOwner": False,
    }
    if more:
        shown["additionalRoles"] = more
    if permission.type in ("user", "group"):
        shown["emailAddress"] = permission.value
        shown["name"] = permission.value.partition("@")[0]
        shown["domain"] = permission.value.rpartition("@")[2]
    elif permission.type == "domain":
        shown["domain"] = permission.value
        shown["name"] = permission.value
    if permission.type in ("anyone", "domain"):
        shown["withLink"] = permission.with_link
    if permission.expires_at is not None:
        shown["expirationDate"] = rfc3339(permission.expires_at)
    if record.drive_id:
        detail: dict[str, Any] = {"role": primary, "inherited": is_inherited}
        if more:
            detail["additionalRoles"] = more
        if is_inherited:
            detail["inheritedFrom"] = place.id
        kind = "member" if place.id == record.drive_id else "file"
        shown["permissionDetails"] = [{**detail, "permissionType": kind}]
        shown["teamDrivePermissionDetails"] = [{**detail, "teamDrivePermissionType": kind}]
    return shown


@_field("userPermission")
def _user_permission(record: FileRecord, sight: Sight) -> Any:
    role = sight.role(record)
    name = {Role.ORGANIZER: "organizer", Role.OWNER: "owner", Role.FILE_ORGANIZER: "fileOrganizer"}.get(
        role, "writer" if role is Role.WRITER else "reader"
    )
    shown = {
        "kind": "drive#permission",
        "etag": sight.etag("me", record.id, sight.account, name),
        "id": "me",
        "selfLink": sight.link("files", record.id, "permissions", "me"),
        "role": name,
        "type": "user",
    }
    return {**shown, "additionalRoles": ["commenter"]} if role is Role.COMMENTER else shown


@_field("exportLinks")
def _export_links(record: FileRecord, sight: Sight) -> Any:
    if not record.is_google_document:
        return None
    link = sight.link("files", record.id, "export")
    return {
        kind: f"{link}?mimeType={quote(kind, safe='')}" for kind in EXPORTS.get(record.mime_type, ())
    } or None


def _shortcut(record: FileRecord) -> Any:
    if not record.shortcut_target:
        return None
    return {"targetId": record.shortcut_target, "targetMimeType": record.shortcut_mime_type}


@_field("capabilities")
def _capabilities(record: FileRecord, sight: Sight) -> Any:
    role = sight.role(record)
    writes, in_drive = role >= Role.WRITER, bool(record.drive_id)
    manages = role >= Role.FILE_ORGANIZER
    deletes = role >= (Role.ORGANIZER if in_drive else Role.OWNER)
    folder = record.is_folder
    shown = {
        "canAddChildren": folder and writes,
        "canChangeCopyRequiresWriterPermission": writes,
        "canComment": role >= Role.COMMENTER,
        "canCopy": not folder,
        "canDelete": deletes and not record.is_root,
        "canDownload": not folder,
        "canEdit": writes,
        "canListChildren": folder,
        "canModifyContent": writes,
        "canMoveItemWithinDrive": (manages or (writes and not in_drive)) and not record.is_root,
        "canReadRevisions": writes and not folder,
        "canRemoveChildren": folder and (manages if in_drive else writes),
        "canRename": writes and not record.is_root,
        "canShare": writes,
        "canTrash": manages and not record.is_root,
        "canUntrash": manages and not record.is_root,
    }
    if in_drive:
        shown["canReadDrive"] = True
        shown["canDeleteChildren"] = folder and deletes
        shown["canTrashChildren"] = folder and manages
    return shown


def file_resource(record: FileRecord, sight: Sight, wanted: frozenset[str] | None = None) -> dict[str, Any]:
    """Return a file as the resource `File`; `wanted`: only these of its fields."""
    shown = {name: value for name, value in _CONSTANTS.items() if wanted is None or name in wanted}
    for name in _COMMON if wanted is None else wanted & _COMMON.keys():
        if (value := _COMMON[name](record)) is not None:
            shown[name] = value
    for name in _PERSONAL if wanted is None else wanted & _PERSONAL.keys():
        if (value := _PERSONAL[name](record, sight)) is not None:
            shown[name] = value
    return shown


def revision_resource(record: FileRecord, revision: Revision, sight: Sight) -> dict[str, Any]:
    link = sight.link("files", record.id)
    shown: dict[str, Any] = {
        "kind": "drive#revision",
        "etag": sight.etag("revision", record.id, revision),
        "id": revision.id,
        "selfLink": sight.link("files", record.id, "revisions", revision.id),
        "mimeType": revision.mime_type,
        "modifiedDate": rfc3339(revision.modified_at),
        "published": False,
        "lastModifyingUserName": revision.modified_by.partition("@")[0],
        "lastModifyingUser": sight.user(revision.modified_by),
    }
    if record.has_content:
        shown |= {
            "pinned": revision.is_pinned,
            "fileSize": str(revision.size_bytes),
            "md5Checksum": revision.md5,
            "originalFilename": revision.original_filename,
            "downloadUrl": f"{link}?alt=media&revisionId={quote(revision.id)}",
        }
    else:
        shown["exportLinks"] = {
            kind: f"{link}/export?mimeType={quote(kind, safe='')}"
            for kind in EXPORTS.get(record.mime_type, ())
        }
    return shown


def change_resource(
    change: ChangeRecord, record: FileRecord | None, drive: DriveRecord | None, sight: Sight
) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "kind": "drive#change",
        "id": str(change.id),
        "selfLink": sight.link("changes", str(change.id)),
        "modificationDate": rfc3339(change.at),
        "changeType": "drive" if change.is_drive else "file",
        "type": "teamDrive" if change.is_drive else "file",
        "deleted": change.is_removed if not change.is_drive else drive is None,
    }
    if change.is_drive:
        shown["driveId"] = shown["teamDriveId"] = change.drive_id
        if drive is not None:
            shown["drive"] = drive_resource(drive, sight)
    else:
        shown["fileId"] = change.file_id
        if record is not None and not change.is_removed:
            shown["file"] = file_resource(record, sight)
    return shown


def drive_resource(drive: DriveRecord, sight: Sight) -> dict[str, Any]:
    root = sight.state.current.files[drive.id]
    role = sight.role(root)
    organizes = role is Role.ORGANIZER
    writes = role >= Role.WRITER
    shown: dict[str, Any] = {
        "kind": "drive#drive",
        "id": drive.id,
        "name": drive.name,
        "createdDate": rfc3339(drive.created_at),
        "hidden": sight.account in drive.hidden_by,
        "restrictions": {
            "adminManagedRestrictions": False,
            "copyRequiresWriterPermission": False,
            "domainUsersOnly": False,
            "driveMembersOnly": False,
            "sharingFoldersRequiresOrganizerPermission": False,
            **drive.restrictions,
        },
        "capabilities": {
            "canAddChildren": writes,
            "canComment": role >= Role.COMMENTER,
            "canCopy": True,
            "canDeleteChildren": organizes,
            "canDeleteDrive": organizes,
            "canDownload": True,
            "canEdit": writes,
            "canListChildren": True,
            "canManageMembers": organizes,
            "canReadRevisions": writes,
            "canRename": writes,
            "canRenameDrive": organizes,
            "canShare": writes,
            "canTrashChildren": role >= Role.FILE_ORGANIZER,
        },
    }
    if drive.color:
        shown["colorRgb"] = drive.color
    if drive.theme_id:
        shown["themeId"] = drive.theme_id
    return shown


def team_drive_resource(drive: DriveRecord, sight: Sight) -> dict[str, Any]:
    """Return a shared drive under its old name, `TeamDrive`."""
    shown = drive_resource(drive, sight)
    shown["kind"] = "drive#teamDrive"
    del shown["hidden"]
    renamed = {"driveMembersOnly": "teamMembersOnly"}
    shown["restrictions"] = _renamed(shown["restrictions"], renamed)
    renamed = {"canDeleteDrive": "canDeleteTeamDrive", "canRenameDrive": "canRenameTeamDrive"}
    shown["capabilities"] = _renamed(shown["capabilities"], renamed)
    return shown


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in values.items()}
