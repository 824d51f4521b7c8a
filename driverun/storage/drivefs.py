"""Whether a folder is a mount of Google Drive, which keeps no order of writes.

A mount answers "written" when the bytes are in its own cache. It uploads them later, in an order of its own:
a manifest may reach Drive before its packs, or without them (googlecolab/colabtools#1607, #2869).
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

_COLAB_MOUNT = PurePosixPath("/content/drive")
_MOUNT_TYPES = {
    "fuse.drive": True,
    "fuse.google-drive-ocamlfuse": False,
}  # whether "My Drive" is a folder of it
_MY_DRIVE = {"My Drive", "MyDrive"}
_BY_ID = ".shortcut-targets-by-id"
_ANY_FOLDER = "gdrive://FOLDER_ID, where FOLDER_ID is the last part of the folder's address in the browser"
_MAC_CLOUD = re.compile(r"(/Users/[^/]+/Library/CloudStorage/GoogleDrive-[^/]+)(?:/.*)?")
_MAC_VOLUME = re.compile(r"(/Volumes/GoogleDrive(?:-[^/]+)?)(?:/.*)?")
_GNOME = re.compile(r"(/run/user/\d+/gvfs/google-drive:[^/]+)(?:/.*)?")


def drivefs_root(path: str, mounts: str) -> str | None:
    """How to name the folder `path` as a root on Drive, if it lies in a mount of Drive; None if it does not.

    Args:
        path: absolute, symbolic links resolved.
        mounts: the text of /proc/mounts; "" where there is none.
    """
    place = PurePosixPath(path)
    for pattern in (_MAC_CLOUD, _MAC_VOLUME):
        if found := pattern.fullmatch(path):
            return _gdrive_form(place.relative_to(found[1]).parts)
    if _GNOME.fullmatch(path):
        return _ANY_FOLDER  # GNOME names folders by their ids
    mount = _mount_of(place, mounts)
    if mount is None:
        return None
    mount_point, has_my_drive = mount
    parts = place.relative_to(mount_point).parts
    return _gdrive_form(parts if has_my_drive else ("My Drive", *parts))


def _mount_of(place: PurePosixPath, mounts: str) -> tuple[PurePosixPath, bool] | None:
    """The mount that holds `place`, if it is one of Drive, with whether "My Drive" is a folder of it."""
    nearest: tuple[PurePosixPath, str, str] | None = None
    for line in mounts.splitlines():
        fields = [_unescaped(field) for field in line.split(" ")]
        if len(fields) < 3:
            continue
        source, point, kind = fields[0], PurePosixPath(fields[1]), fields[2]
        # Of two mounts at one place, the later one covers the earlier.
        if place.is_relative_to(point) and (nearest is None or len(point.parts) >= len(nearest[0].parts)):
            nearest = (point, source, kind)
    if nearest is None:
        return None
    point, source, kind = nearest
    if kind in _MOUNT_TYPES:
        return point, _MOUNT_TYPES[kind]
    if kind.startswith("fuse") and (source == "drive" or point == _COLAB_MOUNT):
        return point, True
    return None


def _unescaped(field: str) -> str:
    """A field of /proc/mounts as it is: blanks and backslashes come as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _gdrive_form(parts: tuple[str, ...]) -> str:
    match parts:
        case (top, _, *_) if top in _MY_DRIVE:
            return "gdrive:" + "/".join(parts[1:])
        case (top, folder_id) if top == _BY_ID:
            return f"gdrive://{folder_id}"
        case _:  # shared drives, other computers, "My Drive" in the person's own language
            return _ANY_FOLDER
