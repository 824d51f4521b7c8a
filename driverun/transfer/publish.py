"""Results put on the root, their manifest last."""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from driverun.errors import IntegrityError, ObjectExists, ObjectNotFound
from driverun.runs.layout import AttemptKey
from driverun.runs.record import ResultsRef
from driverun.storage.base import ObjectInfo, ObjectStore
from driverun.transfer.checksums import copy_hashed, sha256_of
from driverun.transfer.progress import OnProgress, ProgressCounter
from driverun.transfer.put import put
from driverun.transfer.results import (
    ARCHIVE_NAME,
    MANIFEST_NAME,
    ResultFile,
    ResultsManifest,
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

    Above MOST_SINGLE_FILES files, or where one has a name that is taken by driverun, all go into one archive.

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
    with contextlib.ExitStack() as cleanup:
        if len(files) > MOST_SINGLE_FILES or {MANIFEST_NAME, ARCHIVE_NAME} & {
            path.partition("/")[0] for path in files
        }:
            listed, archive, local = cleanup.enter_context(_packed(files))
        else:
            listed, archive, local = _listed(files), None, dict(files)
        sent = listed if archive is None else (archive,)
        total_bytes = sum(file.size_bytes for file in sent)
        counter = ProgressCounter(on_progress, total_files=len(sent), total_bytes=total_bytes)
        for file in sent:
            put(store, f"{key.results_folder}/{file.path}", local[file.path], sha256=file.sha256)
            counter.add(file.path, file.size_bytes)
    still_ours()
    manifest = ResultsManifest(key=key, files=listed, archive=archive, summary=summary)
    return _ref(key, _commit(store, key, manifest.to_bytes()))


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


def _listed(files: Mapping[str, Path]) -> tuple[ResultFile, ...]:
    return tuple(
        ResultFile(path=path, size_bytes=place.stat().st_size, sha256=sha256_of(place))
        for path, place in sorted(files.items())
    )


@contextlib.contextmanager
def _packed(
    files: Mapping[str, Path],
) -> Iterator[tuple[tuple[ResultFile, ...], ResultFile, dict[str, Path]]]:
    """All files in one archive, which is gone after the block; the same files give the same bytes."""
    with tempfile.TemporaryDirectory(prefix="driverun-") as folder:
        packed = Path(folder, ARCHIVE_NAME)
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
        whole = ResultFile(path=ARCHIVE_NAME, size_bytes=packed.stat().st_size, sha256=sha256_of(packed))
        yield tuple(listed), whole, {ARCHIVE_NAME: packed}
