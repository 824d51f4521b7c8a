from __future__ import annotations

import errno
import os

import pytest

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
from driverun.storage.oserrors import store_errors

CASES: list[tuple[int, type[DriverunError], str]] = [
    (errno.ENOENT, ObjectNotFound, "nothing is there"),
    (errno.ENOTDIR, ObjectNotFound, "nothing is there"),
    (errno.EISDIR, ObjectNotFound, "nothing is there"),
    (errno.EEXIST, ObjectExists, "nothing was changed"),
    (errno.ENOSPC, StoreQuotaExceeded, "Free space"),
    (errno.EDQUOT, StoreQuotaExceeded, "Free space"),
    (errno.EACCES, StoreAccessDenied, "the right to write"),
    (errno.EPERM, StoreAccessDenied, "the right to write"),
    (errno.EROFS, StoreAccessDenied, "the right to write"),
    (errno.ENOLCK, StoreAccessDenied, "local disk"),
    (errno.EXDEV, StoreAccessDenied, "local disk"),
    (errno.ENAMETOOLONG, UnsafePath, "Rename"),
    (errno.ELOOP, UnsafePath, "Rename"),
    (errno.EIO, TransientStoreError, "Try again"),
    (errno.ESTALE, TransientStoreError, "Try again"),
    (errno.ENOTCONN, TransientStoreError, "Try again"),
    (errno.ETIMEDOUT, TransientStoreError, "Try again"),
    (errno.EMFILE, TransientStoreError, "Try again"),
    (errno.EINVAL, StoreError, "in order"),
]


@pytest.mark.parametrize(("code", "kind", "advice"), CASES, ids=[errno.errorcode[case[0]] for case in CASES])
def test_each_error_of_the_system_becomes_the_one_that_says_what_to_do(
    code: int, kind: type[DriverunError], advice: str
) -> None:
    cause = OSError(code, os.strerror(code))
    with pytest.raises(DriverunError) as caught, store_errors("create", "ledger/one", "/srv/root"):
        raise cause
    assert type(caught.value) is kind
    assert caught.value.__cause__ is cause
    text = str(caught.value)
    assert text.startswith("cannot create ledger/one in /srv/root: ")
    assert os.strerror(code) in text
    assert advice in text
    if isinstance(caught.value, StoreError):
        assert caught.value.path == "ledger/one"


def test_an_error_about_the_root_itself_names_the_root() -> None:
    place = store_errors("read the time of", "", "/srv/root")
    with pytest.raises(StoreError, match=r"^cannot read the time of /srv/root: without a number"), place:
        raise OSError("without a number")


def test_errors_of_ours_pass_unchanged() -> None:
    mine = UnsafePath("mine")
    with pytest.raises(UnsafePath) as caught, store_errors("create", "one", "/srv/root"):
        raise mine
    assert caught.value is mine
