"""Where two versions of an output file first differ."""

from __future__ import annotations

import io
import json
import zipfile
from itertools import zip_longest

_SHOWN = 80  # characters of a line


def content_difference(path: str, a: bytes, b: bytes) -> str | None:
    """What differs, in one line; None where it is nothing but the time at which it was saved."""
    if a == b:
        return None
    if path.endswith(".keras"):
        members_a, members_b = _members(a), _members(b)
        if members_a is not None and members_b is not None:
            return _archive_difference(members_a, members_b)
    text_a, text_b = _text(a), _text(b)
    if text_a is not None and text_b is not None:
        return _text_difference(text_a, text_b)
    return _binary_difference(a, b)


def _text_difference(a: str, b: str) -> str:
    # Not splitlines(): it would take a form feed, or a line separator in a string, for the end of a line.
    lines = zip_longest(a.split("\n"), b.split("\n"))
    for number, (one, other) in enumerate(lines, start=1):
        if one != other:
            return f"line {number} differs: {_shown(one)} against {_shown(other)}"
    raise AssertionError("texts that differ have a line that does")


def _binary_difference(a: bytes, b: bytes) -> str:
    place = _first_differing_byte(a, b)
    sizes = "" if len(a) == len(b) else f" ({len(a):,} bytes against {len(b):,})"
    if place == min(len(a), len(b)):
        return f"one is the beginning of the other{sizes}"
    return f"differs from byte {place:,} on: {a[place]:#04x} against {b[place]:#04x}{sizes}"


def _first_differing_byte(a: bytes, b: bytes) -> int:
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] != b[low:middle]:
            high = middle
        else:
            low = middle
    return low


def _archive_difference(a: dict[str, bytes], b: dict[str, bytes]) -> str | None:
    for name in sorted({*a, *b}):
        if name not in a or name not in b:
            return f"{name} is in the {'first' if name in a else 'second'} alone"
        if a[name] != b[name]:
            found = content_difference(name, a[name], b[name])
            return f"{name}: {found}"
    return None


def _members(content: bytes) -> dict[str, bytes] | None:
    """What a `.keras` archive holds, less the moment it was saved; None where it is no archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError):
        return None
    try:
        metadata = json.loads(members.get("metadata.json", b""))
        metadata.pop("date_saved", None)
        members["metadata.json"] = json.dumps(metadata, sort_keys=True).encode()
    except (ValueError, AttributeError):
        pass  # compared as it stands
    return members


def _text(content: bytes) -> str | None:
    if b"\0" in content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _shown(line: str | None) -> str:
    if line is None:
        return "no such line"
    return repr(line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}...")
