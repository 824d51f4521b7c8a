"""Relative paths as job files write them, kept inside the place that they belong to."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

from driverun.errors import UnsafePath

MAX_PATH_LENGTH = 1024
_JOINERS = "\u200c\u200d"  # of scripts and of emoji
_MAX_PART_BYTES = 255  # the longest name that ext4, APFS and NTFS take

#: What `relative_path` demands, as the head of a pattern for the JSON Schema.
RELATIVE_PATTERN = (
    r"(?!\s)(?!.*\s$)"  # no blanks around it
    r"(?!/)(?!~)(?![A-Za-z]:)"  # not absolute, in no way of writing it
    r"(?!.*[\\\x00-\x1f\x7f])"  # one separator; nothing invisible
    r"(?!(?:.*/)?\.\.(?:/|$))"  # never upwards
    r"(?!(?:\.?/)*\.?$)"  # never the place itself
)


#: Names that Windows keeps for devices, whatever comes after a dot.
_DEVICES = re.compile(r"(?i)(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]) *(?:\..*)?")
_NOT_ON_WINDOWS = re.compile(r'[<>:"|?*]')


def name_fault(name: str) -> str | None:
    """Why this name of a file or folder is not to be used everywhere, or cannot be trusted to look like what it is."""
    hidden = next(
        (char for char in name if unicodedata.category(char) == "Cf" and char not in _JOINERS), None
    )
    if hidden is not None:
        return f"holds the invisible character U+{ord(hidden):04X}, which can make it look like another"
    if _DEVICES.fullmatch(name):
        return "is what Windows calls a device, so no file there can have this name"
    if name.endswith((".", " ")):
        return f"ends with a {'dot' if name.endswith('.') else 'blank'}, which Windows leaves away"
    if found := _NOT_ON_WINDOWS.search(name):
        return f"has a {found[0]} in it, which Windows allows in no name"
    return None


def path_faults(paths: Iterable[str]) -> Iterator[str]:
    """What is wrong with the names of these files, which lie in one folder, for people: one sentence each."""
    told: set[str] = set()
    alike: dict[str, str] = {}
    for path in sorted(paths):
        for name in path.split("/"):
            fault = name_fault(name)
            if fault is not None and name not in told:
                told.add(name)
                yield f"the name {name!r} {fault}; rename it"
        other = alike.setdefault(same_file_key(path), path)
        if other != path:
            yield f"{other!r} and {path!r} are one file on macOS and on Windows; rename one of them"


def same_file_key(path: str) -> str:
    """Equal for paths that are one file where capitals, or ways to write accents, make no difference."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def storable_name(path: str) -> str:
    """`path` as a root can hold it, where a script has called a file what it likes.

    Backslashes, control characters and what is not Unicode are written as %5C; what grows too long by that is cut.
    """
    return "/".join(_storable_part(part) for part in path.split("/"))


def _storable_part(part: str) -> str:
    escaped = "".join(
        f"%{ord(char) & 0xFF:02X}"
        if char == "\\" or ord(char) < 32 or ord(char) == 127 or "\ud800" <= char <= "\udfff"
        else char
        for char in part
    )
    if len(escaped.encode()) <= _MAX_PART_BYTES:
        return escaped
    head = escaped.encode()[: _MAX_PART_BYTES - 13].decode(errors="ignore")
    return f"{head}-{hashlib.sha256(os.fsencode(part)).hexdigest()[:12]}"


@lru_cache(maxsize=1024)  # the paths of ten thousand runs are those of a few jobs
def relative_path(text: str) -> str:
    """Return `text` as a relative path with `/` between its parts and without `.`, `//` or a closing `/`.

    Raises:
        UnsafePath: it is absolute, climbs out with `..`, names nothing, or cannot be a path on every system.
    """
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise UnsafePath(f"{text!r} holds a control character, which no file name should")
    if "\\" in text:
        raise UnsafePath(f"{text!r} has a backslash: write / between folders, on Windows too")
    if text.startswith(("/", "~")) or re.match(r"[A-Za-z]:", text):
        raise UnsafePath(f"{text!r} is an absolute path: write one that is relative, such as data/train.npz")
    if text != text.strip():
        raise UnsafePath(f"{text!r} begins or ends with a blank")
    if len(text) > MAX_PATH_LENGTH:
        raise UnsafePath(f"the path is {len(text)} characters long; {MAX_PATH_LENGTH} is the most")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UnsafePath(f"{text!r} leads out of its folder: a path may not hold ..")
    if not parts:
        raise UnsafePath(f"{text!r} names no file or folder")
    if any(len(part.encode()) > _MAX_PART_BYTES for part in parts):
        raise UnsafePath(f"a name in the path is longer than {_MAX_PART_BYTES} bytes")
    return "/".join(parts)
