"""Packs made of data that have just arrived file by file, while the job trains."""

from __future__ import annotations

import io
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from driverun.errors import IntegrityError, StoreError, StoreQuotaExceeded, UnsafePath
from driverun.runs.layout import packs_folder
from driverun.storage.base import ObjectInfo, ObjectStore, checked_path
from driverun.transfer.checksums import sha256_of
from driverun.transfer.packs import (
    FEWEST_FILES,
    SHARD_BYTES,
    SMALL_BYTES,
    Member,
    PackIndex,
    Shard,
    find_packs,
    plan_fetch,
    superseded,
)
from driverun.transfer.put import put
from driverun.transfer.room import SPARE_BYTES, FreeBytes, free_bytes_of

#: For how long what nobody needs any more is left: a runtime may have planned with it.
INDEX_REST = timedelta(hours=1)
SHARD_REST = timedelta(days=1)  # a slow line takes hours from the first shard to the index
_BLOCK_BYTES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class ToPack:
    """One file of a source as it lies on the local disk."""

    info: ObjectInfo
    place: Path
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Packable:
    """A source that took long to fetch and would be quicker to fetch as packs."""

    source: str
    files: Sequence[ObjectInfo]  #: all of the source
    to_pack: Sequence[ToPack]  #: small files that no pack stands for


class Packer:
    """Packs one source, once. `work` and `stop` may come from different threads."""

    def __init__(
        self,
        store: ObjectStore,
        packable: Packable,
        *,
        worker: str,
        scratch: Path,
        say: Callable[[str], None],
        free_bytes: FreeBytes = free_bytes_of,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        """Prepare; nothing is read or written yet.

        Args:
            worker: its id is in the names of all it creates.
            scratch: a local folder for one shard at a time.
            shard_bytes: of content, about, in one shard.
        """
        self._store = store
        self._packable = packable
        self._worker = worker
        self._scratch = scratch
        self._say = say
        self._free_bytes = free_bytes
        self._shard_bytes = shard_bytes
        self._stopped = threading.Event()
        self._begun = False
        self._created: list[str] = []  # shards that no index names yet
        self._ended = threading.Event()

    def work(self) -> None:
        """Make the packs; later calls do nothing.

        Nothing depends on it: whatever fails is told and left, to be done by the next runtime. The bytes are read
        from the job's own folder, and a file that the job changed meanwhile is left out.
        """
        if self._begun:
            return
        self._begun = True
        try:
            self._pack()
            self._sweep()
        except StoreQuotaExceeded as exc:
            self._say(f"{self._packable.source}: there is no room on the root to pack its small files: {exc}")
            self._give_back()
        except (StoreError, IntegrityError, OSError) as exc:
            self._say(f"{self._packable.source}: its small files are not packed now: {exc}")
        finally:
            self._ended.set()

    def stop(self, *, patience_s: float = 0.0) -> None:
        """Have `work` end soon; first wait up to `patience_s` seconds for it to be done."""
        if self._begun and patience_s > 0:
            self._ended.wait(patience_s)
        self._stopped.set()

    def _pack(self) -> None:
        source = self._packable.source
        found, listing = find_packs(self._store, source)
        lacking = {info.path for info in plan_fetch(self._packable.files, held=(), found=found).unpacked}
        to_pack = [
            each for each in self._packable.to_pack if each.info.path in lacking and _is_packable(each.info)
        ]
        if len(to_pack) < FEWEST_FILES:
            return
        there = {
            (info.path.rpartition("/")[2].partition(".")[0], info.size_bytes): info for info in listing
        }  # a worker before this one may have got as far as some of the shards
        shards: list[Shard] = []
        members: list[Member] = []
        for batch in self._batches(to_pack):
            with tempfile.TemporaryDirectory(prefix="driverun-pack-", dir=self._scratch) as folder:
                if self._free_bytes(Path(folder)) < 2 * self._shard_bytes + SPARE_BYTES:
                    self._say(f"{source}: the disk has no room to pack its small files")
                    return
                file = Path(folder, "shard.tar")
                packed = self._write(file, batch, position=len(shards))
                if self._stopped.is_set():
                    return
                shard = self._send(file, there)
            shards.append(shard)
            members += packed
        if not members:
            return
        index = PackIndex(source=source, worker=self._worker, shards=tuple(shards), members=tuple(members))
        put(self._store, f"{packs_folder(source)}/{index.name}", index.to_bytes())
        self._created.clear()
        self._say(
            f"{source}: {len(members)} small files are packed in {len(shards)}; the next runtime has them sooner"
        )

    def _batches(self, to_pack: Sequence[ToPack]) -> Iterator[list[ToPack]]:
        batch: list[ToPack] = []
        size_bytes = 0
        for each in sorted(to_pack, key=lambda one: one.info.path):
            if batch and size_bytes + each.info.size_bytes > self._shard_bytes:
                yield batch
                batch, size_bytes = [], 0
            batch.append(each)
            size_bytes += each.info.size_bytes
        if batch:
            yield batch

    def _write(self, file: Path, batch: Sequence[ToPack], *, position: int) -> list[Member]:
        """Write a shard; the same files give the same bytes."""
        packed = []
        with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as archive:
            for each in batch:
                if self._stopped.is_set():
                    break
                content = _content_of(each)
                if content is None:
                    continue
                entry = tarfile.TarInfo(each.info.path)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
                padded_bytes = -(-len(content) // _BLOCK_BYTES) * _BLOCK_BYTES
                packed.append(
                    Member(
                        path=each.info.path,
                        size_bytes=len(content),
                        sha256=each.sha256,
                        object_id=each.info.object_id,
                        modified_at=each.info.modified_at.isoformat(),
                        shard=position,
                        offset=archive.offset - padded_bytes,
                    )
                )
        return packed

    def _send(self, file: Path, there: dict[tuple[str, int], ObjectInfo]) -> Shard:
        sha256, size_bytes = sha256_of(file), file.stat().st_size
        known = there.get((sha256, size_bytes))
        if known is not None:
            return Shard(name=known.path.rpartition("/")[2], size_bytes=size_bytes, sha256=sha256)
        name = f"{sha256}.{self._worker}.tar"
        path = f"{packs_folder(self._packable.source)}/{name}"
        put(self._store, path, file, sha256=sha256)
        self._created.append(path)
        return Shard(name=name, size_bytes=size_bytes, sha256=sha256)

    def _give_back(self) -> None:
        """Remove the shards of this try: the room is for checkpoints."""
        try:
            for path in self._created:
                self._store.delete(path)
        except StoreError as exc:
            self._say(f"{self._packable.source}: shards that nobody needs are left on the root: {exc}")

    def _sweep(self) -> None:
        """Remove packs that have been out of date for a while."""
        if self._stopped.is_set():
            return
        found, listing = find_packs(self._store, self._packable.source)
        created_at = {info.path: info.created_at for info in listing}
        now = self._store.now()
        for path in superseded(self._packable.files, found, listing):
            rest = INDEX_REST if path.endswith(".json") else SHARD_REST
            if now - created_at[path] > rest:
                self._store.delete(path)


def _is_packable(info: ObjectInfo) -> bool:
    try:
        checked_path(info.path)
    except UnsafePath:  # some stores of the world permit a//b
        return False
    return info.size_bytes <= SMALL_BYTES and bool(info.object_id)


def _content_of(each: ToPack) -> bytes | None:
    """The file as it arrived; None where the job has changed or removed it since."""
    try:
        with each.place.open("rb") as file:
            content = file.read(each.info.size_bytes + 1)
    except OSError:
        return None
    return content if sha256_of(content) == each.sha256 else None
