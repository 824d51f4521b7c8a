"""The methods of `permissions`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from driverun.testing.drive_emulator.access import ROLES, Role
from driverun.testing.drive_emulator.calls import Call, Reply
from driverun.testing.drive_emulator.files import Files
from driverun.testing.drive_emulator.records import FileRecord, Permission, milliseconds
from driverun.testing.drive_emulator.refusals import Refusal, invalid_value, not_permitted
from driverun.testing.drive_emulator.rendering import effective_permissions, permission_resource
from driverun.testing.drive_emulator.state import State

TYPES = ("user", "group", "domain", "anyone")
ROLES_OF_DRIVES = ("organizer", "fileOrganizer")
PAGE_LIMIT = 100


class Permissions:
    """Who shares what with whom."""

    def __init__(self, state: State, files: Files) -> None:
        self._state = state
        self._files = files

    def id_for_email(self, call: Call) -> Reply:
        return {"kind": "drive#permissionId", "id": self._state.permission_id(call.get("email"))}

    def list(self, call: Call) -> Reply:
        with self._state.lock:
            record = self._files.find(call, call.get("fileId"), least=Role.WRITER)
            sight = self._files.sight(call)
            found = effective_permissions(record, sight)
            first = _offset(call.get("pageToken"))
            # Without a size the whole list comes, but no more than a page of what lies in a shared drive.
            size = call.get("maxResults") or (PAGE_LIMIT if record.drive_id else len(found))
            shown: dict[str, Any] = {
                "kind": "drive#permissionList",
                "etag": sight.etag("permissions", record.id, record.version),
                "selfLink": sight.link("files", record.id, "permissions"),
                "items": [permission_resource(record, *one, sight) for one in found[first : first + size]],
            }
            if len(found) > first + size:
                shown["nextPageToken"] = str(first + size)
            return shown

    def get(self, call: Call) -> Reply:
        with self._state.lock:
            record = self._files.find(call, call.get("fileId"))
            permission, place = self._find(call, record)
            is_own = permission.id == self._state.permission_id(call.account)
            if not is_own and self._files.role(record, call.account) < Role.WRITER:
                raise not_permitted(record.id)
            return permission_resource(record, permission, place, self._files.sight(call))

    def insert(self, call: Call) -> Reply:
        with self._state.writing():
            record = self._sharable(call)
            kind, role = call.body["type"], _role(call.body)
            value = call.body.get("value") or call.body.get("emailAddress") or ""
            if kind not in TYPES:
                raise invalid_value("permission.type", f"Invalid permission type: {kind}")
            self._check_role(record, role)
            if kind != "anyone" and ("@" in value) is (kind == "domain"):
                raise Refusal(
                    400, "invalidSharingRequest", f"Bad Request. User message: {value!r} is no {kind}."
                )
            expires_at = call.body.get("expirationDate")
            permission = Permission(
                id=self._id(kind, value, call.body),
                type=kind,
                role=role,
                value=value,
                with_link=bool(call.body.get("withLink")),
                expires_at=milliseconds(expires_at) if expires_at else None,
            )
            if role == "owner":
                record = self._transferred(call, record, permission)
            else:
                before = next((one for one in record.permissions if one.id == permission.id), None)
                if before is not None and ROLES[before.role] > ROLES[role]:
                    permission = before  # sharing once more takes nothing away
                others = tuple(one for one in record.permissions if one.id != permission.id)
                record = replace(record, permissions=(*others, permission))
            if kind in ("user", "group") and all(who != value for who, _, _ in record.shared_at):
                mark = (value, self._state.now_ms(), call.account)
                record = replace(record, shared_at=(*record.shared_at, mark))
            record = self._state.put_file(record)
            return permission_resource(record, permission, record, self._files.sight(call))

    def update(self, call: Call) -> Reply:
        with self._state.writing():
            record = self._sharable(call)
            permission, place = self._find(call, record)
            if place is not record:
                raise Refusal(
                    403, "cannotModifyInheritedPermission", "Cannot change a permission that is inherited."
                )
            role = _role({"role": permission.role, **call.body})
            self._check_role(record, role)
            if permission.role == "owner" and role != "owner":
                raise Refusal(403, "insufficientFilePermissions", "The owner of a file stays its owner.")
            expires_at = call.body.get("expirationDate")
            changed = replace(
                permission,
                role=role,
                with_link=call.body.get("withLink", permission.with_link),
                expires_at=(
                    None
                    if call.get("removeExpiration")
                    else milliseconds(expires_at)
                    if expires_at
                    else permission.expires_at
                ),
            )
            if role == "owner" and permission.role != "owner":
                if not call.get("transferOwnership"):
                    raise Refusal(
                        403,
                        "forbidden",
                        "The transferOwnership parameter must be enabled when the permission role is 'owner'.",
                        location="transferOwnership",
                    )
                record = self._transferred(call, record, changed)
            else:
                swapped = tuple(changed if one.id == changed.id else one for one in record.permissions)
                record = replace(record, permissions=swapped)
            record = self._state.put_file(record)
            return permission_resource(record, changed, record, self._files.sight(call))

    def delete(self, call: Call) -> Reply:
        with self._state.writing():
            record = self._files.find(call, call.get("fileId"))
            permission, place = self._find(call, record)
            if permission.id != self._state.permission_id(call.account):
                record = self._sharable(call)
            if place is not record:
                raise Refusal(
                    403, "cannotModifyInheritedPermission", "Cannot delete a permission that is inherited."
                )
            if permission.role == "owner":
                raise not_permitted(record.id)
            organizers = sum(one.role == "organizer" for one in record.permissions)
            if record.is_root and permission.role == "organizer" and organizers == 1:
                raise Refusal(403, "cannotRemoveLastOrganizer", "A shared drive needs an organizer.")
            kept = tuple(one for one in record.permissions if one.id != permission.id)
            shared = tuple(one for one in record.shared_at if one[0] != permission.value)
            self._state.put_file(replace(record, permissions=kept, shared_at=shared))
            return None

    def _sharable(self, call: Call) -> FileRecord:
        """Return the file of the call, which its account may share."""
        record = self._files.find(call, call.get("fileId"), least=Role.WRITER)
        role = self._files.role(record, call.account)
        if record.drive_id:
            enough = role >= (Role.ORGANIZER if record.is_root else Role.FILE_ORGANIZER)
        else:
            enough = role is Role.OWNER or record.writers_can_share
        if not enough or (record.is_root and not record.drive_id):
            raise not_permitted(record.id)
        return record

    def _check_role(self, record: FileRecord, role: str) -> None:
        if (role in ROLES_OF_DRIVES and not record.drive_id) or (role == "owner" and record.drive_id):
            raise Refusal(
                403,
                "invalidSharingRequest",
                f"The role {role} is not possible here.",
                location="permission.role",
            )

    def _transferred(self, call: Call, record: FileRecord, owner: Permission) -> FileRecord:
        """Return the record as a file of `owner`; who owned it before may write it."""
        if record.owner != call.account or owner.type != "user":
            raise not_permitted(record.id)
        self._files.check_quota(owner.value, record.quota_bytes, drive_id="")
        others = tuple(
            replace(one, role="writer") if one.role == "owner" else one
            for one in record.permissions
            if one.id != owner.id
        )
        return replace(record, owner=owner.value, permissions=(replace(owner, role="owner"), *others))

    def _find(self, call: Call, record: FileRecord) -> tuple[Permission, FileRecord]:
        wanted = call.get("permissionId")
        if wanted == "me":
            wanted = self._state.permission_id(call.account)
        for permission, place in effective_permissions(record, self._files.sight(call)):
            if permission.id == wanted:
                return permission, place
        raise Refusal(404, "notFound", f"Permission not found: {wanted}", location="permission")

    def _id(self, kind: str, value: str, body: Mapping[str, Any]) -> str:
        if kind == "anyone":
            return "anyoneWithLink" if body.get("withLink") else "anyone"
        return self._state.permission_id(value)


def _role(body: Mapping[str, Any]) -> str:
    role: str = body["role"]
    if role not in ROLES:
        raise invalid_value("permission.role", f"Invalid role: {role}")
    if "commenter" in (body.get("additionalRoles") or ()) and role == "reader":
        return "commenter"
    return role


def _offset(token: str | None) -> int:
    if token is None:
        return 0
    if not token.isdigit():
        raise invalid_value("pageToken")
    return int(token)
