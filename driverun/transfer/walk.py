"""The files of a local folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from driverun.errors import UnsafePath
from driverun.storage.base import checked_path


def local_files(
    folder: Path, *, leave_out: Callable[[str], bool], links_may_leave: bool
) -> Iterator[tuple[str, Path]]:
    """Yield relative path and place of every regular file beneath `folder`, sorted within each folder.

    Links are followed, but never back into a folder on the way. Sockets, pipes and devices are passed over.

    Args:
        leave_out: asked with the relative path of each file and folder; a folder left out is not entered.

    Raises:
        UnsafePath: a link leads nowhere, or out of `folder` where it may not; a name no root can hold.
    """
    top = Path(os.path.realpath(folder))
    yield from _walk(top, "", top, leave_out, links_may_leave, above=())


def _walk(
    place: Path,
    prefix: str,
    top: Path,
    leave_out: Callable[[str], bool],
    links_may_leave: bool,
    *,
    above: tuple[str, ...],
) -> Iterator[tuple[str, Path]]:
    above = (*above, os.path.realpath(place))
    with os.scandir(place) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        relative, found = prefix + name, place / name
        if leave_out(relative):
            continue
        real = os.path.realpath(found)
        if found.is_symlink() and not links_may_leave and not Path(real).is_relative_to(top):
            raise UnsafePath(
                f"cannot take {found}: it is a link to {real}, outside of the folder. Put the file itself "
                "there."
            )
        try:
            mode = found.stat().st_mode
        except OSError as exc:
            raise UnsafePath(
                f"cannot take {found}: it leads nowhere ({exc.strerror}). Remove or mend it."
            ) from exc
        if stat.S_ISDIR(mode):
            if real not in above:
                yield from _walk(found, f"{relative}/", top, leave_out, links_may_leave, above=above)
        elif stat.S_ISREG(mode):
            yield storable_path(relative), found


def storable_path(path: str) -> str:
    """`path`, if a root and an archive can hold it.

    Raises:
        UnsafePath: it is not clean, or no Unicode text.
    """
    try:
        path.encode()
    except UnicodeEncodeError as exc:
        raise UnsafePath(f"cannot take {path!r}: its name is not Unicode text. Rename it.") from exc
    return checked_path(path)
