"""The file whose existence commits a checkpoint.

It is one JSON object. Its first member, `manifest_sha256`, is the digest of every byte after it, so nothing
about the text is left to a reader's taste. The order of members is kept: a job's own state may depend on it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

from driverun.errors import IntegrityError, SpoolError
from driverun.runs.layout import RUN_ID, WORKER_ID, AttemptKey, attempt_of_path
from driverun.spool.snapshot import SnapshotHeader, SnapshotKind, aligned

SCHEMA_VERSION = 1

_SHA256 = re.compile(r"[0-9a-f]{64}")
_OPENING = b'{"manifest_sha256":"'
_AFTER_SHA256 = b'",'
_BODY_AT = len(_OPENING) + 64 + len(_AFTER_SHA256)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackRef:
    """A pack in the folder of the attempt that wrote the manifest."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRef:
    """Where the bytes of a chunk lie."""

    pack: int  #: index in the manifest's packs
    offset: int  #: in the pack, bytes
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRef:
    """A finished fit that a later checkpoint stands on."""

    fit: int  #: index, from 0
    path: str  #: of its manifest on the root, in whatever attempt
    sha256: str  #: of that manifest's bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointManifest:
    """What a checkpoint is and where every byte of it lies.

    A value that exists is consistent: chunks add up to their tensors and files, and stay inside their packs.

    Raises:
        IntegrityError: on making one that is not.
    """

    key: AttemptKey  #: of the attempt that made it
    ordinal: int  #: the how manieth manifest of this attempt it is, from 1
    header: SnapshotHeader  #: offsets are those of `packed_header`
    packs: tuple[PackRef, ...]
    tensors: tuple[tuple[ChunkRef, ...], ...]  #: of each of the header's tensors, in order
    files: tuple[tuple[ChunkRef, ...], ...]  #: of each of the header's files, in order
    fits: tuple[FitRef, ...]  #: the finished fits it stands on, by index; one that was too large is left out
    new_bytes: int  #: uploaded for this checkpoint
    committed_at: datetime  #: by the writer's clock, for people

    def __post_init__(self) -> None:
        fault = self._fault()
        if fault is not None:
            raise IntegrityError(f"the manifest of a checkpoint contradicts itself: {fault}")

    @property
    def path(self) -> str:
        """Where on the root it belongs."""
        return manifest_path(self.key, self.header)

    @property
    def size_bytes(self) -> int:
        """Of the whole state, whether it was uploaded for this checkpoint or before."""
        return self.header.tensor_bytes + sum(entry.size_bytes for entry in self.header.files)

    def to_bytes(self) -> bytes:
        """One text for one value."""
        body = json.dumps(self._to_json(), separators=(",", ":")).encode()[1:]
        return _OPENING + hashlib.sha256(body).hexdigest().encode() + _AFTER_SHA256 + body

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Raises IntegrityError if a single byte is not as it was written, or the format is a newer one."""
        body = content[_BODY_AT:]
        if content[:_BODY_AT] != _OPENING + hashlib.sha256(body).hexdigest().encode() + _AFTER_SHA256:
            raise IntegrityError("the manifest of a checkpoint is damaged: its bytes do not match its digest")
        try:
            raw = json.loads(b"{" + body)
            if raw["schema_version"] > SCHEMA_VERSION:
                raise IntegrityError(
                    f"cannot read a checkpoint of format {raw['schema_version']}: this driverun knows "
                    f"{SCHEMA_VERSION}. Install a newer one."
                )
            return cls._from_json(raw)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, SpoolError) as exc:
            raise IntegrityError(f"this is no manifest that driverun wrote: {exc!r}") from exc

    def _to_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "run_id": self.key.run_id,
            "attempt": self.key.number,
            "worker": self.key.worker,
            "ordinal": self.ordinal,
            "committed_at": self.committed_at.astimezone(UTC).isoformat(),
            "size_bytes": self.size_bytes,
            "new_bytes": self.new_bytes,
            "packs": [[pack.sha256, pack.size_bytes] for pack in self.packs],
            "fits": [[fit.fit, fit.path, fit.sha256] for fit in self.fits],
            "header": self.header.to_json(),
            "tensors": [_chunks_to_json(chunks) for chunks in self.tensors],
            "files": [_chunks_to_json(chunks) for chunks in self.files],
        }

    @classmethod
    def _from_json(cls, raw: Mapping[str, Any]) -> Self:
        manifest = cls(
            key=AttemptKey(run_id=raw["run_id"], number=raw["attempt"], worker=raw["worker"]),
            ordinal=raw["ordinal"],
            header=SnapshotHeader.from_json(raw["header"]),
            packs=tuple(PackRef(sha256=sha256, size_bytes=size) for sha256, size in raw["packs"]),
            tensors=tuple(_chunks_from_json(chunks) for chunks in raw["tensors"]),
            files=tuple(_chunks_from_json(chunks) for chunks in raw["files"]),
            fits=tuple(FitRef(fit=fit, path=path, sha256=sha256) for fit, path, sha256 in raw["fits"]),
            new_bytes=raw["new_bytes"],
            committed_at=datetime.fromisoformat(raw["committed_at"]),
        )
        if raw["size_bytes"] != manifest.size_bytes:
            raise IntegrityError(f"a state of {manifest.size_bytes} bytes calls itself {raw['size_bytes']}")
        return manifest

    def _fault(self) -> str | None:
        """What contradicts what; None where nothing does."""
        header, key = self.header, self.key
        if not RUN_ID.fullmatch(key.run_id) or not WORKER_ID.fullmatch(key.worker) or key.number < 1:
            return f"{key} is no attempt"
        if header.step < 0 or header.fits_finished < int(header.kind is SnapshotKind.FIT_END):
            return f"step {header.step} after {header.fits_finished} fits"
        if self.ordinal < 1 or self.new_bytes < 0 or self.committed_at.tzinfo is None:
            return "its ordinal, its new bytes or its time make no sense"
        if header.tensors != packed_header(header).tensors:
            return "its tensors overlap or leave gaps"
        for pack in self.packs:
            if not _SHA256.fullmatch(pack.sha256) or pack.size_bytes < 1:
                return f"pack {pack.sha256!r} of {pack.size_bytes} bytes"
        return self._fault_of_tensors() or self._fault_of_files() or self._fault_of_fits()

    def _fault_of_tensors(self) -> str | None:
        if len(self.tensors) != len(self.header.tensors):
            return f"chunks of {len(self.tensors)} tensors, not of {len(self.header.tensors)}"
        for entry, chunks in zip(self.header.tensors, self.tensors, strict=True):
            items = math.prod(entry.shape)
            if (
                any(length < 0 for length in entry.shape)
                or bool(items) != bool(entry.size_bytes)
                or (items and entry.size_bytes % items)
            ):
                return f"{entry.path} of shape {entry.shape} has {entry.size_bytes} bytes"
            if fault := self._fault_of_chunks(chunks, entry.size_bytes):
                return f"{entry.path}: {fault}"
        return None

    def _fault_of_files(self) -> str | None:
        if len(self.files) != len(self.header.files):
            return f"chunks of {len(self.files)} files, not of {len(self.header.files)}"
        if len({entry.path for entry in self.header.files}) != len(self.header.files):
            return "it has two files of one name"
        for entry, chunks in zip(self.header.files, self.files, strict=True):
            if "\0" in entry.path or not {"", ".", ".."}.isdisjoint(entry.path.split("/")):
                return f"file {entry.path!r} leaves the working folder"
            if not _SHA256.fullmatch(entry.sha256):
                return f"file {entry.path} has {entry.sha256!r} for a digest"
            if fault := self._fault_of_chunks(chunks, entry.size_bytes):
                return f"file {entry.path}: {fault}"
        return None

    def _fault_of_chunks(self, chunks: Sequence[ChunkRef], size_bytes: int) -> str | None:
        for chunk in chunks:
            if not 0 <= chunk.pack < len(self.packs):
                return f"a chunk in pack {chunk.pack} of {len(self.packs)}"
            if chunk.offset < 0 or chunk.size_bytes < 1 or not _SHA256.fullmatch(chunk.sha256):
                return f"a chunk of {chunk.size_bytes} bytes at {chunk.offset}"
            if chunk.offset + chunk.size_bytes > self.packs[chunk.pack].size_bytes:
                return "a chunk that ends behind its pack"
        total_bytes = sum(chunk.size_bytes for chunk in chunks)
        return None if total_bytes == size_bytes else f"chunks of {total_bytes} bytes for {size_bytes}"

    def _fault_of_fits(self) -> str | None:
        finished = self.header.fits_finished - int(self.header.kind is SnapshotKind.FIT_END)
        indices = [ref.fit for ref in self.fits]
        if indices != sorted(set(indices)) or not all(0 <= fit < finished for fit in indices):
            return f"it stands on the fits {indices} of {finished}"
        for ref in self.fits:
            key = attempt_of_path(ref.path)
            if key is None or key.run_id != self.key.run_id or key.fit_file(ref.fit) != ref.path:
                return f"fit {ref.fit} at {ref.path!r}"
            if not _SHA256.fullmatch(ref.sha256):
                return f"fit {ref.fit} has {ref.sha256!r} for a digest"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredManifest:
    """A manifest that is on the root."""

    manifest: CheckpointManifest
    sha256: str  #: of its bytes as they lie there, which a newer driverun may have written

    @property
    def path(self) -> str:
        return self.manifest.path

    @property
    def fit_ref(self) -> FitRef | None:
        """What later checkpoints name this one by, if it is the end of a fit."""
        header = self.manifest.header
        if header.kind is not SnapshotKind.FIT_END:
            return None
        return FitRef(fit=header.fits_finished - 1, path=self.path, sha256=self.sha256)

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Raises IntegrityError, as `CheckpointManifest.from_bytes` does."""
        manifest = CheckpointManifest.from_bytes(content)
        return cls(manifest=manifest, sha256=hashlib.sha256(content).hexdigest())


