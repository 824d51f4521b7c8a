"""Results put on the root, their manifest last."""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from driverun.errors import IntegrityError, ObjectExists, ObjectNotFound
from driverun.runs.layout import AttemptKey
from driverun.runs.record import ResultsRef
from driverun.storage.base import ObjectInfo, ObjectStore
from driverun.transfer.checksums import copy_hashed, sha256_of
from driverun.transfer.parallel import send_each
from driverun.transfer.progress import OnProgress, ProgressCounter
from driverun.transfer.put import put
from driverun.transfer.results import (
    MANIFEST_NAME,
    ResultFile,
    ResultsManifest,
    archive_name,
    read_results_manifest,
)
from driverun.transfer.walk import storable_path

MOST_SINGLE_FILES = 300  # Drive takes about three creations a second, so this is two minutes
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)


def publish_results(
    store: ObjectStore,
    key: AttemptKey,
    files: Mapping[str, Path],
    *,
    still_ours: Callable[[], None],
    summary: Mapping[str, Any],
    on_progress: OnProgress | None = None,
) -> ResultsRef:
    """Commit `files` as the results of the attempt; return where they are.

    Files go first, each compared with the checksum that the store returns; then ownership is checked; then
    the manifest makes them results. Repeating the call after a crash is safe at every point: equal files are
    taken, others of that earlier try replaced. Once a manifest stands, it is the answer, whatever `files`
    are.

    Above MOST_SINGLE_FILES files, all that lie in folders go into one archive, and the report, the model and what else
    is at the top stay beside it, where a person can open them. All go into it where that is not enough, or where one
    has a name that is taken by driverun.

    Args:
        files: path in the results to local file.
        still_ours: raises LostOwnership when the run belongs to another attempt.

    Raises:
        LostOwnership: nothing was committed.
        IntegrityError: a file changed while it was sent.
        StoreQuotaExceeded, TransientStoreError: nothing was committed; call again.
    """
    committed = _committed(store, key)
    if committed is not None:
        return committed
    for path in files:
        storable_path(path)
    archive_path = archive_name(key.run_id)
    beside = _beside(files, archive_path)
    with contextlib.ExitStack() as cleanup:
        listed = {path: _listed(path, files[path]) for path in beside}
        local = {path: files[path] for path in beside}
        archive: ResultFile | None = None
        if len(beside) < len(files):
            packed = cleanup.enter_context(
                _packed({path: files[path] for path in files if path not in beside})
            )
            listed |= {file.path: file for file in packed.files}
            archive = replace(packed.whole, path=archive_path)
            local[archive_path] = packed.place
        manifest = ResultsManifest(
            key=key,
            files=tuple(listed[path] for path in sorted(listed)),
            archive=archive,
            beside=beside if archive is not None else frozenset(),
            summary=summary,
        )
        total_bytes = sum(file.size_bytes for file in manifest.stored)
        counter = ProgressCounter(on_progress, total_files=len(manifest.stored), total_bytes=total_bytes)

        def send(file: ResultFile) -> None:
            put(store, f"{key.results_folder}/{file.path}", local[file.path], sha256=file.sha256)
            counter.add(file.path, file.size_bytes)

        send_each(manifest.stored, send)
    still_ours()
    return _ref(key, _commit(store, key, manifest.to_bytes()))


def _beside(files: Collection[str], archive_path: str) -> frozenset[str]:
    """Which files are published by themselves; the others go into one archive."""
    if {MANIFEST_NAME, archive_path} & {path.partition("/")[0] for path in files}:
        return frozenset()
    if len(files) <= MOST_SINGLE_FILES:
        return frozenset(files)
    at_the_top = frozenset(path for path in files if "/" not in path)
    return at_the_top if len(at_the_top) <= MOST_SINGLE_FILES else frozenset()


def _committed(store: ObjectStore, key: AttemptKey) -> ResultsRef | None:
    """The results, if an earlier try got as far as its manifest."""
    try:
        read_results_manifest(store, key.results_folder)
        return _ref(key, store.stat(key.results_manifest))
    except (ObjectNotFound, IntegrityError):
        return None


def _commit(store: ObjectStore, key: AttemptKey, manifest: bytes) -> ObjectInfo:
    try:
        info = store.create(key.results_manifest, manifest)
    except ObjectExists:  # a damaged one, or this very one, its answer lost
        info = store.replace(key.results_manifest, manifest)
    if info.sha256 not in (None, sha256_of(manifest)):
        raise IntegrityError(
            f"cannot commit {info.path}: the root holds other bytes than were sent. Try again."
        )
    return info


def _ref(key: AttemptKey, info: ObjectInfo) -> ResultsRef:
    return ResultsRef(path=key.results_folder, created_at=info.created_at)


def _listed(path: str, place: Path) -> ResultFile:
    return ResultFile(path=path, size_bytes=place.stat().st_size, sha256=sha256_of(place))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Archive:
    place: Path
    whole: ResultFile
    files: tuple[ResultFile, ...]


@contextlib.contextmanager
def _packed(files: Mapping[str, Path]) -> Iterator[_Archive]:
    """All files in one archive, which is gone after the block; the same files give the same bytes."""
    with tempfile.TemporaryDirectory(prefix="driverun-") as folder:
        packed = Path(folder, "results.zip")
        listed = []
        with zipfile.ZipFile(packed, "w") as archive:
            for path, place in sorted(files.items()):
                member = zipfile.ZipInfo(path, date_time=_FIXED_DATE)
                member.compress_type = zipfile.ZIP_DEFLATED
                member.create_system = 3
                member.external_attr = 0o644 << 16
                with place.open("rb") as source, archive.open(member, "w", force_zip64=True) as into:
                    sha256, size_bytes = copy_hashed(source, into)
                listed.append(ResultFile(path=path, size_bytes=size_bytes, sha256=sha256))
        yield _Archive(place=packed, whole=_listed(packed.name, packed), files=tuple(listed))
