"""A checkpoint of the root made into snapshots that a training process can take up."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from driverun.checkpoints.manifest import (
    CheckpointManifest,
    ChunkRef,
    FitRef,
    PackRef,
    StoredManifest,
    tensors_bin_bytes,
)
from driverun.checkpoints.newest import CheckpointInfo, load_fits, walk_back
from driverun.checkpoints.pack import PackReader
from driverun.errors import IntegrityError
from driverun.runs.evidence import ClaimEvidence
from driverun.spool.folder import SpoolFolder
from driverun.spool.snapshot import TENSORS, SnapshotHeader, SnapshotKind, write_header
from driverun.storage.base import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What lies in the spool now."""

    stored: StoredManifest
    fits: tuple[FitRef, ...]  #: the finished fits that lie there, by index; later checkpoints stand on them
    reasons: tuple[str, ...]  #: what is missing, and makes the run approximate

    @property
    def manifest(self) -> CheckpointManifest:
        return self.stored.manifest

    @property
    def header(self) -> SnapshotHeader:
        """Of the newest snapshot: the checkpoint, or the fit that was finished last."""
        return self.manifest.header

    @property
    def has_checkpoint(self) -> bool:
        """Whether a fit was in progress; otherwise the next one starts from its beginning."""
        return self.header.kind is SnapshotKind.CHECKPOINT


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """One chunk on its way to its place."""

    target: Path
    position: int
    chunk: ChunkRef


@dataclass(slots=True)
class _Plan:
    """What to write, and which packs it comes from."""

    pieces: dict[str, tuple[PackRef, list[_Piece]]] = field(default_factory=dict)  # by path of the pack
    snapshots: list[tuple[SnapshotHeader, Path, Path]] = field(default_factory=list)  # built here, goes there
    files: dict[str, tuple[Path, Path]] = field(default_factory=dict)  # by sha256: built here, goes there

    def add(self, manifest: CheckpointManifest, folder: Path, spool: SpoolFolder) -> None:
        new = folder.with_name(f"{folder.name}.new")
        self.snapshots.append((manifest.header, new, folder))
        for entry, chunks in zip(manifest.header.tensors, manifest.tensors, strict=True):
            self._add_pieces(manifest, new / TENSORS, entry.offset, chunks)
        for file, chunks in zip(manifest.header.files, manifest.files, strict=True):
            if file.sha256 not in self.files:
                final = spool.file(file.sha256)
                self.files[file.sha256] = final.with_name(f"{final.name}.new"), final
                self._add_pieces(manifest, self.files[file.sha256][0], 0, chunks)

    def _add_pieces(
        self, manifest: CheckpointManifest, target: Path, position: int, chunks: tuple[ChunkRef, ...]
    ) -> None:
        for chunk in chunks:
            pack = manifest.packs[chunk.pack]
            _, pieces = self.pieces.setdefault(manifest.key.pack_file(pack.sha256), (pack, []))
            pieces.append(_Piece(target=target, position=position, chunk=chunk))
            position += chunk.size_bytes

    def prepare(self) -> None:
        """Make every file at its full size, filled with zeros where nothing will be written."""
        self.discard()
        for header, new, _ in self.snapshots:
            new.mkdir(parents=True)
            with (new / TENSORS).open("wb") as file:
                file.truncate(tensors_bin_bytes(header))
        for part, _ in self.files.values():
            part.touch()

    def verify_files(self) -> None:
        for sha256, (part, _) in self.files.items():
            with part.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    raise IntegrityError(f"a file of the checkpoint is damaged: it is not {sha256}")

    def show(self) -> None:
        """Put all in place; a snapshot appears with its seal on it."""
        for part, final in self.files.values():
            part.replace(final)
        for header, new, final in self.snapshots:
            write_header(new, header)
            new.replace(final)

    def discard(self) -> None:
        """Remove what was not put in place."""
        for _, new, _ in self.snapshots:
            shutil.rmtree(new, ignore_errors=True)
        for part, _ in self.files.values():
            part.unlink(missing_ok=True)


def restore(store: ObjectStore, stored: StoredManifest, *, into: SpoolFolder, cache: Path) -> Restored:
    """Write the checkpoint and the finished fits that it stands on into the spool.

    A checkpoint in the middle of a fit goes to `into.restored_checkpoint`, the ends of fits to
    `into.restored_fit(i)`, contents of files to `into.files`; what an earlier restore left is removed. Every
    byte is verified before the first snapshot appears: if anything is missing or damaged, none does. Each
    pack is fetched once and removed after use.

    Args:
        cache: a local folder with room for one pack; it is made.

    Raises:
        ObjectNotFound: a pack or the manifest of a fit is gone.
        IntegrityError: one of them is damaged.
    """
    manifest = stored.manifest
    own_fit = stored.fit_ref
    refs = (*manifest.fits, *((own_fit,) if own_fit is not None else ()))
    shutil.rmtree(into.restored_checkpoint.parent, ignore_errors=True)
    into.make()
    cache.mkdir(parents=True, exist_ok=True)
    plan = _Plan()
    for ref, fit in zip(manifest.fits, load_fits(store, manifest), strict=True):
        plan.add(fit, into.restored_fit(ref.fit), into)
    plan.add(manifest, into.restored_checkpoint if own_fit is None else into.restored_fit(own_fit.fit), into)
    try:
        plan.prepare()
        for path, (pack, pieces) in plan.pieces.items():
            _fetch(store, path, pack, pieces, cache)
        plan.verify_files()
        plan.show()
    finally:
        plan.discard()
    kept = {ref.fit for ref in refs}
    missing = [fit for fit in range(manifest.header.fits_finished) if fit not in kept]
    reasons = tuple(
        f"the state at the end of fit {fit} was not kept, so what it had computed cannot be put back"
        for fit in missing
    )
    return Restored(stored=stored, fits=refs, reasons=reasons)


def restore_newest(
    store: ObjectStore,
    run_id: str,
    *,
    claims: Collection[ClaimEvidence],
    into: SpoolFolder,
    cache: Path,
    resume_after: int = 0,
    skipped: Callable[[str], None] = lambda _: None,
) -> Restored | None:
    """Restore the newest checkpoint that counts and verifies; None where there is none to go on from.

    What does not verify is passed over as in `walk_back`, with its reason given to `skipped`.
    """

    def take(_: CheckpointInfo, stored: StoredManifest) -> Restored:
        return restore(store, stored, into=into, cache=cache)

    return walk_back(store, run_id, claims=claims, take=take, resume_after=resume_after, skipped=skipped)


def _fetch(store: ObjectStore, path: str, pack: PackRef, pieces: list[_Piece], cache: Path) -> None:
    """Put the pieces that come from the pack at `path` where they belong."""
    local = cache / f"pack-{pack.sha256}"
    try:
        store.download(path, local)
        with PackReader(local, sha256=pack.sha256, size_bytes=pack.size_bytes) as reader:
            for target, group in itertools.groupby(pieces, key=lambda piece: piece.target):
                with target.open("r+b") as file:
                    for piece in group:
                        chunk = piece.chunk
                        file.seek(piece.position)
                        file.write(
                            reader.chunk(
                                offset=chunk.offset, size_bytes=chunk.size_bytes, sha256=chunk.sha256
                            )
                        )
    finally:
        local.unlink(missing_ok=True)
