"""Installed packages kept on the root, so that a resume, or another run that wants the same, downloads nothing again.

    .driverun/envs/<key>/packages-<sha256>.<worker>.zip    the folder as it was installed
                         lock-<worker>.json                what is in it; it comes last, and the rest counts by it

The key is a digest of all that decides what gets installed. Workers may make equal ones at the same time; any serves.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driverun.errors import IntegrityError, ObjectNotFound
from driverun.runs.layout import env_folder
from driverun.storage.base import ObjectInfo, ObjectStore, People, people_of, read_believed
from driverun.transfer.checksums import sha256_of
from driverun.transfer.put import put
from driverun.transfer.walk import storable_path

SCHEMA_VERSION = 1
MOST_BYTES = 2 * 10**9  #: of packages as they are installed; more is downloaded each time
_LOCK = re.compile(r"lock-[a-z0-9]+\.json")
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPackages:
    """What a lock says."""

    packages: Mapping[str, str]  #: name to version, or to the address it came from
    file: str  #: name of the archive beside the lock
    sha256: str  #: of the archive
    size_bytes: int

    def to_bytes(self) -> bytes:
        told = {"schema_version": SCHEMA_VERSION, "packages": dict(self.packages)}
        return json.dumps(
            {**told, "file": self.file, "sha256": self.sha256, "size_bytes": self.size_bytes}, indent=1
        ).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> KeptPackages:
        """Raises IntegrityError for what is no lock of this version."""
        try:
            raw: dict[str, Any] = json.loads(content)
            if raw["schema_version"] > SCHEMA_VERSION:
                raise ValueError("a newer driverun wrote it")
            found = cls(
                packages={str(name): str(version) for name, version in raw["packages"].items()},
                file=str(raw["file"]),
                sha256=str(raw["sha256"]),
                size_bytes=int(raw["size_bytes"]),
            )
            if not re.fullmatch(r"packages-[0-9a-f]{64}\.[a-z0-9]+\.zip", found.file):
                raise ValueError(f"{found.file!r} is no name of packages")
            return found
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise IntegrityError(f"cannot read a lock of packages: {exc!r}") from exc


def keep_packages(
    store: ObjectStore, key: str, folder: Path, packages: Mapping[str, str], *, worker: str, scratch: Path
) -> KeptPackages | None:
    """Put the installed packages in `folder` on the root; None where they are larger than MOST_BYTES.

    Repeating the call after a crash is safe; what was put there before does not count without its lock.

    Raises:
        StoreError, IntegrityError: they are not there.
    """
    if size_of(folder) > MOST_BYTES:
        return None
    with tempfile.TemporaryDirectory(prefix="packages-", dir=scratch) as place:
        archive = Path(place, "packages.zip")
        _pack(folder, archive)
        sha256 = sha256_of(archive)
        kept = KeptPackages(
            packages=packages,
            file=f"packages-{sha256}.{worker}.zip",
            sha256=sha256,
            size_bytes=archive.stat().st_size,
        )
        put(store, f"{env_folder(key)}/{kept.file}", archive, sha256=sha256)
    put(store, f"{env_folder(key)}/lock-{worker}.json", kept.to_bytes())
    return kept


def kept_packages(store: ObjectStore, key: str) -> Iterator[KeptPackages]:
    """What the root holds for this key and may be believed, the newest first.

    On a root that several people write to, packages are code: only those count that somebody made whose word does.

    Raises:
        StoreError: the root cannot be asked.
    """
    people = people_of(store)
    locks = [info for info in store.list(env_folder(key)) if _is_lock(info) and _counts(info, people)]
    for info in sorted(locks, key=lambda info: (info.created_at, info.path), reverse=True):
        try:
            yield KeptPackages.from_bytes(read_believed(store, info.path))
        except (IntegrityError, ObjectNotFound):
            continue


def fetch_packages(store: ObjectStore, key: str, kept: KeptPackages, into: Path, *, scratch: Path) -> None:
    """Bring the packages into the folder `into`, which is made; verified, whole or not at all.

    Raises:
        IntegrityError: what is there is not what the lock says.
        ObjectNotFound: somebody removed it.
        StoreError: the root cannot be asked.
    """
    path = f"{env_folder(key)}/{kept.file}"
    with tempfile.TemporaryDirectory(prefix="packages-", dir=scratch) as place:
        archive = Path(place, "packages.zip")
        store.download(path, archive)
        if archive.stat().st_size != kept.size_bytes or sha256_of(archive) != kept.sha256:
            raise IntegrityError(f"cannot use {path}: its bytes are not those that were put there")
        fresh = Path(place, "packages")
        fresh.mkdir()
        _unpack(archive, fresh)
        shutil.rmtree(into, ignore_errors=True)
        fresh.rename(into)


def size_of(folder: Path) -> int:
    """Of all files below the folder, in bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _is_lock(info: ObjectInfo) -> bool:
    return _LOCK.fullmatch(info.path.rpartition("/")[2]) is not None


def _counts(info: ObjectInfo, people: People | None) -> bool:
    return people is None or people.believes(info.author)


def _pack(folder: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for file in sorted(folder.rglob("*")):
            if not file.is_file() or "__pycache__" in file.parts:
                continue
            member = zipfile.ZipInfo(storable_path(file.relative_to(folder).as_posix()), date_time=_DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3
            member.external_attr = stat.S_IMODE(file.stat().st_mode) << 16
            with file.open("rb") as source, packed.open(member, "w", force_zip64=True) as into:
                shutil.copyfileobj(source, into)


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as packed:
            for member in packed.infolist():
                target = folder / storable_path(member.filename)
                target.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(member) as source, target.open("wb") as into:
                    shutil.copyfileobj(source, into)
                os.chmod(target, (member.external_attr >> 16) & 0o777 | 0o600)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as exc:
        raise IntegrityError(f"cannot unpack the packages: {exc}") from exc
