"""What the emulator knows of a file, a shared drive and a change, as values.

Times are whole milliseconds since 1970 in UTC. Every value has a form in JSON, in which it lies on disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

FOLDER = "application/vnd.google-apps.folder"
SHORTCUT = "application/vnd.google-apps.shortcut"
GOOGLE_PREFIX = "application/vnd.google-apps."


def rfc3339(time_ms: int) -> str:
    """Return a time as Drive writes it, with three decimals."""
    moment = datetime.fromtimestamp(time_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"


def milliseconds(text: str) -> int:
    """Return the time that an RFC 3339 text gives."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    key: str
    value: str
    visibility: str  #: PUBLIC or PRIVATE
    client: str = ""  #: the OAuth client that a private one belongs to


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """Who may do what with an item."""

    id: str
    type: str  #: user, group, domain or anyone
    role: str  #: owner, organizer, fileOrganizer, writer, commenter or reader
    value: str = ""  #: the address or the domain
    with_link: bool = False
    expires_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One content of a file."""

    id: str
    blob: str  #: the name of its bytes
    size_bytes: int
    md5: str
    sha1: str
    sha256: str
    mime_type: str
    modified_at: int
    modified_by: str
    original_filename: str = ""
    is_pinned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A file, a folder, a shortcut or a Google document."""

    id: str
    title: str
    mime_type: str
    owner: str  #: an e-mail; empty for what lies in a shared drive
    created_at: int
    modified_at: int
    modified_by: str
    parents: tuple[str, ...] = ()
    drive_id: str = ""
    description: str = ""
    version: int = 1
    is_trashed: bool = False  #: by itself; what lies in a trashed folder is trashed too
    trashed_at: int | None = None
    trashed_by: str = ""
    starred_by: tuple[str, ...] = ()
    viewed_at: tuple[tuple[str, int], ...] = ()  #: by whom, and when last
    shared_at: tuple[tuple[str, int, str], ...] = ()  #: with whom, when, and by whom
    properties: tuple[Property, ...] = ()
    permissions: tuple[Permission, ...] = ()
    revisions: tuple[Revision, ...] = ()  #: the last one is the head
    original_filename: str = ""
    shortcut_target: str = ""
    shortcut_mime_type: str = ""
    folder_color: str = ""
    indexable_text: str = ""
    writers_can_share: bool = True
    copy_requires_writer: bool = False
    space: str = "drive"  #: or appDataFolder
    is_root: bool = False

    @property
    def is_folder(self) -> bool:
        return self.mime_type == FOLDER

    @property
    def is_google_document(self) -> bool:
        return self.mime_type.startswith(GOOGLE_PREFIX) and self.mime_type not in (FOLDER, SHORTCUT)

    @property
    def has_content(self) -> bool:
        """Whether its bytes can be downloaded as they are."""
        return bool(self.revisions) and not self.mime_type.startswith(GOOGLE_PREFIX)

    @property
    def head(self) -> Revision | None:
        return self.revisions[-1] if self.revisions else None

    @property
    def quota_bytes(self) -> int:
        """What counts against the owner's storage: the head, and what is pinned."""
        if not self.has_content:
            return 0
        return sum(
            revision.size_bytes
            for number, revision in enumerate(self.revisions, start=1)
            if revision.is_pinned or number == len(self.revisions)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveRecord:
    """A shared drive. Its members are the permissions of its root folder, which has the same id."""

    id: str
    name: str
    created_at: int
    request_id: str = ""
    created_by: str = ""
    color: str = ""
    theme_id: str = ""
    hidden_by: tuple[str, ...] = ()
    restrictions: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRecord:
    """That a file, or a shared drive, became something else."""

    id: int
    at: int
    file_id: str = ""
    drive_id: str = ""  #: of the drive itself, or in which the file lies
    is_drive: bool = False
    is_removed: bool = False
    audience: tuple[str, ...] = ()  #: of a removed file: who could see it


def to_json(record: Any) -> Any:
    """Return a record as what JSON can hold, without what stands at its default."""
    if isinstance(record, tuple):
        return [to_json(item) for item in record]
    if not hasattr(record, "__dataclass_fields__"):
        return record
    kept = {}
    for entry in fields(record):
        value = getattr(record, entry.name)
        if value != entry.default:
            kept[entry.name] = to_json(value)
    return kept


def file_from_json(given: dict[str, Any]) -> FileRecord:
    given = dict(given)
    for name, kind in (("properties", Property), ("permissions", Permission), ("revisions", Revision)):
        given[name] = tuple(kind(**item) for item in given.get(name, ()))
    for name in ("parents", "starred_by"):
        given[name] = tuple(given.get(name, ()))
    for name in ("viewed_at", "shared_at"):
        given[name] = tuple(tuple(item) for item in given.get(name, ()))
    return FileRecord(**given)


def drive_from_json(given: dict[str, Any]) -> DriveRecord:
    return DriveRecord(**{**given, "hidden_by": tuple(given.get("hidden_by", ()))})


def change_from_json(given: dict[str, Any]) -> ChangeRecord:
    return ChangeRecord(**{**given, "audience": tuple(given.get("audience", ()))})
