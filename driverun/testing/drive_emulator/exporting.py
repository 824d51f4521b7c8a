"""Google's own kinds of documents, made of plain text, for they have no bytes to download.

What is exported is of the right kind for whoever looks at its first bytes, and holds the document's text;
it is no more than that. The targets are those that `about.get` of Drive lists.
"""

from __future__ import annotations

import html
import io
import zipfile
from collections.abc import Mapping

from driverun.testing.drive_emulator.records import GOOGLE_PREFIX

DOCUMENT = GOOGLE_PREFIX + "document"
SPREADSHEET = GOOGLE_PREFIX + "spreadsheet"
PRESENTATION = GOOGLE_PREFIX + "presentation"
DRAWING = GOOGLE_PREFIX + "drawing"
_OFFICE = "application/vnd.openxmlformats-officedocument."
_OPEN = "application/vnd.oasis.opendocument."

EXPORTS: Mapping[str, tuple[str, ...]] = {
    DOCUMENT: (
        "text/plain",
        "text/html",
        "text/markdown",
        "application/pdf",
        "application/rtf",
        "application/zip",
        "application/epub+zip",
        _OFFICE + "wordprocessingml.document",
        _OPEN + "text",
    ),
    SPREADSHEET: (
        "text/csv",
        "text/tab-separated-values",
        "application/pdf",
        "application/zip",
        _OFFICE + "spreadsheetml.sheet",
        _OPEN + "spreadsheet",
    ),
    PRESENTATION: (
        "text/plain",
        "application/pdf",
        _OFFICE + "presentationml.presentation",
        _OPEN + "presentation",
    ),
    DRAWING: ("image/svg+xml", "image/png", "image/jpeg", "application/pdf"),
}

#: What an upload with `convert=true` becomes, by the kind that is sent.
IMPORTS: Mapping[str, str] = {
    "text/plain": DOCUMENT,
    "text/html": DOCUMENT,
    "application/rtf": DOCUMENT,
    _OFFICE + "wordprocessingml.document": DOCUMENT,
    "text/csv": SPREADSHEET,
    "text/tab-separated-values": SPREADSHEET,
    _OFFICE + "spreadsheetml.sheet": SPREADSHEET,
    _OFFICE + "presentationml.presentation": PRESENTATION,
}


def export(content: bytes, source: str, target: str) -> bytes:
    """Return a document's text as `target`; plain text from a document begins with a byte order mark."""
    text = content.decode("utf-8", errors="replace")
    if target == "text/plain":
        return (
            ("\ufeff" + text.replace("\r\n", "\n").replace("\n", "\r\n")).encode()
            if source == DOCUMENT
            else text.encode()
        )
    if target in ("text/csv", "text/tab-separated-values", "text/markdown"):
        return text.encode()
    if target == "text/html":
        return f"<html><head></head><body><p>{html.escape(text)}</p></body></html>".encode()
    if target == "application/pdf":
        return b"%PDF-1.4\n% " + text.replace("\n", "\n% ").encode() + b"\n%%EOF\n"
    if target == "application/rtf":
        return b"{\\rtf1\\ansi " + text.encode("ascii", errors="replace") + b"}"
    if target == "image/svg+xml":
        return f'<svg xmlns="http://www.w3.org/2000/svg"><text>{html.escape(text)}</text></svg>'.encode()
    if target == "image/png":
        return b"\x89PNG\r\n\x1a\n" + text.encode()
    if target == "image/jpeg":
        return b"\xff\xd8\xff" + text.encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        entry = zipfile.ZipInfo("content.txt", date_time=(1980, 1, 1, 0, 0, 0))
        archive.writestr(entry, text)
    return packed.getvalue()
