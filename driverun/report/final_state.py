"""The final state of a run as a value whose bytes are read when they are wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from driverun.errors import IntegrityError
from driverun.runs.layout import AttemptKey
from driverun.storage.base import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some of the bytes of a tensor or a file."""

    size_bytes: int
    sha256: str
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One array: raw bytes, C order, little endian."""

    group: str
    index: int  #: position in the group
    path: str  #: the framework's name for it, for messages
    dtype: str  #: NumPy's name, or "bfloat16"
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]  #: in order


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFile:
    """One file that the script wrote."""

    path: str
    sha256: str
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalState:
    """What a run came to."""

    label: str  #: what to call it in messages: its run id
    tensors: Sequence[Tensor] = ()
    state: Mapping[str, Any] = field(default_factory=dict)  #: JSON: history, callbacks, random state
    outputs: Sequence[OutputFile] = ()


class TensorEntryLike(Protocol):
    """What `spool.snapshot.TensorEntry` is."""

    @property
    def group(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


class FileEntryLike(Protocol):
    """What `spool.snapshot.FileEntry` is."""

    @property
    def path(self) -> str: ...
    @property
    def sha256(self) -> str: ...


class HeaderLike(Protocol):
    """What `spool.snapshot.SnapshotHeader` is."""

    @property
    def tensors(self) -> Sequence[TensorEntryLike]: ...
    @property
    def files(self) -> Sequence[FileEntryLike]: ...
    @property
    def state(self) -> Mapping[str, Any]: ...


class PackLike(Protocol):
    """What `checkpoints.manifest.PackRef` is."""

    @property
    def sha256(self) -> str: ...


class ChunkLike(Protocol):
    """What `checkpoints.manifest.ChunkRef` is."""

    @property
    def pack(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...


class ManifestLike(Protocol):
    """What `checkpoints.manifest.CheckpointManifest` is: reports do not know that room."""

    @property
    def key(self) -> AttemptKey: ...
    @property
    def header(self) -> HeaderLike: ...
    @property
    def packs(self) -> Sequence[PackLike]: ...
    @property
    def tensors(self) -> Sequence[Sequence[ChunkLike]]: ...
    @property
    def files(self) -> Sequence[Sequence[ChunkLike]]: ...


def final_state_of(
    store: ObjectStore, manifest: ManifestLike, folder: Path, *, label: str | None = None
) -> FinalState:
    """The state that a checkpoint holds; a pack is fetched into `folder` when the first of it is wanted.

    Reading a piece raises IntegrityError where its bytes are not what the manifest promises, and
    ObjectNotFound where its pack is gone.
    """
    return FinalState(
        label=label or manifest.key.run_id,
        tensors=tensors_of(store, manifest, folder),
        state=manifest.header.state,
        outputs=tuple(
            OutputFile(
                path=entry.path, sha256=entry.sha256, read=_Joined(_pieces(store, manifest, chunks, folder))
            )
            for entry, chunks in zip(manifest.header.files, manifest.files, strict=True)
        ),
    )


def tensors_of(store: ObjectStore, manifest: ManifestLike, folder: Path) -> tuple[Tensor, ...]:
    """The arrays that a checkpoint holds; see `final_state_of`."""
    return tuple(
        Tensor(
            group=entry.group,
            index=entry.index,
            path=entry.path,
            dtype=entry.dtype,
            shape=entry.shape,
            pieces=_pieces(store, manifest, chunks, folder),
        )
        for entry, chunks in zip(manifest.header.tensors, manifest.tensors, strict=True)
    )


def _pieces(
    store: ObjectStore, manifest: ManifestLike, chunks: Sequence[ChunkLike], folder: Path
) -> tuple[Piece, ...]:
    return tuple(
        Piece(
            size_bytes=chunk.size_bytes,
            sha256=chunk.sha256,
            read=_ChunkReader(
                store=store,
                path=manifest.key.pack_file(manifest.packs[chunk.pack].sha256),
                file=folder / manifest.packs[chunk.pack].sha256,
                chunk=chunk,
            ),
        )
        for chunk in chunks
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _ChunkReader:
    store: ObjectStore
    path: str  #: of the pack on the root
    file: Path  #: where the pack goes locally
    chunk: ChunkLike

    def __call__(self) -> bytes:
        if not self.file.exists():
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.store.download(self.path, self.file)
        with open(self.file, "rb") as file:
            file.seek(self.chunk.offset)
            content = file.read(self.chunk.size_bytes)
        if hashlib.sha256(content).hexdigest() != self.chunk.sha256:
            raise IntegrityError(
                f"cannot compare what is in {self.path}: it is damaged at byte {self.chunk.offset:,}. "
                "Compare with another run, or compute this one once more: driverun submit --again"
            )
        return content


@dataclass(frozen=True, slots=True)
class _Joined:
    pieces: tuple[Piece, ...]

    def __call__(self) -> bytes:
        return b"".join(piece.read() for piece in self.pieces)
