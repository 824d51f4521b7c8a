"""Which paths every root can hold."""

from __future__ import annotations

from driverun.errors import UnsafePath
from driverun.storage.base import checked_path

#: Of one part of a path: what nearly every filesystem allows. Stores that could hold more refuse it too, so
#: that any root can be copied into a folder.
LONGEST_NAME_BYTES = 255


def portable_path(path: str) -> str:
    """`path`, if it is clean and any root can hold it.

    Raises:
        UnsafePath: it is not clean, has a part that is too long, or is not Unicode text.
    """
    for part in checked_path(path).split("/"):
        try:
            length = len(part.encode())
        except UnicodeEncodeError as exc:
            raise UnsafePath(
                f"cannot use {path!r} as a path on the root: it is not Unicode text; rename the file"
            ) from exc
        if length > LONGEST_NAME_BYTES:
            raise UnsafePath(
                f"cannot use {part[:40]!r}… as a name on the root: it has {length} bytes, "
                f"and {LONGEST_NAME_BYTES} are allowed; shorten it"
            )
    return path
