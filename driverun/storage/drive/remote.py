"""One file, folder or shortcut as Drive describes it."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from driverun.values import frozen_value

FOLDER = "application/vnd.google-apps.folder"
SHORTCUT = "application/vnd.google-apps.shortcut"
_GOOGLE = "application/vnd.google-apps."

#: What is asked about every file; a listing without `fields` costs eight times the bytes.
FIELDS = (
    "id,title,mimeType,parents(id),fileSize,md5Checksum,sha256Checksum,createdDate,modifiedDate,version,"
    "labels(trashed),properties(key,value,visibility),shortcutDetails(targetId,targetMimeType),driveId,ownedByMe,"
    "lastModifyingUser(emailAddress,permissionId,isAuthenticatedUser)"
)

#: What is asked besides about one file that may be a root.
ROOT_FIELDS = f"{FIELDS},owners(emailAddress,permissionId,isAuthenticatedUser)"

#: Drive shows these in the browser; everything else is bytes to it.
_MIME_TYPES = {
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
    "jsonl": "text/plain",
    "md": "text/plain",
    "png": "image/png",
    "py": "text/plain",
    "txt": "text/plain",
    "yaml": "text/plain",
    "yml": "text/plain",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account of Google, as Drive names it to us."""

    email: str | None  #: in lower case; None: Drive hides it
    permission_id: str | None
    is_me: bool

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Account:
        return _account(
            fields.get("emailAddress"), fields.get("permissionId"), bool(fields.get("isAuthenticatedUser"))
        )

    @property
    def name(self) -> str | None:
        """One name of it."""
        return self.email or self.permission_id

    @property
    def names(self) -> frozenset[str]:
        """All names of it."""
        return frozenset(each for each in (self.email, self.permission_id) if each)


@cache  # a root has few, and each of its files names one
def _account(email: str | None, permission_id: str | None, is_me: bool) -> Account:
    return Account(
        email=email.lower() if email else None,
        permission_id=permission_id.lower() if permission_id else None,
        is_me=is_me,
    )


@frozen_value(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """What Drive said of it, at some time; `version` tells which of two such sayings is the younger."""

    file_id: str
    title: str
    mime_type: str
    parents: tuple[str, ...]  #: at most one, since 2020; none for what others share
    size_bytes: int | None  #: None for what has no bytes of its own
    md5: str | None  #: None where there is a better one
    sha256: str | None
    created_at: datetime
    modified_at: datetime
    version: int
    is_trashed: bool  #: itself, or a folder above it
    properties: Mapping[str, str]  #: the public ones
    target_id: str | None  #: of a shortcut
    target_type: str | None  #: of a shortcut: the mime type of what it points to
    drive_id: str | None  #: of the shared drive that it is in
    is_own: bool  #: owned by this account; False in a shared drive
    author: Account | None = None  #: who changed it last; None: nobody who was signed in
    owner: Account | None = None  #: None in a shared drive, or where ROOT_FIELDS were not asked for

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> RemoteFile:
        """Read a File of API v2, asked for with FIELDS. Raises KeyError, ValueError or TypeError if it is none.

        What many files have in common is in memory once: there may be tens of thousands of them.
        """
        sha256 = fields.get("sha256Checksum")
        shortcut = fields.get("shortcutDetails") or {}
        return cls(
            file_id=fields["id"],
            title=fields["title"],
            mime_type=sys.intern(fields["mimeType"]),
            parents=tuple(sys.intern(parent["id"]) for parent in fields.get("parents", ())),
            size_bytes=int(fields["fileSize"]) if "fileSize" in fields else None,
            md5=fields.get("md5Checksum") if sha256 is None else None,
            sha256=sha256,
            created_at=datetime.fromisoformat(fields["createdDate"]),
            modified_at=datetime.fromisoformat(fields["modifiedDate"]),
            version=int(fields.get("version", 0)),
            is_trashed=bool(fields.get("labels", {}).get("trashed")),
            properties={
                sys.intern(each["key"]): each.get("value", "")
                for each in fields.get("properties", ())
                if each.get("visibility", "PUBLIC") == "PUBLIC"
            },
            target_id=shortcut.get("targetId"),
            target_type=shortcut.get("targetMimeType"),
            drive_id=fields.get("driveId"),
            is_own=bool(fields.get("ownedByMe")),
            author=Account.parse(fields["lastModifyingUser"]) if fields.get("lastModifyingUser") else None,
            owner=Account.parse(fields["owners"][0]) if fields.get("owners") else None,
        )

    @property
    def is_folder(self) -> bool:
        return self.mime_type == FOLDER

    @property
    def is_shortcut(self) -> bool:
        return self.mime_type == SHORTCUT

    @property
    def is_google_document(self) -> bool:
        """A Doc, Sheet, Form and so on: it can be exported, but has no bytes."""
        return self.mime_type.startswith(_GOOGLE) and not (self.is_folder or self.is_shortcut)

    @property
    def age_rank(self) -> tuple[datetime, str]:
        """The oldest of several has the least."""
        return self.created_at, self.file_id


def mime_type_for(title: str) -> str:
    """What to tell Drive that a file of this name is, so that a person can look at it in the browser."""
    return _MIME_TYPES.get(title.rpartition(".")[2].lower(), "application/octet-stream")


def name_key(title: str) -> str:
    """Equal for names that look the same: one that a Mac wrote decomposed is found composed, and back."""
    return unicodedata.normalize("NFC", title)
