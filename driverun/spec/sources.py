"""Where the data of a job come from: a path on the root, something on Drive, or an address."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from driverun.errors import UnsafePath
from driverun.spec.paths import RELATIVE_PATTERN, relative_path

#: What driverun unpacks, by the ends of names.
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]+:"
_ID = r"[A-Za-z0-9_-]{10,}"
#: What the ids of files look like; those of files that are older begin with 0B.
_BARE_ID = r"(?:1[A-Za-z0-9_-]{32}|0B[A-Za-z0-9_-]{26})"
_DRIVE_HOST = r"https?://(?:drive|drive\.usercontent|docs)\.google\.com/"
#: `file/d/ID/view`, `drive/folders/ID`, `drive/u/0/folders/ID`; `open?id=ID`, `uc?export=download&id=ID`.
_LINK_BY_PATH = rf"{_DRIVE_HOST}(?:[^?#\s]*/)?(?:file/d|file/u/[0-9]+/d|folders)/({_ID})(?:[/?#]\S*)?"
_LINK_BY_QUERY = (
    rf"{_DRIVE_HOST}(?!(?:[^?#\s]*/)?(?:d|folders)/)[^?#\s]*\?(?:[^#\s]*&)?id=({_ID})(?:[&#]\S*)?"
)
_RESOURCE_KEY = re.compile(r"[?&]resourcekey=([A-Za-z0-9_-]+)", re.IGNORECASE)
#: An address for fsspec: not of this machine's own files, which another machine does not have; without a
#: password, because the source is stored on the root in plain text.
_ADDRESS = (
    rf"(?!(?:file|local|gdrive|drive):)(?!{_DRIVE_HOST})"
    r"[A-Za-z][A-Za-z0-9+.-]*://(?![^/?#]*@)[^\s/](?:[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?"
)

#: What `read_source` accepts, one of them, as patterns for the JSON Schema.
SOURCE_PATTERNS = (
    rf"^(?!{_SCHEME})(?!{_BARE_ID}$){RELATIVE_PATTERN}.+$",
    f"^{_BARE_ID}$",
    f"^{_LINK_BY_PATH.replace('(' + _ID + ')', _ID)}$",
    f"^{_LINK_BY_QUERY.replace('(' + _ID + ')', _ID)}$",
    f"^{_ADDRESS}$",
)

_CANONICAL_LINK = "https://drive.google.com/open?id="


class SourceKind(enum.Enum):
    PATH = "path"  #: a file or folder of the root
    DRIVE = "drive"  #: a file or folder of Drive, wherever it is, by its id
    ADDRESS = "address"  #: what fsspec opens: https, gs, s3, hf ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveLink:
    """A file or folder of Drive that somebody shared."""

    file_id: str
    resource_key: str | None = None  #: links to what was shared before September 2021 need it

    def __str__(self) -> str:
        """The address that opens it in a browser; one way to write each link."""
        key = f"&resourcekey={self.resource_key}" if self.resource_key is not None else ""
        return f"{_CANONICAL_LINK}{self.file_id}{key}"


def read_source(text: str) -> str:
    """Return the one way to write the source `text`: a clean path, a Drive link, or an address as it is.

    Raises:
        ValueError: it is none of them; the message says what to write.
    """
    link = read_drive_link(text)
    if link is not None:
        return str(link)
    if re.match(_SCHEME, text):
        return _address(text)
    try:
        return relative_path(text)
    except UnsafePath as error:
        raise ValueError(str(error)) from error


def read_drive_link(text: str) -> DriveLink | None:
    """The file or folder that a Drive id or a link to Drive means; None for anything else."""
    if re.fullmatch(_BARE_ID, text):
        return DriveLink(file_id=text)
    found = re.fullmatch(_LINK_BY_PATH, text) or re.fullmatch(_LINK_BY_QUERY, text)
    if found is None:
        return None
    key = _RESOURCE_KEY.search(text)
    return DriveLink(file_id=found[1], resource_key=key[1] if key is not None else None)


def kind_of(source: str) -> SourceKind:
    """What a source is that `read_source` returned."""
    if source.startswith(_CANONICAL_LINK):
        return SourceKind.DRIVE
    return SourceKind.ADDRESS if re.match(_SCHEME, source) else SourceKind.PATH


def name_of(source: str) -> str:
    """The name of the file or folder that a source means; empty where the source does not tell."""
    match kind_of(source):
        case SourceKind.PATH:
            return source.rsplit("/", 1)[-1]
        case SourceKind.ADDRESS:
            path = source.rsplit("::", 1)[-1].partition("://")[2]
            if re.match(r"https?:", source):
                path = unquote(urlsplit(source).path.lstrip("/"))
            last = path.rstrip("/").rsplit("/", 1)[-1]
            try:
                return relative_path(last)
            except UnsafePath:
                return ""
        case _:
            return ""


def is_archive(name: str) -> bool:
    """Whether the name is that of an archive that driverun unpacks."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def without_suffix(name: str) -> str:
    """The name of an archive without its suffix, under which its content lands; any other name as it is."""
    for suffix in sorted(ARCHIVE_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def _address(text: str) -> str:
    if re.match(_DRIVE_HOST, text):
        raise ValueError(
            f"{text!r} is no link to a file or a folder with bytes of its own. Take the link that Share > Copy "
            "link gives, such as https://drive.google.com/file/d/ID/view; a Google document has to be "
            "downloaded as a file and uploaded first"
        )
    if re.match(r"(?:gdrive|drive):", text):
        raise ValueError(
            f"{text!r} is an address of a root: write the path beneath this root, a Drive id or a share link"
        )
    if re.match(r"(?:file|local):", text):
        raise ValueError(
            f"{text!r} is on this machine alone: `driverun upload` puts it into the root; name its path there"
        )
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*@", text):
        raise ValueError(
            f"{text.partition('://')[0]}://... holds a password or a user, which would be stored on the root "
            "for all to read; set it up where the worker runs"
        )
    if not re.fullmatch(_ADDRESS, text):
        raise ValueError(
            f"{text!r} is neither a path nor an address such as https://host/file.csv or gs://bucket/folder"
        )
    return text
