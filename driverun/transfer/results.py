"""The manifest of results: which files a run produced, as the file whose existence commits them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from driverun.errors import DriverunError, IntegrityError
from driverun.runs.layout import AttemptKey, attempt_of_path
from driverun.storage.base import ObjectStore, checked_path
from driverun.transfer.checksums import digest_of

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFile:
    """One file with what its bytes have to be."""

    path: str  #: relative to the folder of the results
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsManifest:
    """What the results of an attempt are. They exist once this does."""

    key: AttemptKey
    files: tuple[ResultFile, ...]  #: sorted by path
    archive: ResultFile | None = None  #: holds `files`; None: each lies there by itself
    beside: frozenset[str] = frozenset()  #: paths of those that lie beside the archive
    summary: Mapping[str, Any] = field(
        default_factory=dict
    )  #: final numbers and digests, for people and pages

    @property
    def single(self) -> tuple[ResultFile, ...]:
        """Those of `files` that lie there by themselves."""
        if self.archive is None:
            return self.files
        return tuple(file for file in self.files if file.path in self.beside)

    @property
    def stored(self) -> tuple[ResultFile, ...]:
        """What lies in the folder of the results besides the manifest."""
        return self.single if self.archive is None else (*self.single, self.archive)

    def to_bytes(self) -> bytes:
        content = {
            "schema_version": SCHEMA_VERSION,
            "run_id": self.key.run_id,
            "attempt": self.key.number,
            "worker": self.key.worker,
            "files": [asdict(file) for file in self.files],
            "archive": None if self.archive is None else asdict(self.archive),
            "beside": sorted(self.beside),
            "summary": dict(self.summary),
        }
        signed = {**content, "manifest_sha256": digest_of(content)}
        return f"{json.dumps(signed, indent=1, sort_keys=True)}\n".encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> ResultsManifest:
        """Read what `to_bytes` wrote; fields that are not known are passed over.

        Raises:
            IntegrityError: it is none, is damaged, or comes from a newer driverun.
        """
        try:
            raw = json.loads(content)
            promised = raw.pop("manifest_sha256")
            if digest_of(raw) != promised:
                raise ValueError("its checksum does not fit")
            if raw["schema_version"] > SCHEMA_VERSION:
                raise IntegrityError(
                    f"cannot read results of format {raw['schema_version']}: this driverun knows "
                    f"{SCHEMA_VERSION}. Install a newer one."
                )
            archive = raw["archive"]
            return cls(
                key=AttemptKey(run_id=raw["run_id"], number=raw["attempt"], worker=raw["worker"]),
                files=tuple(_file(each) for each in raw["files"]),
                archive=None if archive is None else _file(archive),
                beside=frozenset(raw.get("beside", ())),
                summary=raw["summary"],
            )
        except IntegrityError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, DriverunError) as exc:
            raise IntegrityError(f"this is no manifest of results that driverun wrote: {exc}") from exc


def archive_name(run_id: str) -> str:
    """What the archive of a run's results is called: a person who downloads it still knows what it is."""
    return f"{run_id}.zip"


def read_results_manifest(store: ObjectStore, folder: str) -> ResultsManifest:
    """Return the verified manifest of the results in `folder` of the root.

    Raises:
        ObjectNotFound: there is none, so there are no results.
        IntegrityError: it is damaged, or belongs to another attempt.
    """
    path = f"{folder}/{MANIFEST_NAME}"
    try:
        manifest = ResultsManifest.from_bytes(store.read(path))
    except IntegrityError as exc:
        raise IntegrityError(f"cannot use {path}: {exc}") from exc
    if attempt_of_path(folder) not in (None, manifest.key):
        raise IntegrityError(f"cannot use {path}: it is that of {manifest.key}, copied here")
    return manifest


def _file(raw: Mapping[str, Any]) -> ResultFile:
    path, size_bytes, sha256 = raw["path"], raw["size_bytes"], raw["sha256"]
    if not (isinstance(path, str) and isinstance(size_bytes, int) and isinstance(sha256, str)):
        raise TypeError(f"{path!r} is not listed as a file")
    return ResultFile(path=checked_path(path), size_bytes=size_bytes, sha256=sha256)
