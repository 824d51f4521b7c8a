"""Data read in place where Drive is mounted, after a look whether that mount answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from driverun.transfer.asking import ask

#: Where `google.colab.drive.mount("/content/drive")` shows My Drive.
MY_DRIVE = Path("/content/drive/MyDrive")
PROBE_S = 20.0  #: a mount that is well answers within one or two seconds, the first time
_MOST_PROBED = 20
_ROOT_PREFIX = "gdrive:"

#: Looks at sizes, reads the ends of files; prints what is wrong. It runs in a process of its own: who asks a mount
#: that hangs does not come back, and cannot always be killed.
_PROBE = """
import json, os, sys
for path, size_bytes in json.load(sys.stdin):
    found = os.stat(path).st_size
    if found != size_bytes:
        sys.exit(f"{path} has {found} bytes there, {size_bytes} on Drive")
    with open(path, "rb", buffering=0) as file:
        file.read(4096)
        file.seek(max(0, size_bytes - 4096))
        if size_bytes and not file.read(4096):
            sys.exit(f"{path} cannot be read")
"""


_LISTING = "import json, os, sys; os.listdir(json.load(sys.stdin))"


def mounted_place(location: str, path: str, my_drive: Path = MY_DRIVE) -> Path | None:
    """Where the object at `path` of the root appears in the mount; None where there is none.

    Args:
        location: of the root. Only of a root that is named by its path in My Drive is its place known.
    """
    if not location.startswith(_ROOT_PREFIX) or location.startswith(f"{_ROOT_PREFIX}//"):
        return None
    if not my_drive.is_dir():
        return None
    return my_drive / location.removeprefix(_ROOT_PREFIX) / path


def mount_fault(places: Mapping[Path, int], *, timeout_s: float = PROBE_S) -> str | None:
    """Why the files cannot be read in place; None where the mount is well.

    Args:
        places: file to size, of which up to 20 are looked at.
        timeout_s: after which a mount counts as one that hangs.
    """
    sample = [(str(place), size_bytes) for place, size_bytes in _some_of(list(places.items()))]
    return _fault_of(_PROBE, sample, timeout_s)


def folder_fault(folder: Path, *, timeout_s: float = PROBE_S) -> str | None:
    """Why a folder of a mount cannot be listed; None where it can."""
    return _fault_of(_LISTING, str(folder), timeout_s)


def _fault_of(probe: str, asked: object, timeout_s: float) -> str | None:
    command = [sys.executable, "-I", "-c", probe]
    try:
        answer = ask(command, given=json.dumps(asked).encode(), limit_s=timeout_s)
    except TimeoutError:
        return f"the mount did not answer within {timeout_s:g} s"
    if answer.code != 0:
        return (answer.lines or ("the mount cannot be read",))[-1]
    return None


def link_files(places: Mapping[str, Path], data_folder: Path) -> None:
    """Make each path under `data_folder` a link to its place in the mount.

    The folders are real ones: what a job adds, renames or deletes there stays on this machine.
    """
    for path, place in places.items():
        link = data_folder / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(place)


def _some_of(items: Sequence[tuple[Path, int]]) -> list[tuple[Path, int]]:
    """The first, the last and some in between."""
    if len(items) <= _MOST_PROBED:
        return list(items)
    return [items[index * (len(items) - 1) // (_MOST_PROBED - 1)] for index in range(_MOST_PROBED)]