def manifest_path(key: AttemptKey, header: SnapshotHeader) -> str:
    """Where on the root the manifest of that snapshot belongs."""
    if header.kind is SnapshotKind.FIT_END:
        return key.fit_file(header.fits_finished - 1)
    return key.checkpoint_file(step=header.step, fits_finished=header.fits_finished)


def packed_header(header: SnapshotHeader) -> SnapshotHeader:
    """`header` for tensors that lie one after the other, each where the next aligned one may begin."""
    offset = 0
    packed = []
    for entry in header.tensors:
        offset = aligned(offset)
        packed.append(entry if entry.offset == offset else replace(entry, offset=offset))
        offset += entry.size_bytes
    return replace(header, tensors=tuple(packed))


def tensors_bin_bytes(header: SnapshotHeader) -> int:
    """How long tensors.bin is for a packed `header`."""
    return max((entry.offset + entry.size_bytes for entry in header.tensors), default=0)


def _chunks_to_json(chunks: Iterable[ChunkRef]) -> list[list[Any]]:
    return [[chunk.pack, chunk.offset, chunk.size_bytes, chunk.sha256] for chunk in chunks]


def _chunks_from_json(raw: Iterable[Sequence[Any]]) -> tuple[ChunkRef, ...]:
    return tuple(
        ChunkRef(pack=pack, offset=offset, size_bytes=size, sha256=sha256)
        for pack, offset, size, sha256 in raw
    )
