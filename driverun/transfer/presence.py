"""Which sources of a job are not on the root."""

from __future__ import annotations

from driverun.spec.model import JobSpec
from driverun.spec.sources import SourceKind, kind_of
from driverun.storage.base import ObjectStore
from driverun.transfer.origins import objects_below


class KnownSources:
    """Which paths are on the root, each of them looked for once."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._known: dict[str, bool] = {}

    def has(self, path: str) -> bool:
        if path not in self._known:
            self._known[path] = _is_there(self._store, path)
        return self._known[path]


def missing_sources(known: KnownSources, spec: JobSpec) -> list[str]:
    """The sources that the job cannot run without and the root has not, in the order of the spec.

    By listings: of the folder that a source is in, and of the source if it is a folder. What is not on the
    root is not looked for: the attempt will see.
    """
    return [
        source.source
        for source in spec.data
        if not source.optional and kind_of(source.source) is SourceKind.PATH and not known.has(source.source)
    ]


def _is_there(store: ObjectStore, path: str) -> bool:
    # By listings alone: a store on Drive knows them and asks nothing for them, while each stat is a request.
    beside = store.list(path.rpartition("/")[0])
    return (
        any(info.path == path for info in beside)
        or bool(store.list(path))
        or bool(objects_below(store, path))
    )
