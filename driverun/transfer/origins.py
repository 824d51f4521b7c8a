"""Where the files of one source lie, and how each is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driverun.clock import Clock
from driverun.errors import ObjectNotFound, UsageError
from driverun.runs.layout import META
from driverun.spec.sources import SourceKind, kind_of, name_of, read_drive_link
from driverun.storage.base import Downloads, ObjectInfo, ObjectStore, OpensLinks, checked_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """One source, found: its files and where to fetch them."""

    source: str
    name: str  #: of the file or folder
    is_folder: bool
    files: Sequence[ObjectInfo]  #: sorted by path
    prefix: str  #: what the paths of a folder's files begin with, its own "/" included
    downloads: Downloads

    def inside(self, info: ObjectInfo) -> str:
        """The path of a folder's file, relative to the folder; a clean one."""
        return checked_path(info.path.removeprefix(self.prefix))


def find_origin(store: ObjectStore, source: str, *, clock: Clock) -> Origin | None:
    """The source as it is now; None where there is nothing.

    Args:
        clock: waits between tries at an address that does not answer.

    Raises:
        UsageError: this root, or this machine, cannot open such a source.
        StoreAccessDenied: it may not be read.
    """
    match kind_of(source):
        case SourceKind.PATH:
            return _on_root(store, source)
        case SourceKind.DRIVE:
            return _linked(store, source)
        case SourceKind.ADDRESS:
            from driverun.transfer.addresses import address_origin

            return address_origin(source, clock=clock)


def find_source(store: ObjectStore, path: str) -> list[ObjectInfo]:
    """The object at `path` of the root, or all in the folder there, sorted by path; empty where there is neither.

    What driverun keeps beside data (`.driverun/`) is left out.
    """
    try:
        return [store.stat(path)]
    except ObjectNotFound:
        return objects_below(store, path)


def objects_below(store: ObjectStore, folder: str) -> list[ObjectInfo]:
    """All objects in the folder of the root and beneath, without driverun's own."""
    return [
        info
        for info in store.list(folder, recursive=True)
        if META not in info.path.removeprefix(f"{folder}/").split("/")
    ]


def _on_root(store: ObjectStore, path: str) -> Origin | None:
    files = find_source(store, path)
    if not files:
        return None
    is_folder = [info.path for info in files] != [path]
    return Origin(
        source=path,
        name=name_of(path),
        is_folder=is_folder,
        files=files,
        prefix=f"{path}/" if is_folder else "",
        downloads=store,
    )


def _linked(store: ObjectStore, source: str) -> Origin | None:
    link = read_drive_link(source)
    assert link is not None, "it is written as a link"
    if not isinstance(store, OpensLinks):
        raise UsageError(
            f"cannot open {source}: {store.location} is no root on Drive, and only such a root has the access "
            "that a Drive id or share link needs. Put the file into the root with `driverun upload`, or use a "
            "root on Drive (gdrive:...)."
        )
    try:
        item = store.open_link(link.file_id, resource_key=link.resource_key)
        files = item.list()
    except ObjectNotFound:
        return None
    return Origin(
        source=source, name=item.name, is_folder=item.is_folder, files=files, prefix="", downloads=item
    )
