"""Files at addresses that fsspec opens: https, gs, s3, hf and whatever else is installed."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from driverun.clock import Clock
from driverun.errors import DriverunError, IntegrityError, ObjectNotFound, StoreAccessDenied, UsageError
from driverun.spec.sources import name_of
from driverun.storage.base import ObjectInfo
from driverun.transfer.origins import Origin

#: The extra of driverun that brings the library of a scheme.
EXTRAS = {
    "http": "https",
    "https": "https",
    "gs": "gs",
    "gcs": "gs",
    "s3": "s3",
    "s3a": "s3",
    "hf": "hf",
}
#: Libraries of which each release takes one release of fsspec; a newer one would bring its own along.
_BOUND_TO_FSSPEC = {"gs": "gcsfs", "s3": "s3fs"}
WAITS_S = (1.0, 4.0, 15.0)  #: before a second, third and fourth try

#: What tells one content of an address from the next, by what each filesystem calls it.
_VERSION_FIELDS = (
    "ETag",
    "etag",
    "Last-Modified",
    "LastModified",
    "last_modified",
    "mtime",
    "updated",
    "generation",
    "md5Hash",
    "crc32c",
    "blob_id",
    "lfs",
    "created",
    "VersionId",
)
_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")


def address_origin(address: str, *, clock: Clock) -> Origin | None:
    """The file or folder at the address as it is now; None where there is none.

    Raises:
        UsageError: the library for such addresses is not installed, or fsspec knows none.
        StoreAccessDenied: it may not be read from here.
        ObjectNotFound: it does not answer; the run waits for its data and is tried again.
    """
    remote = _Remote(address, clock=clock)
    found = remote.found()
    if found is None:
        return None
    is_folder, files, prefix = found
    return Origin(
        source=address,
        name=name_of(address),
        is_folder=is_folder,
        files=files,
        prefix=prefix,
        downloads=remote,
    )


class _Remote:
    """The filesystem of one address."""

    def __init__(self, address: str, *, clock: Clock) -> None:
        self._address = address
        self._clock = clock
        self._filesystem, self._top = self._opened()
        self._md5s: dict[str, str] = {}
        self._known: dict[str, ObjectInfo] = {}

    @property
    def location(self) -> str:
        return self._address

    def found(self) -> tuple[bool, list[ObjectInfo], str] | None:
        """Whether it is a folder, its files, and what their paths begin with; None where nothing is."""
        try:
            told = self._asked("look at", lambda: self._filesystem.info(self._top))
            if told.get("type") != "directory":
                return False, [self._info(self._top, told)], ""
            below = self._asked("list", lambda: self._filesystem.find(self._top, detail=True))
        except FileNotFoundError:
            return None
        files = [self._info(path, each) for path, each in sorted(below.items())]
        return (True, files, f"{self._top.rstrip('/')}/") if files else None

    def download(self, path: str, target: Path) -> ObjectInfo:
        part = target.with_name(f"{target.name}.part")
        info = self._known[path]
        try:
            try:
                self._asked("download", lambda: self._filesystem.get_file(path, str(part)))
            except FileNotFoundError as exc:
                raise ObjectNotFound(
                    f"cannot download {self._address}: {path} is gone", path=self._address
                ) from exc
            self._verify(part, info)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return info

    def _verify(self, part: Path, info: ObjectInfo) -> None:
        size_bytes = part.stat().st_size
        faults = []
        if info.object_id and size_bytes != info.size_bytes:
            faults.append(f"{size_bytes} bytes arrived, {info.size_bytes} were promised")
        if info.sha256 is not None and _digest(part, "sha256").hex() != info.sha256:
            faults.append("its SHA-256 is not the one that was promised")
        md5 = self._md5s.get(info.path)
        if md5 is not None and base64.b64encode(_digest(part, "md5")).decode() != md5:
            faults.append("its MD5 is not the one that was promised")
        if faults:
            raise IntegrityError(
                f"cannot use {info.path} of {self._address}: {faults[0]}. Nothing was kept of it; try again."
            )

    def _info(self, path: str, told: Mapping[str, Any]) -> ObjectInfo:
        versions = {field: str(told[field]) for field in _VERSION_FIELDS if told.get(field) is not None}
        size_bytes = told.get("size")
        is_known = bool(versions) and isinstance(size_bytes, int)
        if isinstance(md5 := told.get("md5Hash"), str):
            self._md5s[path] = md5
        lfs = told.get("lfs")
        sha256 = lfs.get("sha256") if isinstance(lfs, Mapping) else getattr(lfs, "sha256", None)
        info = ObjectInfo(
            path=path,
            # Empty where nothing tells one content from the next, so that no copy of it is ever used again.
            object_id=hashlib.sha256(json.dumps(versions, sort_keys=True).encode()).hexdigest()[:32]
            if is_known
            else "",
            size_bytes=int(size_bytes or 0),
            created_at=_NO_TIME,
            modified_at=_NO_TIME,
            sha256=sha256,
            properties=None,
        )
        self._known[path] = info
        return info

    def _opened(self) -> tuple[Any, str]:
        scheme = self._address.partition("://")[0].lower()
        try:
            import fsspec

            filesystem, top = fsspec.core.url_to_fs(self._address)
        except ImportError as exc:
            raise UsageError(
                f"cannot open {self._address}: the library for {scheme}:// is not installed where this worker "
                f"runs. {_how_to_install(scheme, exc)}"
            ) from exc
        except ValueError as exc:
            raise UsageError(f"cannot open {self._address}: {exc}") from exc
        return filesystem, str(top)

    def _asked(self, action: str, act: Callable[[], T]) -> T:
        """What `act` returns, which is tried again while the failure may pass.

        Raises:
            FileNotFoundError: nothing is there.
        """
        for wait_s in (*WAITS_S, None):
            try:
                return act()
            except DriverunError:
                raise
            except PermissionError as exc:
                raise StoreAccessDenied(f"cannot {action} {self._address}: access is denied ({exc})") from exc
            except Exception as raised:  # each library behind fsspec raises its own; the cause stays attached
                error = _what_happened(raised)
                if isinstance(error, FileNotFoundError):
                    raise error from raised
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise  # of this machine's disk
                status = getattr(error, "status", None) or getattr(error, "code", None)
                if status in (401, 403):
                    raise StoreAccessDenied(
                        f"cannot {action} {self._address}: access is denied ({error})"
                    ) from raised
                if wait_s is None or _is_lasting(status):
                    raise ObjectNotFound(
                        f"cannot {action} {self._address}: {type(error).__name__}: {error}. The run waits for its "
                        "data; see whether the address opens in a browser of this machine.",
                        path=self._address,
                    ) from raised
                self._clock.sleep(wait_s)
        raise AssertionError("the last try returns or raises")


def _how_to_install(scheme: str, missing: ImportError) -> str:
    extra = EXTRAS.get(scheme)
    if extra is None:
        return f"It asks for: {missing}"
    library = _BOUND_TO_FSSPEC.get(extra)
    if missing.name == "fsspec" or library is None:
        return f"pip install 'driverun[{extra}]'"
    import fsspec

    return f"pip install 'driverun[{extra}]' {library}=={fsspec.__version__}"


def _what_happened(raised: Exception) -> BaseException:
    """The error behind a FileNotFoundError, which fsspec makes of every failure of a web site."""
    cause = raised.__cause__
    if not isinstance(raised, FileNotFoundError) or cause is None:
        return raised
    return raised if getattr(cause, "status", None) in (404, 410) else cause


def _is_lasting(status: object) -> bool:
    return isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429)


def _digest(file: Path, name: str) -> bytes:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.new(name, usedforsecurity=False)).digest()
