"""Results brought from the root to a local folder."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from driverun.clock import Clock
from driverun.errors import IntegrityError, UsageError
from driverun.storage.base import ObjectStore
from driverun.transfer.archives import Member, unpack
from driverun.transfer.checksums import copy_hashed, sha256_of
from driverun.transfer.parallel import for_each
from driverun.transfer.progress import OnProgress, ProgressCounter
from driverun.transfer.results import ResultFile, ResultsManifest, read_results_manifest

_MOST_NAMED = 5
_THREADS = 8


def fetch_results(
    store: ObjectStore,
    folder: str,
    dest: Path,
    on_progress: OnProgress | None = None,
    *,
    clock: Clock | None = None,
) -> list[Path]:
    """Write the results in `folder` of the root to the local `dest`; return their places, sorted by path.

    Each file is verified before it appears. Equal files that are there already are left as they are.

    Args:
        on_progress: is called from several threads, one at a time.
        clock: for the rate in it.

    Raises:
        ObjectNotFound: there are no results.
        UsageError: `dest` holds other files of these names; nothing was touched.
        IntegrityError: a result is not what the manifest says; it was not written.
    """
    manifest = read_results_manifest(store, folder)
    wanted = _without_those_there(manifest.files, dest)
    total_bytes = sum(file.size_bytes for file in wanted)
    counter = ProgressCounter(on_progress, total_files=len(wanted), total_bytes=total_bytes, clock=clock)
    dest.mkdir(parents=True, exist_ok=True)
    if wanted:
        with tempfile.TemporaryDirectory(prefix=".driverun-", dir=dest) as workdir:
            single = {file.path for file in manifest.single}
            archived = [file for file in wanted if file.path not in single]
            if manifest.archive is not None and archived:
                packed = Path(workdir, "archive")
                store.download(f"{folder}/{manifest.archive.path}", packed)
                _verify(manifest.archive, folder, sha256_of(packed))
                _unpack(packed, f"{folder}/{manifest.archive.path}", folder, archived, dest, counter)

            def bring(file: ResultFile) -> None:
                with tempfile.TemporaryDirectory(dir=workdir) as own:
                    arrived = Path(own, "object")
                    store.download(f"{folder}/{file.path}", arrived)
                    _verify(file, folder, sha256_of(arrived))
                    _show(arrived, dest / file.path)
                counter.add(file.path, file.size_bytes)

            for_each([file for file in wanted if file.path in single], bring, threads=_THREADS)
    return [dest / file.path for file in manifest.files]


class ResultReader:
    """Single results of a run, read where they are needed; an archive of them is fetched once."""

    def __init__(self, store: ObjectStore, folder: str, manifest: ResultsManifest, scratch: Path) -> None:
        """Read the results in `folder` of the root.

        Args:
            scratch: a local folder for the archive, which lives at least as long as this.
        """
        self._store = store
        self._folder = folder
        self._manifest = manifest
        self._place = scratch / f"results-{sha256_of(folder.encode())[:16]}.zip"
        self._files = {file.path: file for file in manifest.files}
        self._single = {file.path for file in manifest.single}

    def read(self, path: str) -> bytes:
        """The content of one result, verified.

        Raises:
            ObjectNotFound: it is gone.
            IntegrityError: it is not what the manifest says.
        """
        is_single = path in self._single
        content = self._store.read(f"{self._folder}/{path}") if is_single else self._archived(path)
        _verify(self._files[path], self._folder, sha256_of(content))
        return content

    def _archived(self, path: str) -> bytes:
        archive = self._manifest.archive
        assert archive is not None, "what is not single is in the archive"
        if not self._place.exists():
            arrived = self._place.with_suffix(".part")
            self._store.download(f"{self._folder}/{archive.path}", arrived)
            _verify(archive, self._folder, sha256_of(arrived))
            arrived.replace(self._place)
        with zipfile.ZipFile(self._place) as packed:
            try:
                return packed.read(path)
            except KeyError as exc:
                raise IntegrityError(f"cannot read {self._folder}: its archive has no {path}") from exc


def _without_those_there(files: Sequence[ResultFile], dest: Path) -> list[ResultFile]:
    wanted: list[ResultFile] = []
    in_the_way: list[str] = []
    if dest.exists() and not dest.is_dir():
        raise UsageError(f"cannot fetch to {dest}: it is a file. Name a folder as DEST.")
    for file in files:
        place = dest / file.path
        blocked = next(
            (above for above in _parents(place, dest) if above.exists() and not above.is_dir()), None
        )
        if blocked is not None:
            in_the_way.append(str(blocked))
        elif not os.path.lexists(place):
            wanted.append(file)
        elif not _is_equal(place, file):
            in_the_way.append(str(place))
    if in_the_way:
        named = sorted(set(in_the_way))
        more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
        raise UsageError(
            f"cannot fetch to {dest}: {', '.join(named[:_MOST_NAMED])}{more} would be overwritten with other "
            "content; nothing was touched. Give another DEST."
        )
    return wanted


def _parents(place: Path, dest: Path) -> list[Path]:
    return [above for above in place.parents if above != dest and above.is_relative_to(dest)]


def _is_equal(place: Path, file: ResultFile) -> bool:
    return place.is_file() and place.stat().st_size == file.size_bytes and sha256_of(place) == file.sha256


def _unpack(
    archive: Path,
    name: str,
    folder: str,
    wanted: Sequence[ResultFile],
    dest: Path,
    counter: ProgressCounter,
) -> None:
    missing = {file.path: file for file in wanted}

    def take(member: Member) -> None:
        file = missing.pop(member.path, None)
        if file is None:
            return
        unpacked = archive.with_name("member")
        with unpacked.open("wb") as into:
            sha256, _ = copy_hashed(member.content, into)
        _verify(file, folder, sha256)
        _show(unpacked, dest / file.path)
        counter.add(file.path, file.size_bytes)

    unpack(archive, name=name, take=take)
    if missing:
        raise IntegrityError(
            f"cannot fetch {folder}: its archive has no {', '.join(sorted(missing)[:_MOST_NAMED])}"
        )


def _verify(file: ResultFile, folder: str, sha256: str) -> None:
    if sha256 != file.sha256:
        raise IntegrityError(
            f"cannot fetch {folder}/{file.path}: its bytes are {sha256[:12]}…, {file.sha256[:12]}… was "
            "committed. It is damaged on the root; nothing of it was written."
        )


def _show(arrived: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    arrived.replace(place)
