"""Snapshots made into checkpoints: packs first, verified, then the manifest that makes them count.

Whatever happens between two operations on the root, a reader finds either a whole checkpoint or none.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from driverun.checkpoints.chunks import cut, cut_file
from driverun.checkpoints.manifest import (
    CheckpointManifest,
    ChunkRef,
    FitRef,
    PackRef,
    StoredManifest,
    manifest_path,
    packed_header,
)
from driverun.checkpoints.pack import PACK_BYTES, Pack, PackWriter
from driverun.clock import Clock
from driverun.errors import IntegrityError, ObjectExists, ObjectNotFound, SpoolError, StoreError
from driverun.runs.layout import AttemptKey
from driverun.spool.snapshot import FileEntry, SnapshotHeader, mapped_tensors
from driverun.storage.base import ObjectInfo, ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """A checkpoint that is on the root."""

    stored: StoredManifest
    info: ObjectInfo  #: of the manifest; the rules of ownership look at its `created_at`

    @property
    def manifest(self) -> CheckpointManifest:
        return self.stored.manifest

    @property
    def path(self) -> str:
        """Of the manifest."""
        return self.stored.path

    @property
    def new_bytes(self) -> int:
        """Uploaded for this checkpoint."""
        return self.manifest.new_bytes

    @property
    def fit_ref(self) -> FitRef | None:
        """What later checkpoints name this one by, if it is the end of a fit."""
        return self.stored.fit_ref


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the root holds a chunk; its pack was verified."""

    pack: PackRef
    offset: int
    size_bytes: int


