"""Make an object on the root hold given bytes, however often it is tried."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from driverun.errors import IntegrityError, ObjectExists, ObjectNotFound
from driverun.storage.base import ObjectInfo, ObjectStore
from driverun.transfer.checksums import sha256_of, stored_sha256


class Outcome(enum.Enum):
    """What it took."""

    CREATED = "created"
    EQUAL = "equal"  #: it held those very bytes
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An object that holds the bytes it was meant to hold."""

    info: ObjectInfo
    sha256: str
    outcome: Outcome


def put(
    store: ObjectStore,
    path: str,
    content: bytes | Path,
    *,
    sha256: str | None = None,
    known: ObjectInfo | None = None,
) -> Stored:
    """Create `path` with `content`; what is there already is taken if it is equal, else replaced.

    Only for objects with one writer. Repeating the call after a crash or a lost answer is safe. A file is
    never in memory whole.

    Args:
        sha256: of `content`, where the caller knows it.
        known: what a listing said about `path`; saves a try.

    Raises:
        ObjectExists: a folder is there, or a file where a folder has to be.
        IntegrityError: the store holds other bytes than were meant; `content` may have changed meanwhile.
    """
    digest = sha256 if sha256 is not None else sha256_of(content)
    if known is None:
        try:
            return _verified(store.create(path, content), digest, Outcome.CREATED)
        except ObjectExists as exc:
            try:
                known = store.stat(path)
            except ObjectNotFound:
                raise exc from None
    if known.size_bytes == _size_of(content) and stored_sha256(store, known) == digest:
        return Stored(info=known, sha256=digest, outcome=Outcome.EQUAL)
    return _verified(store.replace(path, content), digest, Outcome.REPLACED)


def _verified(info: ObjectInfo, digest: str, outcome: Outcome) -> Stored:
    if info.sha256 is not None and info.sha256 != digest:
        raise IntegrityError(
            f"cannot store {info.path}: the root holds {info.sha256[:12]}…, {digest[:12]}… was meant. If "
            "nothing wrote to the local file meanwhile, the disk or the connection is faulty. Try again."
        )
    return Stored(info=info, sha256=digest, outcome=outcome)


def _size_of(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size
