"""A job's code: found in its folder, kept on the root under its digest, and brought back verified."""

from __future__ import annotations

import io
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from driverun.errors import IntegrityError, ObjectExists, ObjectNotFound, UnsafePath, UsageError
from driverun.runs import layout
from driverun.spec.identity import code_sha256_of
from driverun.storage.base import ObjectInfo, ObjectStore
from driverun.transfer.checksums import sha256_of
from driverun.transfer.progress import written_size
from driverun.transfer.put import put
from driverun.transfer.walk import local_files, storable_path

JOB_FILE = "job.yaml"
MAX_FILES = 10_000
MAX_BYTES = 100_000_000
LEFT_OUT = frozenset({"__pycache__", "venv", "node_modules"})  # beside everything hidden, .git and .venv too
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say
# A script names its interpreter; then ELF, and Mach-O in its four ways of writing.
_EXECUTABLE_HEADS = (
    b"#!",
    b"\x7fELF",
    b"\xcf\xfa\xed\xfe",
    b"\xce\xfa\xed\xfe",
    b"\xfe\xed\xfa\xcf",
    b"\xca\xfe\xba\xbe",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """One file of a job's code."""

    content: bytes
    sha256: str
    is_executable: bool

    @classmethod
    def of(cls, content: bytes) -> JobFile:
        """The file with this content.

        Whether it may be executed is read from its first bytes, not from its mode: roots keep no modes, and
        the same code has to be the same run whether it was found here or there.
        """
        return cls(
            content=content, sha256=sha256_of(content), is_executable=content.startswith(_EXECUTABLE_HEADS)
        )


@dataclass(frozen=True, kw_only=True)
class JobFiles:
    """The code of a job, read at one moment."""

    files: Mapping[str, JobFile]  #: path relative to the job's folder, "/" between its parts
    #: Of a root: these and the job file, as they were listed.
    seen: Mapping[str, ObjectInfo] = field(default_factory=dict, compare=False)

    @cached_property
    def code_sha256(self) -> str:
        return code_sha256_of({path: (file.sha256, file.is_executable) for path, file in self.files.items()})

    @property
    def size_bytes(self) -> int:
        return sum(len(file.content) for file in self.files.values())


def is_code(path: str) -> bool:
    """Whether a file or folder at `path`, relative to a job's folder, is or may hold code, by its name."""
    parts = path.split("/")
    if path == JOB_FILE or path.endswith(".pyc"):
        return False
    return not any(part.startswith(".") or part in LEFT_OUT for part in parts)


def read_job_folder(folder: Path, *, only: Collection[str] | None = None) -> JobFiles:
    """Return the code of the job in the local `folder`.

    Args:
        only: the files that are its code, relative to `folder`; for a job that is a lone file among others.
            Those that do not exist are missing from the answer.

    Raises:
        UsageError: there is no such folder, or it holds too much for code.
        UnsafePath: a link leads out of it or nowhere, or a name that no root can hold.
    """
    if not folder.is_dir():
        raise UsageError(f"cannot read the job in {folder}: there is no such folder")
    if only is None:
        found = list(local_files(folder, leave_out=lambda path: not is_code(path), links_may_leave=False))
    else:
        found = [
            (path, folder / path) for path in sorted(map(storable_path, only)) if (folder / path).is_file()
        ]
        for _, place in found:
            _refuse_outside(place, folder)
    _refuse_too_much(str(folder), [(path, place.stat().st_size) for path, place in found])
    return JobFiles(files={path: JobFile.of(place.read_bytes()) for path, place in found})


def read_job_on_root(
    store: ObjectStore,
    folder: str,
    *,
    only: Collection[str] | None = None,
    wants: Callable[[str], bool] = lambda _: True,
) -> JobFiles:
    """Return the code of the job in `folder` of the root, as `read_job_folder` does.

    Args:
        wants: which files are read; the others are there, and empty.

    Raises:
        ObjectNotFound: a file was removed meanwhile.
        IntegrityError: a file changed while it was read, as far as the store can tell.
    """
    if only is None:
        seen = {info.path.removeprefix(f"{folder}/"): info for info in store.list(folder, recursive=True)}
        seen = {path: info for path, info in sorted(seen.items()) if is_code(path) or path == JOB_FILE}
        found = {path: info for path, info in seen.items() if path != JOB_FILE}
    else:
        found = {}
        for path in sorted(map(storable_path, only)):
            try:
                found[path] = store.stat(f"{folder}/{path}")
            except ObjectNotFound:
                continue
        seen = found
    _refuse_too_much(folder, [(path, info.size_bytes) for path, info in found.items()])
    read = {
        path: _read_verified(store, info) if wants(path) else JobFile.of(b"") for path, info in found.items()
    }
    return JobFiles(files=read, seen=seen)


def pack_code(files: JobFiles) -> bytes:
    """Return a zip of the files; the same files give the same bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, file in sorted(files.files.items()):
            member = zipfile.ZipInfo(path, date_time=_FIXED_DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3  # Unix, wherever it is packed
            member.external_attr = (stat.S_IFREG | (0o755 if file.is_executable else 0o644)) << 16
            archive.writestr(member, file.content, compresslevel=6)
    return packed.getvalue()


def capture_code(store: ObjectStore, files: JobFiles) -> str:
    """Keep the code on the root, once for all runs that share it; return its `code_sha256`.

    What is there already is verified; a damaged copy is replaced, which harms nobody: every writer of this
    path writes the same files.
    """
    path = layout.code_file(files.code_sha256)
    packed = pack_code(files)
    try:
        store.create(path, packed)
    except ObjectExists:
        try:
            _verified_members(store.read(path), path, files.code_sha256)
        except IntegrityError:
            store.replace(path, packed)
    return files.code_sha256


def unpack_code(store: ObjectStore, code_sha256: str, folder: Path) -> dict[str, str]:
    """Write the code into `folder`; return the sha256 of each file by its path.

    Nothing is written before all of it is verified. `folder` is made where it is missing; files of the same
    names are replaced.

    Raises:
        ObjectNotFound: the root holds no such code.
        IntegrityError: what it holds is not this code.
    """
    path = layout.code_file(code_sha256)
    members = _verified_members(store.read(path), path, code_sha256)
    for name, file in members.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)  # never write through a link
        place.write_bytes(file.content)
        place.chmod(0o755 if file.is_executable else 0o644)
    return {name: file.sha256 for name, file in members.items()}


def stored_code(store: ObjectStore, code_sha256: str) -> JobFiles:
    """Return the code that the root keeps under this digest, verified.

    Raises:
        ObjectNotFound: the root holds no such code.
        IntegrityError: what it holds is not this code.
    """
    path = layout.code_file(code_sha256)
    return JobFiles(files=_verified_members(store.read(path), path, code_sha256))


def place_job(
    store: ObjectStore,
    folder: Path,
    name: str,
    *,
    job_file: str = JOB_FILE,
    only: Collection[str] | None = None,
) -> None:
    """Put the job in the local `folder` on the root as `jobs/<name>/`, where people see and change it.

    Missing files are created, changed ones replaced, others there are left alone; the job file comes last, so
    that nobody takes up a job whose code is still on its way. Repeating the call after a crash is safe.

    Args:
        job_file: its job file, which is called `job.yaml` on the root.
        only: as in `read_job_folder`.

    Raises:
        UsageError: the folder has no such job file, or holds too much for code.
        UnsafePath: a link leads out of it, or `name` is no plain name.
    """
    if not (folder / job_file).is_file():
        raise UsageError(f"cannot put the job in {folder} on the root: it has no {job_file}")
    if "/" in storable_path(name):
        raise UnsafePath(f"cannot use {name!r} as the name of a job: it has to be one plain name")
    target = f"{layout.JOBS}/{name}"
    contents = {
        path: file.content
        for path, file in read_job_folder(folder, only=only).files.items()
        if path != job_file
    }
    contents[JOB_FILE] = (folder / job_file).read_bytes()
    known = {info.path: info for info in store.list(target, recursive=True)}
    for path, content in contents.items():
        put(store, f"{target}/{path}", content, known=known.get(f"{target}/{path}"))


def _refuse_outside(place: Path, folder: Path) -> None:
    real = Path(os.path.realpath(place))
    if not real.is_relative_to(os.path.realpath(folder)):
        raise UnsafePath(f"cannot take {place}: it is a link to {real}, outside of the folder")


def _refuse_too_much(folder: str, sizes: Iterable[tuple[str, int]]) -> None:
    found = sorted(sizes, key=lambda each: each[1], reverse=True)
    total_bytes = sum(size for _, size in found)
    if total_bytes > MAX_BYTES:
        path, size_bytes = found[0]
        raise UsageError(
            f"cannot take {folder} as a job's code: it holds {written_size(total_bytes)}, "
            f"{written_size(MAX_BYTES)} "
            f"is the most; the largest file is {path} ({written_size(size_bytes)}). {_WHERE_DATA_BELONGS}"
        )
    if len(found) > MAX_FILES:
        raise UsageError(
            f"cannot take {folder} as a job's code: it holds {len(found)} files, {MAX_FILES} are the most. "
            f"{_WHERE_DATA_BELONGS}"
        )


_WHERE_DATA_BELONGS = (
    "Data belongs in data/ of the root: `driverun upload LOCAL data/NAME`, "
    "and name it under `data:` in the job file."
)


def _read_verified(store: ObjectStore, info: ObjectInfo) -> JobFile:
    file = JobFile.of(store.read(info.path))
    seen = info.sha256
    if seen is None and info.author is not None:  # so that what was read is what this author wrote
        seen = file.sha256 if store.stat(info.path).modified_at == info.modified_at else ""
    if len(file.content) != info.size_bytes or seen not in (None, file.sha256):
        raise IntegrityError(f"cannot read {info.path}: it changed while it was read. Try again.")
    return file


def _verified_members(packed: bytes, path: str, code_sha256: str) -> dict[str, JobFile]:
    """The files in a zip, if they are the code of this digest. Raises IntegrityError where they are not."""
    try:
        members = _members(packed)
        digest = code_sha256_of({name: (file.sha256, file.is_executable) for name, file in members.items()})
    except (zipfile.BadZipFile, zlib.error, UnsafePath, ValueError, EOFError, OSError) as exc:
        raise IntegrityError(f"cannot use {path}: it is damaged ({exc}). {_RESUBMIT}") from exc
    except (RuntimeError, NotImplementedError) as exc:  # how zipfile refuses encryption and odd compression
        raise IntegrityError(f"cannot use {path}: driverun did not write it ({exc}). {_RESUBMIT}") from exc
    if digest != code_sha256:
        raise IntegrityError(f"cannot use {path}: it holds other code than its name says. {_RESUBMIT}")
    return members


_RESUBMIT = "Submit the job again: that puts a good copy in its place."


def _members(packed: bytes) -> dict[str, JobFile]:
    members: dict[str, JobFile] = {}
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        listed = archive.infolist()
        if len(listed) > MAX_FILES or sum(member.file_size for member in listed) > MAX_BYTES:
            raise ValueError("it is larger than code may be")
        for member in listed:
            name = storable_path(member.filename)
            if name in members:
                raise ValueError(f"{name} is in it twice")
            members[name] = JobFile.of(archive.read(member))
    if any(other.startswith(f"{name}/") for name in members for other in members):
        raise ValueError("a file in it has the name of a folder")
    return members
