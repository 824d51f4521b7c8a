"""The methods of `files`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from driverun.testing.drive_emulator.access import Role, audience_of, is_service_account, role_of
from driverun.testing.drive_emulator.blobs import Sums
from driverun.testing.drive_emulator.calls import Answer, Call, Content, Media, Reply
from driverun.testing.drive_emulator.exporting import EXPORTS, IMPORTS, export
from driverun.testing.drive_emulator.properties import merged_properties
from driverun.testing.drive_emulator.records import (
    FOLDER,
    GOOGLE_PREFIX,
    SHORTCUT,
    FileRecord,
    Permission,
    Revision,
    milliseconds,
)
from driverun.testing.drive_emulator.refusals import (
    Refusal,
    invalid_value,
    not_found,
    not_permitted,
    precondition_failed,
)
from driverun.testing.drive_emulator.rendering import Sight, file_etag, file_resource
from driverun.testing.drive_emulator.settings import EmulatorSettings
from driverun.testing.drive_emulator.state import State, View

EXPORT_LIMIT_BYTES = 10_000_000  # developers.google.com/drive/api/guides/manage-downloads
MAX_DEPTH = 100  # folders; release notes of the Drive API


class Files:
    """What can be done with files. Every method is one step under the state's lock."""

    def __init__(self, state: State, settings: EmulatorSettings) -> None:
        self._state = state
        self._settings = settings

    # What others need as well

    def sight(self, call: Call, view: View | None = None) -> Sight:
        """Return from where the account of the call looks, at the files as they are or at another view."""
        return Sight(
            state=self._state,
            view=self._state.current if view is None else view,
            account=call.account,
            client=call.identity.client,
            base_url=call.base_url,
        )

    def resolve(self, file_id: str, account: str) -> str:
        """Return the id that stands behind an alias, for `root` and `appDataFolder`."""
        if file_id == "root":
            return self._state.root_of(account).id
        if file_id == "appDataFolder":
            return self._state.app_data_of(account).id
        return file_id

    def role(self, record: FileRecord, account: str) -> Role:
        return role_of(self._state.current, record, account, now_ms=self._state.now_ms())

    def find(self, call: Call, file_id: str, *, least: Role = Role.READER) -> FileRecord:
        """Return a file on which the account of the call has at least that role.

        Raises:
            Refusal: 404, there is none that it may see; 403, it may see it, but no more.
        """
        record = self._state.current.files.get(self.resolve(file_id, call.account))
        role = Role.NONE if record is None else self.role(record, call.account)
        if record is None or role is Role.NONE:
            raise not_found(file_id)
        if record.drive_id and not call.sees_shared_drives and _asks_for_shared_drives(call):
            raise not_found(file_id)
        if role < least:
            raise not_permitted(record.id)
        return record

    def check_etag(self, call: Call, record: FileRecord) -> None:
        """Refuse, with 412, a call that was meant for another version of the file."""
        wanted = call.headers.get("if-match")
        if wanted is None or wanted.strip() == "*":
            return
        if file_etag(self._state, record) not in [one.strip() for one in wanted.split(",")]:
            raise precondition_failed()

    def show(self, call: Call, record: FileRecord) -> dict[str, Any]:
        return file_resource(record, self.sight(call), call.wanted)

    def check_quota(self, account: str, more_bytes: int, *, drive_id: str) -> None:
        """Refuse, with 403, what the owner has no room for."""
        if drive_id:
            return
        if is_service_account(account):
            raise Refusal(
                403,
                "storageQuotaExceeded",
                "Service Accounts do not have storage quota. Leverage shared drives, or use OAuth delegation "
                "instead.",
            )
        limit = self._settings.quota_gb * 1e9
        if 0 < limit < self._state.usage.get(account, 0) + more_bytes:
            raise Refusal(403, "storageQuotaExceeded", "The user's Drive storage quota has been exceeded.")

    # insert

    def check_insert(self, call: Call, size_bytes: int) -> None:
        """Raise what `insert` would refuse, before the content comes."""
        with self._state.lock:
            parent = self._parent_for(call)
            self._new_id(call)
            kind = call.body.get("mimeType") or ""
            if kind not in (FOLDER, SHORTCUT):
                self.check_quota(call.account, size_bytes, drive_id=parent.drive_id)

    def insert(self, call: Call) -> Reply:
        if call.headers.get("if-none-match", "").strip() == "*":
            raise precondition_failed()
        with self._state.writing():
            parent = self._parent_for(call)
            file_id = self._new_id(call)
            now = self._state.now_ms()
            body, media = call.body, call.media
            mime_type = body.get("mimeType") or (media.mime_type if media else "application/octet-stream")
            if media and call.get("convert"):
                mime_type = _converted(media.mime_type)
            if mime_type.startswith(GOOGLE_PREFIX):
                self._check_google_type(call, mime_type)
            if mime_type not in (FOLDER, SHORTCUT):
                self.check_quota(
                    call.account, media.sums.size_bytes if media else 0, drive_id=parent.drive_id
                )
            owner = "" if parent.drive_id else call.account
            title = body.get("title") or "Untitled"
            record = FileRecord(
                id=file_id,
                title=title,
                mime_type=mime_type,
                owner=owner,
                created_at=_time(body, "createdDate", now),
                modified_at=_time(body, "modifiedDate", now),
                modified_by=call.account,
                parents=(parent.id,),
                drive_id=parent.drive_id,
                space=parent.space,
                original_filename=body.get("originalFilename") or title,
                permissions=(
                    (Permission(id=self._state.permission_id(owner), type="user", role="owner", value=owner),)
                    if owner
                    else ()
                ),
                viewed_at=((call.account, now),),
                **self._plain_fields(call, None),
            )
            record = self._with_shortcut(call, record)
            if media is not None or not mime_type.startswith(GOOGLE_PREFIX) or record.is_google_document:
                record = self._with_content(call, record, media)
            return self.show(call, self._state.put_file(record))

    def _new_id(self, call: Call) -> str:
        wanted: str | None = call.body.get("id")
        if not wanted:
            return self._state.new_id(call.account)
        if wanted in self._state.current.files or wanted in self._state.gone:
            raise Refusal(
                409,
                "fileIdInUse",
                "A file already exists with the provided ID.",
                location="file.id",
                location_type="other",
            )
        if not self._state.is_generated_for(wanted, call.account):
            raise Refusal(
                400,
                "invalid",
                "The provided file ID is not usable.",
                location="file.id",
                location_type="other",
            )
        kind = call.body.get("mimeType") or ""
        if kind.startswith(GOOGLE_PREFIX) and kind not in (FOLDER, SHORTCUT):
            raise Refusal(
                400,
                "invalid",
                "Generated IDs are not supported for Docs Editors formats.",
                location="file.id",
                location_type="other",
            )
        return wanted

    def _parent_for(self, call: Call) -> FileRecord:
        parents = call.body.get("parents") or [{"id": "root"}]
        if len(parents) > 1:
            raise Refusal(
                400,
                "multiparentingNotSupported",
                "A file cannot be placed in more than one folder.",
                location="parents",
                location_type="other",
            )
        return self._folder(call, parents[0].get("id") or "")

    def _folder(self, call: Call, file_id: str) -> FileRecord:
        """Return a folder into which the account may put something."""
        record = self.find(call, file_id, least=Role.WRITER)
        if not record.is_folder:
            raise Refusal(
                403,
                "parentNotAFolder",
                "The specified parent is not a folder.",
                location="parents",
                location_type="other",
            )
        if sum(1 for _ in self._state.current.ancestors(record)) >= MAX_DEPTH:
            raise Refusal(403, "myDriveHierarchyDepthLimitExceeded", "Your file can't be nested so deep.")
        return record

    def _check_google_type(self, call: Call, mime_type: str) -> None:
        if mime_type not in (FOLDER, SHORTCUT) and mime_type not in EXPORTS:
            raise invalid_value(
                "mimeType", f"Invalid MIME type provided for the uploaded content: {mime_type}"
            )
        if call.media is not None and mime_type in (FOLDER, SHORTCUT):
            raise Refusal(400, "badRequest", "A folder or a shortcut cannot have content.")

    def _with_shortcut(self, call: Call, record: FileRecord) -> FileRecord:
        target_id = (call.body.get("shortcutDetails") or {}).get("targetId")
        if record.mime_type != SHORTCUT:
            return record
        if not target_id:
            raise Refusal(400, "required", "Required field: shortcutDetails.targetId")
        target = self.find(call, target_id)
        if target.mime_type == SHORTCUT:
            raise Refusal(403, "shortcutTargetInvalid", "The shortcut target type is invalid.")
        return replace(record, shortcut_target=target.id, shortcut_mime_type=target.mime_type)

    def _with_content(self, call: Call, record: FileRecord, media: Media | None) -> FileRecord:
        """Return the record with one more revision; the bytes are kept."""
        if media is None:
            incoming = self._state.blobs.receive()
            media = Media(path=incoming.path, sums=incoming.finish(), mime_type=record.mime_type)
        now = self._state.now_ms()
        revision = Revision(
            id="0B" + self._state.new_word(40),
            blob=self._state.blobs.keep(media.path),
            size_bytes=media.sums.size_bytes,
            md5=media.sums.md5,
            sha1=media.sums.sha1,
            sha256=media.sums.sha256,
            mime_type=record.mime_type,
            modified_at=now,
            modified_by=call.account,
            original_filename=record.original_filename,
            is_pinned=bool(call.get("pinned")),
        )
        before = record.revisions
        if before and call.get("newRevision") is False:
            before = before[:-1]
        return replace(record, revisions=(*before, revision))

    def _plain_fields(self, call: Call, before: FileRecord | None) -> dict[str, Any]:
        """Return what the body says of fields that are simply set."""
        body = call.body
        found: dict[str, Any] = {}
        for name, attribute in (
            ("description", "description"),
            ("folderColorRgb", "folder_color"),
            ("writersCanShare", "writers_can_share"),
            ("copyRequiresWriterPermission", "copy_requires_writer"),
        ):
            if body.get(name) is not None:
                found[attribute] = body[name]
        if (text := (body.get("indexableText") or {}).get("text")) is not None:
            found["indexable_text"] = text
        labels = body.get("labels") or {}
        if labels.get("restricted") is not None:
            found["copy_requires_writer"] = labels["restricted"]
        if labels.get("starred") is not None:
            others = [one for one in (before.starred_by if before else ()) if one != call.account]
            found["starred_by"] = (*others, call.account) if labels["starred"] else tuple(others)
        if body.get("properties") is not None:
            found["properties"] = merged_properties(
                before.properties if before else (), body["properties"], call.identity.client
            )
        return found

    # get, list-like and download

    def get(self, call: Call) -> Reply:
        with self._state.lock:
            record = self.find(call, call.get("fileId"))
            if call.get("alt") == "media":
                return self._download(call, record)
            if call.get("updateViewedDate"):
                record = self._viewed(call, record)
            etag = file_etag(self._state, record)
            if etag in [one.strip() for one in call.headers.get("if-none-match", "").split(",")]:
                return Answer(status=304, headers={"ETag": etag})
            return self.show(call, record)

    def _viewed(self, call: Call, record: FileRecord) -> FileRecord:
        others = tuple(entry for entry in record.viewed_at if entry[0] != call.account)
        viewed = replace(record, viewed_at=(*others, (call.account, self._state.now_ms())))
        return self._state.put_file(viewed, announce=False)

    def _download(self, call: Call, record: FileRecord) -> Answer:
        if not record.has_content:
            raise Refusal(
                403,
                "fileNotDownloadable",
                "Only files with binary content can be downloaded. Use Export with Docs Editors files.",
                location="alt",
            )
        if record.copy_requires_writer and self.role(record, call.account) < Role.WRITER:
            raise Refusal(403, "cannotDownloadFile", "This file cannot be downloaded by the user.")
        revision = record.revisions[-1]
        if wanted := call.get("revisionId"):
            found = [one for one in record.revisions if one.id == wanted]
            if not found:
                raise Refusal(404, "notFound", f"Revision not found: {wanted}", location="revisionId")
            revision = found[0]
        return self._sent(call, revision)

    def _sent(self, call: Call, revision: Revision) -> Answer:
        start, length, status = 0, revision.size_bytes, 200
        headers = {
            "Content-Type": revision.mime_type,
            "ETag": f'"{self._state.digest("content", revision.id)}"',
            "X-Goog-Hash": f"md5={revision.md5}",
            "Accept-Ranges": "bytes",
        }
        asked = _byte_range(call.headers.get("range"), revision.size_bytes)
        if asked == ():
            return Answer(
                status=416,
                headers={"Content-Range": f"bytes */{revision.size_bytes}", "Content-Type": "text/html"},
                body=b"Requested range not satisfiable",
            )
        if asked:
            start, length, status = asked[0], asked[1] - asked[0] + 1, 206
            headers["Content-Range"] = f"bytes {asked[0]}-{asked[1]}/{revision.size_bytes}"
        stream = self._state.blobs.path_of(revision.blob).open("rb")
        return Answer(
            status=status,
            headers=headers,
            content=Content(stream=stream, start=start, length_bytes=length),
        )

    def export(self, call: Call) -> Reply:
        with self._state.lock:
            record = self.find(call, call.get("fileId"))
            target = call.get("mimeType")
            if not record.is_google_document:
                raise Refusal(403, "fileNotExportable", "Export only supports Docs Editors files.")
            if target not in EXPORTS.get(record.mime_type, ()):
                raise Refusal(
                    400, "badRequest", "The requested conversion is not supported.", location="convertTo"
                )
            head = record.head
            content = b"" if head is None else self._state.blobs.path_of(head.blob).read_bytes()
        if len(content) > EXPORT_LIMIT_BYTES:
            raise Refusal(403, "exportSizeLimitExceeded", "This file is too large to be exported.")
        return Answer(
            status=200,
            headers={"Content-Type": target},
            body=export(content, record.mime_type, target),
        )

    def generate_ids(self, call: Call) -> Reply:
        space = call.get("space")
        if space not in ("drive", "appDataFolder"):
            raise invalid_value("space")
        if call.get("type") not in ("files", "shortcuts"):
            raise invalid_value("type")
        ids = [self._state.new_id(call.account) for _ in range(call.get("maxResults"))]
        return {"kind": "drive#generatedIds", "space": space, "ids": ids}

    # update and patch

    def check_update(self, call: Call, size_bytes: int) -> None:
        """Raise what `update` would refuse, before the content comes."""
        with self._state.lock:
            record = self.find(call, call.get("fileId"), least=Role.WRITER)
            self.check_etag(call, record)
            head = record.head
            more = size_bytes - (head.size_bytes if head is not None and not head.is_pinned else 0)
            if more > 0:
                self._check_growth(record, more)

    def _check_growth(self, record: FileRecord, more_bytes: int) -> None:
        if record.owner and not is_service_account(record.owner):
            self.check_quota(record.owner, more_bytes, drive_id=record.drive_id)

    def update(self, call: Call) -> Reply:
        with self._state.writing():
            record = self.find(call, call.get("fileId"), least=Role.WRITER)
            self.check_etag(call, record)
            body, media, now = call.body, call.media, self._state.now_ms()
            if record.is_root and (body.get("title") or call.get("addParents") or body.get("parents")):
                raise not_permitted(record.id)
            changed = replace(record, **self._plain_fields(call, record))
            if body.get("title"):
                changed = replace(changed, title=body["title"])
            if (trashed := (body.get("labels") or {}).get("trashed")) is not None:
                changed = self._with_trashed(call, changed, trashed)
            changed = self._moved(call, changed)
            if media is not None:
                if record.mime_type in (FOLDER, SHORTCUT):
                    raise Refusal(400, "badRequest", "A folder or a shortcut cannot have content.")
                if not record.is_google_document:
                    kind = body.get("mimeType") or media.mime_type or record.mime_type
                    changed = replace(changed, mime_type=kind)
                if body.get("originalFilename"):
                    changed = replace(changed, original_filename=body["originalFilename"])
                changed = self._with_content(call, changed, media)
                self._check_growth(record, changed.quota_bytes - record.quota_bytes)
            elif body.get("mimeType") and not record.is_google_document and record.has_content:
                changed = replace(changed, mime_type=body["mimeType"])
            changed = self._modified(call, changed, now, with_content=media is not None)
            return self.show(call, self._state.put_file(changed))

    def _modified(self, call: Call, record: FileRecord, now: int, *, with_content: bool) -> FileRecord:
        behavior = call.get("modifiedDateBehavior") or ("fromBody" if call.get("setModifiedDate") else "now")
        given = call.body.get("modifiedDate")
        if behavior.startswith("fromBody") and given is not None:
            now = milliseconds(given)
        elif behavior in ("fromBody", "noChange") or (behavior == "fromBodyIfNeeded" and not with_content):
            return replace(record, modified_by=call.account)
        return replace(record, modified_at=now, modified_by=call.account)

    def _moved(self, call: Call, record: FileRecord) -> FileRecord:
        added = [self.resolve(one, call.account) for one in _names(call.get("addParents"))]
        removed = [self.resolve(one, call.account) for one in _names(call.get("removeParents"))]
        wanted = [one for one in record.parents if one not in removed]
        if call.body.get("parents") is not None:
            wanted = [self.resolve(one.get("id") or "", call.account) for one in call.body["parents"]]
        wanted += [one for one in added if one not in wanted]
        if tuple(wanted) == record.parents:
            return record
        if len(wanted) > 1:
            raise Refusal(403, "cannotAddParent", "Increasing the number of parents is not allowed")
        if not wanted:
            raise Refusal(403, "cannotRemoveParent", "A file has to lie in a folder.")
        return self.moved_to(call, record, wanted[0])

    def moved_to(self, call: Call, record: FileRecord, folder_id: str) -> FileRecord:
        """Return the record as it stands in another folder."""
        target = self._folder(call, folder_id)
        above = [target.id, *(one.id for one in self._state.current.ancestors(target))]
        if record.id in above:
            raise Refusal(403, "cyclicParent", "A folder cannot be moved into itself.")
        role = self.role(record, call.account)
        if target.drive_id != record.drive_id:
            if role < (Role.ORGANIZER if record.drive_id else Role.OWNER):
                raise not_permitted(record.id)
            if record.is_folder:
                raise Refusal(
                    403,
                    "teamDrivesFolderMoveInNotSupported",
                    "Moving folders into shared drives is not supported.",
                )
            owner = "" if target.drive_id else call.account
            kept = tuple(one for one in record.permissions if one.role != "owner")
            if owner:
                self.check_quota(owner, record.quota_bytes, drive_id="")
                mine = Permission(id=self._state.permission_id(owner), type="user", role="owner", value=owner)
                kept = (mine, *(one for one in kept if one.id != mine.id))
            record = replace(record, owner=owner, drive_id=target.drive_id, permissions=kept)
        elif record.drive_id and role < Role.FILE_ORGANIZER:
            raise not_permitted(record.id)
        return replace(record, parents=(target.id,))

    # trash, delete, touch, copy

    def trash(self, call: Call) -> Reply:
        return self._set_trashed(call, True)

    def untrash(self, call: Call) -> Reply:
        return self._set_trashed(call, False)

    def _set_trashed(self, call: Call, trashed: bool) -> Reply:
        with self._state.writing():
            record = self.find(call, call.get("fileId"))
            self.check_etag(call, record)
            changed = self._with_trashed(call, record, trashed)
            return self.show(call, self._state.put_file(changed) if changed != record else record)

    def _with_trashed(self, call: Call, record: FileRecord, trashed: bool) -> FileRecord:
        if record.is_trashed == trashed:
            return record
        if self.role(record, call.account) < Role.FILE_ORGANIZER or record.is_root:
            raise not_permitted(record.id)
        if not trashed:
            return replace(record, is_trashed=False, trashed_at=None, trashed_by="")
        return replace(record, is_trashed=True, trashed_at=self._state.now_ms(), trashed_by=call.account)

    def touch(self, call: Call) -> Reply:
        with self._state.writing():
            record = self.find(call, call.get("fileId"), least=Role.WRITER)
            self.check_etag(call, record)
            touched = replace(record, modified_at=self._state.now_ms(), modified_by=call.account)
            return self.show(call, self._state.put_file(touched))

    def delete(self, call: Call) -> Reply:
        with self._state.writing():
            record = self.find(call, call.get("fileId"))
            self.check_etag(call, record)
            least = Role.ORGANIZER if record.drive_id else Role.OWNER
            if self.role(record, call.account) < least or record.is_root:
                raise not_permitted(record.id)
            self.remove(record)
            return None

    def remove(self, record: FileRecord) -> None:
        """Delete a file for good, and what its owner has in it if it is a folder.

        What others own in it stays theirs, and moves to their own My Drive.
        """
        for child_id in list(self._state.current.children.get(record.id, ())):
            child = self._state.current.files[child_id]
            if child.owner in ("", record.owner):
                self.remove(child)
            else:
                root = self._state.root_of(child.owner)
                self._state.put_file(replace(child, parents=(root.id,)))
        self._state.remove_file(record.id, audience=audience_of(self._state.current, record))

    def empty_trash(self, call: Call) -> Reply:
        with self._state.writing():
            drive_id = call.get("driveId") or ""
            if drive_id and self.role(self.find(call, drive_id), call.account) < Role.ORGANIZER:
                raise not_permitted(drive_id)
            for record in list(self._state.current.files.values()):
                is_ours = record.drive_id == drive_id if drive_id else record.owner == call.account
                if record.is_trashed and is_ours and record.id in self._state.current.files:
                    self.remove(record)
            return None

    def copy(self, call: Call) -> Reply:
        with self._state.writing():
            source = self.find(call, call.get("fileId"))
            role = self.role(source, call.account)
            if source.is_folder or (source.copy_requires_writer and role < Role.WRITER):
                raise Refusal(403, "cannotCopyFile", "This file cannot be copied by the user.")
            body = dict(call.body)
            if not body.get("parents"):
                here = self._state.current.files.get(source.parents[0]) if source.parents else None
                may_stay = here is not None and self.role(here, call.account) >= Role.WRITER
                body["parents"] = [{"id": here.id if here is not None and may_stay else "root"}]
            body["title"] = body.get("title") or f"Copy of {source.title}"
            body["mimeType"] = body.get("mimeType") or source.mime_type
            body["description"] = body.get("description") or source.description
            if source.shortcut_target:
                body["shortcutDetails"] = {"targetId": source.shortcut_target}
            shared = [
                {"key": one.key, "value": one.value, "visibility": one.visibility}
                for one in source.properties
                if one.visibility == "PUBLIC" or one.client == call.identity.client
            ]
            body["properties"] = [*shared, *(body.get("properties") or ())]
            media = None
            if source.head is not None:
                incoming = self._state.blobs.receive()
                incoming.discard()
                os.link(self._state.blobs.path_of(source.head.blob), incoming.path)
                media = Media(path=incoming.path, sums=_sums(source.head), mime_type=source.mime_type)
            try:
                return self.insert(replace(call, body=body, media=media))
            finally:
                if media is not None:
                    media.path.unlink(missing_ok=True)


