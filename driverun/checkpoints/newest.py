"""Which checkpoint a run goes on from: the newest that counts and verifies."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from driverun.checkpoints.manifest import CheckpointManifest, PackRef, StoredManifest
from driverun.errors import IntegrityError, ObjectNotFound
from driverun.runs.evidence import ClaimEvidence
from driverun.runs.layout import CHECKPOINT_NAME, AttemptKey
from driverun.runs.state import manifest_counts
from driverun.spool.snapshot import SnapshotKind
from driverun.storage.base import ObjectInfo, ObjectStore, people_of, read_believed

T = TypeVar("T")

_FIT_NAME = re.compile(r"fit-([0-9]{3,})\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointInfo:
    """What a listing tells of a checkpoint, before anything is read."""

    path: str  #: of its manifest
    key: AttemptKey
    kind: SnapshotKind
    fits_finished: int
    step: int | None  #: None: only the manifest knows
    created_at: datetime  #: by the store's clock
    size_bytes: int | None  #: of the state; None: only the manifest knows
    new_bytes: int | None  #: None: only the manifest knows

    @property
    def order(self) -> tuple[int, int, int]:
        """Sorts the checkpoints of a run by progress, then by attempt.

        A fit's end comes before every checkpoint of the next fit, whose first one may share its step.
        """
        step = self.step if self.kind is SnapshotKind.CHECKPOINT and self.step is not None else -1
        return (self.fits_finished, step, self.key.number)


def checkpoint_of(key: AttemptKey, found: ObjectInfo) -> CheckpointInfo | None:
    """What `found` in the folder of the attempt is, or None if it is no manifest of a checkpoint."""
    name = found.path.removeprefix(f"{key.folder}/")
    properties = found.properties or {}
    step = _number(properties.get("step"))
    if match := CHECKPOINT_NAME.fullmatch(name):
        kind, step, fits_finished = SnapshotKind.CHECKPOINT, int(match[1]), int(match[2])
        canonical = key.checkpoint_file(step=step, fits_finished=fits_finished)
    elif match := _FIT_NAME.fullmatch(name):
        kind, fits_finished = SnapshotKind.FIT_END, int(match[1]) + 1
        canonical = key.fit_file(fits_finished - 1)
    else:
        return None
    if canonical != found.path:
        return None
    return CheckpointInfo(
        path=found.path,
        key=key,
        kind=kind,
        fits_finished=fits_finished,
        step=step,
        created_at=found.created_at,
        size_bytes=_number(properties.get("size_bytes")),
        new_bytes=_number(properties.get("new_bytes")),
    )


def find_checkpoints(
    store: ObjectStore, run_id: str, *, claims: Collection[ClaimEvidence], resume_after: int = 0
) -> list[CheckpointInfo]:
    """The checkpoints of the run that count, newest first; nothing is read but listings, one per attempt.

    Args:
        claims: every claim of the run.
        resume_after: attempts up to this number are left out: a person asked for a fresh start.
    """
    people = people_of(store)  # a checkpoint puts files into the folder in which the job's code runs
    keys = {claim.key for claim in claims if claim.key.run_id == run_id and claim.key.number > resume_after}
    found = [
        info
        for key in sorted(keys)
        for each in store.list(key.folder)
        if (people is None or people.believes(each.author))
        and (info := checkpoint_of(key, each)) is not None
        and manifest_counts(key=key, created_at=info.created_at, claims=claims)
    ]
    return sorted(found, key=lambda info: (info.order, info.path), reverse=True)


def load_manifest(store: ObjectStore, path: str, *, is_for_use: bool = False) -> StoredManifest:
    """The manifest at `path`.

    Args:
        is_for_use: its files are to come beside a job's code, so whoever wrote it has to be trusted.

    Raises:
        ObjectNotFound: nothing is there.
        IntegrityError: it is damaged, of a newer format, or belongs elsewhere.
    """
    content = read_believed(store, path) if is_for_use else store.read(path)
    try:
        stored = StoredManifest.from_bytes(content)
    except IntegrityError as exc:
        raise IntegrityError(f"cannot use {path}: {exc}") from exc
    if stored.path != path:
        raise IntegrityError(f"cannot use {path}: it is the manifest of {stored.path}")
    return stored


def walk_back(
    store: ObjectStore,
    run_id: str,
    *,
    claims: Collection[ClaimEvidence],
    take: Callable[[CheckpointInfo, StoredManifest], T],
    resume_after: int = 0,
    skipped: Callable[[str], None] = lambda _: None,
) -> T | None:
    """What `take` makes of the newest checkpoint that it does not refuse; None where none is left.

    A checkpoint is passed over, and `skipped` told why, if its manifest is damaged or `take` raises
    IntegrityError or ObjectNotFound. When something is gone, the folders are listed again: the attempt that
    removed it may have committed a newer one. Other errors come out as they are; a root out of reach is no
    reason to go on from an older state.
    """
    refused: set[str] = set()
    while True:
        for info in find_checkpoints(store, run_id, claims=claims, resume_after=resume_after):
            if info.path in refused:
                continue
            refused.add(info.path)
            try:
                return take(info, load_manifest(store, info.path, is_for_use=True))
            except ObjectNotFound as exc:
                skipped(f"passed over {info.path}: {exc}")
                break
            except IntegrityError as exc:
                skipped(f"passed over {info.path}: {exc}")
        else:
            return None


def newest_valid(
    store: ObjectStore,
    run_id: str,
    *,
    claims: Collection[ClaimEvidence],
    scratch: Path,
    resume_after: int = 0,
    skipped: Callable[[str], None] = lambda _: None,
) -> tuple[CheckpointInfo, StoredManifest] | None:
    """The newest checkpoint that counts and whose bytes are all there, as `walk_back` finds it.

    Packs whose checksum the store does not know are read. To take a checkpoint up, call `restore_newest`,
    which checks while it restores.

    Args:
        scratch: a local folder with room for one pack.
    """

    def take(info: CheckpointInfo, stored: StoredManifest) -> tuple[CheckpointInfo, StoredManifest]:
        for manifest in (stored.manifest, *load_fits(store, stored.manifest)):
            for pack in manifest.packs:
                _verify_pack(store, manifest.key.pack_file(pack.sha256), pack, scratch)
        return info, stored

    return walk_back(store, run_id, claims=claims, take=take, resume_after=resume_after, skipped=skipped)


def load_fits(store: ObjectStore, manifest: CheckpointManifest) -> list[CheckpointManifest]:
    """The manifests of the finished fits that `manifest` names, by index.

    Raises:
        ObjectNotFound: one is gone.
        IntegrityError: one is damaged, or not the one that is named.
    """
    fits = []
    for ref in manifest.fits:
        stored = load_manifest(store, ref.path)
        if stored.sha256 != ref.sha256:
            raise IntegrityError(f"cannot use {ref.path}: it is not the one that {manifest.path} stands on")
        fits.append(stored.manifest)
    return fits


def _verify_pack(store: ObjectStore, path: str, pack: PackRef, scratch: Path) -> None:
    info = store.stat(path)
    sha256 = info.sha256
    if info.size_bytes == pack.size_bytes and sha256 is None:
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="verify-", dir=scratch) as folder:
            target = Path(folder, "pack")
            store.download(path, target)
            with target.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if (sha256, info.size_bytes) != (pack.sha256, pack.size_bytes):
        raise IntegrityError(f"{path} is damaged: its bytes are not those it is named after")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch("[0-9]{1,18}", text) else None
