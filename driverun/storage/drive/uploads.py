"""Bytes on their way to Drive in pieces, taken up again where Drive says it stands.

The protocol: developers.google.com/drive/api/guides/manage-uploads. A session lives for about a week.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from driverun.storage.drive.errors import DriveRefusal, Kind, answer_of, foreign_errors, verdict
from driverun.storage.drive.localfiles import LocalBytes, Window
from driverun.storage.drive.transport import DriveTransport

SMALL_BYTES = 5_000_000  #: up to here one request does it all
#: Of one request of a session, in multiples of 256 KiB, as Drive demands. Each that gets through makes the next longer,
#: so that a large file is not held up by round trips, and a bad line does not have to send much again.
FIRST_CHUNK_BYTES = 16 << 20
LONGEST_CHUNK_BYTES = 1 << 30
_GROWTH = 4


class SessionLost(Exception):
    """Drive knows nothing of the session; what it had of the bytes is gone."""


class UploadSession:
    """One file on its way. For one thread at a time; after a failure, `send` may be called again."""

    def __init__(self, transport: DriveTransport, address: str, size_bytes: int) -> None:
        self._transport = transport
        self._address = address
        self._size_bytes = size_bytes
        self._position: int | None = 0  # how many bytes Drive has; None: to be asked
        self._chunk_bytes = FIRST_CHUNK_BYTES
        self._told = 0  # how many it had when `send` failed last

    def send(self, source: LocalBytes) -> Mapping[str, Any]:
        """Send what Drive does not have yet of `source`; the file as Drive describes it in the end.

        Raises:
            DriveRefusal: `made_progress` says whether Drive has more now than after the last failure.
            SessionLost: begin another.
        """
        try:
            while True:
                done = self._ask() if self._position is None else self._send_chunk(source, self._position)
                if done is not None:
                    return done
        except DriveRefusal as exc:
            confirmed = self._position or 0
            self._position = None
            self._chunk_bytes = FIRST_CHUNK_BYTES
            exc.made_progress = confirmed > self._told
            self._told = max(self._told, confirmed)
            raise

    def _send_chunk(self, source: LocalBytes, position: int) -> Mapping[str, Any] | None:
        length = min(self._chunk_bytes, self._size_bytes - position)
        end = position + length
        headers = {
            "content-length": str(length),
            "content-range": f"bytes {position}-{end - 1}/{self._size_bytes}",
        }
        done = self._put(headers, Window(source, position, length))
        self._chunk_bytes = min(_GROWTH * self._chunk_bytes, LONGEST_CHUNK_BYTES)
        return done

    def _ask(self) -> Mapping[str, Any] | None:
        return self._put({"content-length": "0", "content-range": f"bytes */{self._size_bytes}"}, None)

    def _put(self, headers: dict[str, str], body: Window | None) -> Mapping[str, Any] | None:
        answer, content = self._transport.request(self._address, method="PUT", body=body, headers=headers)
        if answer.status == 308:
            received = re.fullmatch(r"bytes=0-(\d+)", answer.get("range", ""))
            self._position = int(received[1]) + 1 if received else 0
            return None
        if answer.status in (200, 201):
            with foreign_errors():
                fields = json.loads(content)
                if not isinstance(fields, dict):
                    raise ValueError("not an object")
                return fields
        if answer.status in (404, 410):
            raise SessionLost
        refusal = verdict(answer_of(answer, content))
        if refusal.kind is Kind.FAULTY:  # what the session holds does not fit together any more
            raise SessionLost from refusal
        raise refusal
