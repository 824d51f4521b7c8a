"""A person's file or folder put in a place on the root."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from driverun.clock import Clock
from driverun.errors import UnsafePath, UsageError
from driverun.runs import layout
from driverun.storage.base import ObjectInfo, ObjectStore, checked_path
from driverun.transfer.parallel import send_each
from driverun.transfer.progress import OnProgress, ProgressCounter
from driverun.transfer.put import Outcome, put
from driverun.transfer.walk import local_files, storable_path

_OWN = (layout.LEDGER, layout.RUNS)
_FOLDERS = (layout.DATA, layout.JOBS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """What an upload did, by path on the root."""

    outcomes: Mapping[str, Outcome]
    size_bytes: int  #: of all files, sent or found equal


def upload(
    store: ObjectStore,
    local: Path,
    target: str,
    on_progress: OnProgress | None = None,
    *,
    clock: Clock | None = None,
) -> Uploaded:
    """Put the file or the folder `local` at `target` on the root.

    A file goes to `target` itself, or under its own name into it where that ends in "/". A folder's content
    goes into the folder `target`, with or without that "/". Equal files are left as they are, others
    replaced, each of them whole or not at all. Files there that are not in `local` stay. Repeating the call
    is safe.

    Args:
        on_progress: is called from several threads, one at a time.
        clock: for the rate in it.

    Raises:
        UsageError: there is nothing at `local`; `target` names a folder of driverun's, or cannot hold a file.
        UnsafePath: `target` leads out of the root.
        ObjectExists: a folder is where a file should go, or a file where a folder should be.
    """
    contents = _contents(local, _checked_target(target), is_folder=target.endswith("/"))
    sizes_bytes = {path: place.stat().st_size for path, place in contents.items()}
    known = _known(store, _checked_target(target)) if len(contents) > 1 else {}
    counter = ProgressCounter(
        on_progress, total_files=len(contents), total_bytes=sum(sizes_bytes.values()), clock=clock
    )
    outcomes: dict[str, Outcome] = {}

    def send(path: str) -> None:
        outcomes[path] = put(store, path, contents[path], known=known.get(path)).outcome
        counter.add(path, sizes_bytes[path])

    send_each(contents, send)
    return Uploaded(outcomes=outcomes, size_bytes=sum(sizes_bytes.values()))


def _checked_target(target: str) -> str:
    path = checked_path(target.removesuffix("/"))
    parts = path.split("/")
    if parts[0] in _OWN or layout.META in parts:
        raise UsageError(
            f"cannot upload to {target}: driverun keeps its own files there. Upload to data/ or jobs/."
        )
    return path


def _contents(local: Path, path: str, *, is_folder: bool) -> dict[str, Path]:
    """Path on the root to local file."""
    if local.is_dir():
        found = {
            f"{path}/{relative}": place
            for relative, place in local_files(
                local, leave_out=lambda relative: layout.META in relative.split("/"), links_may_leave=True
            )
        }
        if not found:
            raise UsageError(f"cannot upload {local}: it holds no files")
        return found
    if not local.is_file():
        raise UsageError(f"cannot upload {local}: there is no such file or folder")
    if is_folder:
        return {f"{path}/{_name(local)}": local}
    if path in _FOLDERS:
        raise UsageError(
            f"cannot upload the file {local} as {path}, which is a folder: write {path}/ to put it inside"
        )
    return {path: local}


def _name(local: Path) -> str:
    name = local.resolve().name if local.name in ("", "..") else local.name
    if name == layout.META:
        raise UnsafePath(f"cannot upload {local}: {layout.META} is a name of driverun's own")
    return storable_path(name)


def _known(store: ObjectStore, folder: str) -> dict[str, ObjectInfo]:
    return {info.path: info for info in store.list(folder, recursive=True)}
