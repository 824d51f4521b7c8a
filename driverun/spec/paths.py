"""Relative paths as job files write them, kept inside the place that they belong to."""

from __future__ import annotations

import re

from driverun.errors import UnsafePath

MAX_PATH_LENGTH = 1024
_MAX_PART_BYTES = 255  # the longest name that ext4, APFS and NTFS take

#: What `relative_path` demands, as the head of a pattern for the JSON Schema.
RELATIVE_PATTERN = (
    r"(?!\s)(?!.*\s$)"  # no blanks around it
    r"(?!/)(?!~)(?![A-Za-z]:)"  # not absolute, in no way of writing it
    r"(?!.*[\\\x00-\x1f\x7f])"  # one separator; nothing invisible
    r"(?!(?:.*/)?\.\.(?:/|$))"  # never upwards
    r"(?!(?:\.?/)*\.?$)"  # never the place itself
)


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