class CheckpointCommitter:
    """Commits the snapshots of one attempt.

    It refers to chunks in packs that it uploaded and verified itself, never to what anyone else left in the
    attempt's folder. It may be used from several threads; commits take turns.
    """

    def __init__(
        self,
        store: ObjectStore,
        key: AttemptKey,
        *,
        temporary: Path,
        still_ours: Callable[[], None],
        clock: Clock,
        pack_bytes: int = PACK_BYTES,
    ) -> None:
        """Serve the attempt `key`.

        Args:
            temporary: a local folder with room for one pack; it is made.
            still_ours: raises LostOwnership when a newer attempt owns the run.
        """
        self.turn = threading.RLock()  #: held by whoever writes to the attempt's folder
        self._store = store
        self._key = key
        self._temporary = temporary
        self._still_ours = still_ours
        self._clock = clock
        self._pack_bytes = pack_bytes
        self._places: dict[str, _Place] = {}  # by sha256 of the chunk
        self._committed: dict[str, Committed] = {}  # by path of the manifest
        self._ordinal = 0
        self._packs: set[PackRef] = set()  # verified
        self._uncommitted: set[str] = set()  # those that no manifest names yet
        self._retired: set[str] = set()  # packs that no manifest may name any more

    @property
    def key(self) -> AttemptKey:
        return self._key

    @property
    def committed(self) -> Mapping[str, Committed]:
        """What this object committed and nobody has deleted since, by path of the manifest."""
        return self._committed

    @property
    def uncommitted_packs(self) -> frozenset[str]:
        """Names of packs that a commit which failed half-way left for the next one."""
        return frozenset(self._uncommitted)

    def commit(
        self, snapshot: Path, header: SnapshotHeader, *, files: Path, fits: Iterable[FitRef] = ()
    ) -> Committed:
        """Put the snapshot on the root; when this returns, it outlives the runtime.

        What was uploaded by a call that failed is used by the next one. A step that is committed already is
        not committed twice: the checkpoint that stands is the answer.

        Args:
            snapshot: its folder; nobody may write to it meanwhile.
            header: of that snapshot.
            files: the folder that holds contents of files by their sha256.
            fits: the finished fits that the snapshot stands on, the one that it ends itself left out.

        Raises:
            LostOwnership: the run is another worker's; no manifest was created.
            IntegrityError: the root holds other bytes than were sent, or the snapshot contradicts itself; no
                manifest was created.
            SpoolError: the snapshot or its files are not what its header says; no manifest was created.
            StoreError: as `ObjectStore.create`. After a TransientStoreError the manifest may stand; calling
                again finds out.
        """
        with self.turn:
            path = manifest_path(self._key, header)
            if path in self._committed:
                return self._committed[path]
            self._temporary.mkdir(parents=True, exist_ok=True)
            in_order = tuple(sorted(fits, key=lambda ref: ref.fit))
            manifest = self._manifest(header, *self._upload_chunks(snapshot, header, files), in_order)
            if vanished := self._vanished(manifest.packs):
                self.retire(vanished)
                manifest = self._manifest(header, *self._upload_chunks(snapshot, header, files), in_order)
            self._still_ours()
            committed = self._create_manifest(manifest)
            self._ordinal = committed.manifest.ordinal
            self._uncommitted.clear()
            self._committed[path] = committed
            return committed

    def retire(self, packs: Iterable[str]) -> None:
        """Never refer to these packs of the attempt again, nor to others under their names."""
        with self.turn:
            self._retired.update(packs)
            self._uncommitted -= self._retired
            self._packs = {pack for pack in self._packs if pack.sha256 not in self._retired}
            self._places = {
                sha256: place
                for sha256, place in self._places.items()
                if place.pack.sha256 not in self._retired
            }

    def forget(self, path: str) -> None:
        """The manifest at `path` has been deleted."""
        with self.turn:
            self._committed.pop(path, None)

    def _upload_chunks(
        self, snapshot: Path, header: SnapshotHeader, files: Path
    ) -> tuple[list[list[str]], list[list[str]]]:
        """See to it that the root has every chunk; the digests of those of each tensor and each file."""
        tensors: list[list[str]] = []
        contents: list[list[str]] = []
        with _PackSeries(self._temporary, self._pack_bytes, self._upload) as packs:

            def keep(cutting: Generator[tuple[memoryview, str], None, None]) -> list[str]:
                digests = []
                # Closed here: after a failed upload, a chunk still out would keep the map from closing.
                with contextlib.closing(cutting) as chunks:
                    for chunk, sha256 in chunks:
                        if sha256 not in self._places:
                            packs.add(chunk, sha256)
                        digests.append(sha256)
                return digests

            with mapped_tensors(snapshot) as memory:
                for entry in header.tensors:
                    end = entry.offset + entry.size_bytes
                    if entry.offset < 0 or entry.size_bytes < 0 or end > len(memory):
                        raise SpoolError(
                            f"cannot commit the snapshot of step {header.step}: {entry.path} ends at byte "
                            f"{end}, tensors.bin at {len(memory)}"
                        )
                    with memory[entry.offset : end] as tensor:
                        tensors.append(keep(cut(tensor)))
            for file in header.files:
                contents.append(keep(_checked_file_chunks(files / file.sha256, file)))
            packs.flush()
        return tensors, contents

    def _vanished(self, packs: Iterable[PackRef]) -> list[str]:
        """Those of earlier commits that somebody removed since, alone or with their folder."""
        before = [pack.sha256 for pack in packs if pack.sha256 not in self._uncommitted]
        if not before:
            return []
        listed = {info.path for info in self._store.list(self._key.folder)}
        return [
            sha256
            for sha256 in before
            if (path := self._key.pack_file(sha256)) not in listed and not self._is_there(path)
        ]

    def _is_there(self, path: str) -> bool:
        try:
            self._store.stat(path)  # a listing may lag behind
        except ObjectNotFound:
            return False
        return True

    def _upload(self, writer: PackWriter) -> None:
        pack = writer.seal(avoid=self._retired)
        self._create_verified(pack)
        ref = PackRef(sha256=pack.sha256, size_bytes=pack.size_bytes)
        self._packs.add(ref)
        self._uncommitted.add(pack.sha256)
        for sha256, (offset, size_bytes) in pack.chunks.items():
            self._places[sha256] = _Place(pack=ref, offset=offset, size_bytes=size_bytes)

    def _create_verified(self, pack: Pack) -> None:
        path = self._key.pack_file(pack.sha256)
        try:
            info = self._store.create(path, pack.file)
        except ObjectExists:
            info = self._store.stat(path)  # what an earlier call uploaded without hearing of it
        sha256 = info.sha256 if info.sha256 is not None else self._stored_sha256(path)
        if (sha256, info.size_bytes) == (pack.sha256, pack.size_bytes):
            return
        self._retired.add(pack.sha256)  # the next call takes another name, whether the delete works or not
        fault = IntegrityError(
            f"cannot commit a checkpoint of {self._key}: {path} arrived as other bytes than were sent "
            f"(sha256 {sha256}); nothing refers to it. The next snapshot is uploaded anew"
        )
        try:
            self._store.delete(path)
        except StoreError as exc:
            raise fault from exc
        raise fault

    def _stored_sha256(self, path: str) -> str:
        with tempfile.TemporaryDirectory(prefix="verify-", dir=self._temporary) as folder:
            target = Path(folder, "pack")
            self._store.download(path, target)
            with target.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

    def _manifest(
        self,
        header: SnapshotHeader,
        tensors: list[list[str]],
        contents: list[list[str]],
        fits: tuple[FitRef, ...],
    ) -> CheckpointManifest:
        indices: dict[PackRef, int] = {}

        def refs(digests: list[str]) -> tuple[ChunkRef, ...]:
            places = [(sha256, self._places[sha256]) for sha256 in digests]
            return tuple(
                ChunkRef(
                    pack=indices.setdefault(place.pack, len(indices)),
                    offset=place.offset,
                    size_bytes=place.size_bytes,
                    sha256=sha256,
                )
                for sha256, place in places
            )

        tensor_refs = tuple(refs(digests) for digests in tensors)
        file_refs = tuple(refs(digests) for digests in contents)
        return CheckpointManifest(
            key=self._key,
            ordinal=self._ordinal + 1,
            header=packed_header(header),
            packs=tuple(indices),
            tensors=tensor_refs,
            files=file_refs,
            fits=fits,
            new_bytes=sum(pack.size_bytes for pack in indices if pack.sha256 in self._uncommitted),
            committed_at=self._clock.now(),
        )

    def _create_manifest(self, manifest: CheckpointManifest) -> Committed:
        content = manifest.to_bytes()
        properties = {
            "step": str(manifest.header.step),
            "size_bytes": str(manifest.size_bytes),
            "new_bytes": str(manifest.new_bytes),
        }
        try:
            info = self._store.create(manifest.path, content, properties=properties)
        except ObjectExists:
            info = self._store.stat(manifest.path)
            content = self._store.read(manifest.path)
        stored = StoredManifest.from_bytes(content)
        if stored.path != manifest.path or not self._packs.issuperset(stored.manifest.packs):
            raise IntegrityError(
                f"cannot commit {manifest.path}: one that this worker did not write lies there already"
            )
        if info.sha256 not in (None, stored.sha256):
            raise IntegrityError(
                f"cannot commit {manifest.path}: it arrived as other bytes than were sent, so it is none"
            )
        return Committed(stored=stored, info=info)


