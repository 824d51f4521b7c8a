"""What an error of the operating system means for a root in a folder."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from driverun.errors import (
    DriverunError,
    ObjectExists,
    ObjectNotFound,
    StoreAccessDenied,
    StoreError,
    StoreQuotaExceeded,
    TransientStoreError,
    UnsafePath,
)

_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_UNABLE = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EXDEV}
_NAME = {errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ}
_PASSING = {
    errno.EIO,  # network and FUSE mounts answer so while they are out of reach
    errno.ESTALE,
    errno.ENOTCONN,  # a FUSE process has died; a new mount at the same place cures it
    errno.ETIMEDOUT,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EAGAIN,
    errno.EBUSY,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
}


@contextlib.contextmanager
def store_errors(action: str, path: str, location: str) -> Iterator[None]:
    """Turn an OSError that leaves the block into the error of ours that says what to do.

    Args:
        action: what was being done, as the verb of "cannot <action> <path>".
        path: on the root; "" for the root itself.
        location: the root as a person would type it.
    """
    try:
        yield
    except OSError as exc:
        raise translated(exc, action=action, path=path, location=location) from exc


def translated(exc: OSError, *, action: str, path: str, location: str) -> DriverunError:
    """The error of ours for `exc`; see `store_errors` for the arguments."""
    what = f"cannot {action} {path} in {location}" if path else f"cannot {action} {location}"
    why = exc.strerror or str(exc) or type(exc).__name__
    code = exc.errno
    if code in _MISSING:
        return ObjectNotFound(f"{what}: nothing is there ({why})", path=path)
    if code in _TAKEN:
        return ObjectExists(f"{what}: something is there already ({why}); nothing was changed", path=path)
    if code in _FULL:
        return StoreQuotaExceeded(
            f"{what}: the disk is full ({why}). Free space there, then go on.", path=path
        )
    if code in _DENIED:
        return StoreAccessDenied(
            f"{what}: permission refused ({why}). Give the user {_user()} the right to write there.",
            path=path,
        )
    if code in _UNABLE:
        return StoreAccessDenied(
            f"{what}: the filesystem cannot do this ({why}). Use a folder on one local disk as the root.",
            path=path,
        )
    if code in _NAME:
        return UnsafePath(f"{what}: the filesystem refuses the name ({why}). Rename the file.")
    if code in _PASSING:
        return TransientStoreError(
            f"{what}: the disk did not answer as it should ({why}). Try again.", path=path
        )
    return StoreError(f"{what}: {why}. See whether the disk is in order.", path=path)


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "who runs this"
