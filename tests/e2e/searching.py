"""Looks for secrets in all that is below a folder, packed or not, by forms that are worked out here."""

from __future__ import annotations

import base64
import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, quote_plus


def needles(value: str) -> dict[str, bytes]:
    """What must be nowhere, by what it is."""
    content = value.encode()
    found = {"value": value, "quote": quote(value, safe=""), "quote_plus": quote_plus(value)}
    found |= {"json": json.dumps(value)[1:-1], "repr": repr(value)[1:-1], "hex": content.hex()}
    for before in range(3):
        whole = base64.b64encode(b"x" * before + content + b"x" * (-(before + len(content)) % 3)).decode()
        inner = whole[4 if before else 0 : -4]  # what no neighbour decides
        found[f"base64+{before}"] = inner
        found[f"base64url+{before}"] = inner.replace("+", "-").replace("/", "_")
    for number, line in enumerate(value.splitlines()):
        found[f"line {number}"] = line
    return {name: form.encode() for name, form in found.items()}


def found_below(folder: Path, *values: str) -> list[str]:
    """Which file holds what of these secrets; empty: none does."""
    found = []
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            found += [f"{file.relative_to(folder)}: {what}" for what in found_in(file.read_bytes(), *values)]
            found += [f"the name {file}: {what}" for what in found_in(file.name.encode(), *values)]
    return found


def found_in(content: bytes, *values: str) -> list[str]:
    """What of these secrets the bytes hold, unpacked where they are packed."""
    forms = {f"{number} {name}": form for number, v in enumerate(values) for name, form in needles(v).items()}
    return [name for piece in _pieces(content) for name, form in forms.items() if form in piece]


def _pieces(content: bytes, deep: int = 0) -> Iterator[bytes]:
    yield content
    if deep > 3:
        return
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            yield name.encode()
            yield from _pieces(archive.read(name), deep + 1)
    for unpack in (gzip.decompress, zlib.decompress):
        with suppress(OSError, EOFError, zlib.error):
            yield from _pieces(unpack(content), deep + 1)
    if content.lstrip()[:1] in (b"{", b"["):  # texts in JSON, as whoever reads it has them
        with suppress(ValueError):
            yield "\n".join(_texts(json.loads(content))).encode("utf-8", "replace")


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
        if all(isinstance(item, str) for item in value):
            yield "".join(value)
