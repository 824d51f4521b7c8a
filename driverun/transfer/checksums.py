"""SHA-256 of files, here and on the root."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from driverun.storage.base import ObjectInfo, ObjectStore

CHUNK_BYTES = 1 << 20


class Sink(Protocol):
    """Something that takes bytes; a member of an archive does, and so does an open file."""

    def write(self, chunk: bytes, /) -> object: ...


def sha256_of(content: bytes | Path) -> str:
    """Hex digest of the bytes, or of the bytes of the file."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_hashed(source: IO[bytes], sink: Sink) -> tuple[str, int]:
    """Copy `source` from where it stands to its end; return the digest and the length of what was copied."""
    digest, size_bytes = hashlib.sha256(), 0
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        size_bytes += len(chunk)
        sink.write(chunk)
    return digest.hexdigest(), size_bytes


def stored_sha256(store: ObjectStore, info: ObjectInfo) -> str:
    """Digest of the object as it is on the root, downloaded where the store keeps none.

    Raises:
        ObjectNotFound: it is gone.
    """
    if info.sha256 is not None:
        return info.sha256
    with tempfile.TemporaryDirectory(prefix="driverun-") as folder:
        file = Path(folder, "object")
        return store.download(info.path, file).sha256 or sha256_of(file)


def digest_of(content: Mapping[str, Any]) -> str:
    """The sha256 of a JSON object, whatever the order of its fields, by which a manifest vouches for itself."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
