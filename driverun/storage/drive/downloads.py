"""Bytes on their way from Drive into a local file: in one stream, or in several at once where they are many."""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from driverun.storage.drive.errors import DriveRefusal, Kind, foreign_errors
from driverun.storage.drive.transport import DriveTransport

RANGE_BYTES = 32 << 20
STREAMS = 4  #: at once, for one file; one connection to Google is slower than most lines
_BLOCK_BYTES = 1 << 20


class Digest(Protocol):
    """A checksum in the making, as hashlib has them."""

    def update(self, block: bytes | memoryview, /) -> None:
        """Take in what comes next."""


def fetch(
    transport: DriveTransport, address: str, size_bytes: int, file: io.BufferedRandom, digest: Digest
) -> None:
    """Write the bytes at `address` into `file`, from its beginning, and take their digest.

    A stream that breaks is taken up where it broke, as long as each one brings something.

    Raises:
        DriveRefusal: nothing came; or it is CHANGED, there are not `size_bytes` of them.
        OSError: the local file cannot be written.
    """
    if size_bytes == 0:
        return
    starts = range(0, size_bytes, RANGE_BYTES)
    if len(starts) == 1:
        _fetch_range(transport, address, 0, size_bytes, size_bytes, file.fileno(), digest)
        return
    file.truncate(size_bytes)
    stopped = threading.Event()

    def fetch_part(start: int) -> None:
        if stopped.is_set():
            return
        try:
            end = min(start + RANGE_BYTES, size_bytes)
            _fetch_range(transport, address, start, end, size_bytes, file.fileno(), None)
        except BaseException:
            stopped.set()
            raise

    with ThreadPoolExecutor(min(STREAMS, len(starts)), thread_name_prefix="download") as threads:
        parts = [(start, threads.submit(fetch_part, start)) for start in starts]
        for start, done in parts:  # digested in their order, while the later ones still come
            done.result()
            _digest_range(file.fileno(), start, min(start + RANGE_BYTES, size_bytes), digest)


def _fetch_range(
    transport: DriveTransport,
    address: str,
    start: int,
    end: int,
    size_bytes: int,
    descriptor: int,
    digest: Digest | None,
) -> None:
    position = start
    while position < end:
        before = position
        try:
            is_whole = (position, end) == (0, size_bytes)
            headers = {} if is_whole else {"range": f"bytes={position}-{end - 1}"}
            with transport.stream(address, headers) as answer:
                if not is_whole and answer.status != 206:
                    raise DriveRefusal(Kind.FAILING, "Drive sent the whole file where a part was wanted")
                _check_size(answer.headers, is_whole, size_bytes)
                while position < end:
                    with foreign_errors():
                        block = answer.read(min(_BLOCK_BYTES, end - position))
                    if not block:
                        raise DriveRefusal(Kind.LOST, "the connection ended before the file did")
                    _write_at(descriptor, block, position)
                    if digest is not None:
                        digest.update(block)
                    position += len(block)
        except DriveRefusal as exc:
            if exc.kind is not Kind.LOST or position == before:
                raise


def _check_size(headers: Mapping[str, str], is_whole: bool, size_bytes: int) -> None:
    if is_whole:
        told = headers.get("content-length")
    else:
        total = re.fullmatch(r"bytes \d+-\d+/(\d+)", headers.get("content-range", ""))
        told = total[1] if total else None
    if told is not None and int(told) != size_bytes:
        raise DriveRefusal(Kind.CHANGED, f"it has {told} bytes, and {size_bytes} were expected")


def _digest_range(descriptor: int, start: int, end: int, digest: Digest) -> None:
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    while start < end:
        count = os.preadv(descriptor, [buffer[: end - start]], start)
        digest.update(buffer[:count])
        start += count


def _write_at(descriptor: int, block: bytes, position: int) -> None:
    rest = memoryview(block)
    while rest:
        written = os.pwrite(descriptor, rest, position)
        rest, position = rest[written:], position + written