class _PackSeries:
    """One open pack after the other; `upload` is called with each that is full."""

    def __init__(self, folder: Path, pack_bytes: int, upload: Callable[[PackWriter], None]) -> None:
        self._folder = folder
        self._pack_bytes = pack_bytes
        self._upload = upload
        self._open: PackWriter | None = None

    def __enter__(self) -> _PackSeries:
        return self

    def __exit__(self, *_: object) -> None:
        self._discard()

    def add(self, chunk: memoryview, sha256: str) -> None:
        if self._open is not None and sha256 in self._open:
            return
        if self._open is not None and not self._open.has_room(len(chunk)):
            self.flush()
        if self._open is None:
            self._open = PackWriter(self._folder, max_bytes=self._pack_bytes)
        self._open.add(chunk, sha256)

    def flush(self) -> None:
        if self._open is not None:
            self._upload(self._open)
            self._discard()

    def _discard(self) -> None:
        if self._open is not None:
            self._open.discard()
            self._open = None


def _checked_file_chunks(path: Path, entry: FileEntry) -> Generator[tuple[memoryview, str], None, None]:
    """The chunks of the file; raises SpoolError in the end if it is not the one that `entry` names."""
    try:
        with path.open("rb") as file:
            whole = hashlib.sha256()
            size_bytes = 0
            for chunk, sha256 in cut_file(file):
                whole.update(chunk)
                size_bytes += len(chunk)
                yield chunk, sha256
    except FileNotFoundError as exc:
        raise SpoolError(f"cannot commit {entry.path}: its content is not in the spool ({path})") from exc
    if (whole.hexdigest(), size_bytes) != (entry.sha256, entry.size_bytes):
        raise SpoolError(f"cannot commit {entry.path}: its content in the spool has changed ({path})")