def _sums(revision: Revision) -> Sums:
    return Sums(size_bytes=revision.size_bytes, md5=revision.md5, sha1=revision.sha1, sha256=revision.sha256)


def _asks_for_shared_drives(call: Call) -> bool:
    return "supportsAllDrives" in call.method.parameters


def _converted(mime_type: str) -> str:
    kind = mime_type.partition(";")[0].strip()
    if kind not in IMPORTS:
        raise Refusal(400, "badRequest", f"Conversion of the uploaded content is not supported: {kind}")
    return IMPORTS[kind]


def _time(body: Mapping[str, Any], name: str, default: int) -> int:
    return milliseconds(body[name]) if body.get(name) else default


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _byte_range(header: str | None, size: int) -> tuple[int, int] | tuple[()] | None:
    """Return the first and the last byte that are asked for; () where there are none; None: all."""
    if not header or not header.startswith("bytes=") or "," in header:
        return None
    first, dash, last = header[6:].strip().partition("-")
    if not dash or not (first or last) or not (first + last).isdigit():
        return None
    if not first:
        start, end = max(0, size - int(last)), size - 1
        return (start, end) if int(last) and size else ()
    start, end = int(first), min(int(last) if last else size - 1, size - 1)
    if last and int(last) < start:
        return None
    return (start, end) if start < size else ()
