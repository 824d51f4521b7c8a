"""State cut into pieces small enough to be recognised when they come again.

Every tensor and every file is cut from its own offset 0, so that one that did not change gives the same
chunks wherever it lies. Tensors change as a whole or not at all, so cutting by content would find no more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from io import BufferedReader

CHUNK_BYTES = 4 << 20


def cut(content: memoryview) -> Generator[tuple[memoryview, str], None, None]:
    """The chunks of `content` in order, as views that share its memory, each with its sha256.

    All are CHUNK_BYTES long but the last; of nothing there are none. A view is valid until the next one is
    asked for.
    """
    for start in range(0, len(content), CHUNK_BYTES):
        with content[start : start + CHUNK_BYTES] as chunk:
            yield chunk, hashlib.sha256(chunk).hexdigest()


def cut_file(file: BufferedReader) -> Generator[tuple[memoryview, str], None, None]:
    """The same for what is left to read of `file`.

    Files are read, not mapped: a mapped file that someone truncates kills the process that looks at it.
    """
    with memoryview(bytearray(CHUNK_BYTES)) as buffer:
        while size_bytes := file.readinto(buffer):
            with buffer[:size_bytes] as chunk:
                yield chunk, hashlib.sha256(chunk).hexdigest()
