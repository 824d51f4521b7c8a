"""Several calls in one request: `multipart/mixed`, each part a request of its own.

See https://developers.google.com/drive/api/guides/performance#batch-requests; media cannot be sent so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP

from driverun.testing.drive_emulator.refusals import Refusal

#: Calls in one batch (https://developers.google.com/drive/api/guides/performance#batch-requests).
MAX_CALLS = 100
BOUNDARY = "batch_driverun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One call of a batch."""

    content_id: str
    verb: str
    target: str
    headers: Mapping[str, str]
    body: bytes


def read_batch(body: bytes, content_type: str) -> list[Part]:
    """Return the calls of a batch.

    Raises:
        Refusal: 400, it is none, or too large.
    """
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", errors="replace")
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    if message.get_content_type() != "multipart/mixed" or not message.is_multipart():
        raise Refusal(400, "badRequest", "Failed to parse batch request, error: no multipart/mixed.")
    parts = [
        _part(part.get_payload(decode=True), part.get("Content-ID", "")) for part in message.iter_parts()
    ]
    if len(parts) > MAX_CALLS:
        raise Refusal(400, "batchSizeTooLarge", f"The batch has more than {MAX_CALLS} calls.")
    return parts


def _part(payload: object, content_id: str) -> Part:
    if not isinstance(payload, bytes):
        raise Refusal(400, "badRequest", "Failed to parse batch request, error: a part is no request.")
    first, _, rest = payload.lstrip().partition(b"\n")
    words = first.decode("latin-1").split()
    if len(words) < 2:
        raise Refusal(400, "badRequest", "Failed to parse batch request, error: a part is no request.")
    message = BytesParser(policy=HTTP).parsebytes(rest)
    content = message.get_payload(decode=True)
    return Part(
        content_id=str(content_id),
        verb=words[0],
        target=words[1],
        headers={name.lower(): str(value) for name, value in message.items()},
        body=content.strip() if isinstance(content, bytes) else b"",
    )


def write_batch(answers: list[tuple[str, int, Mapping[str, str], bytes]]) -> bytes:
    """Return the body that holds the answers: content id, status, headers and body of each."""
    lines: list[bytes] = []
    for content_id, status, headers, body in answers:
        lines += [f"--{BOUNDARY}".encode(), b"Content-Type: application/http"]
        if content_id:
            lines.append(f"Content-ID: <response-{content_id.strip('<>')}>".encode())
        lines += [b"", f"HTTP/1.1 {status} {'OK' if status < 300 else 'Error'}".encode()]
        lines += [f"{name}: {value}".encode() for name, value in headers.items()]
        lines += [f"Content-Length: {len(body)}".encode(), b"", body]
    return b"\r\n".join([*lines, f"--{BOUNDARY}--".encode(), b""])
