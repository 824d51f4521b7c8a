"""Which root is meant."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from driverun.errors import RootNotFound, UsageError

ROOT_VARIABLE = "DRIVERUN_ROOT"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_FOLDER_ID = re.compile(r"[A-Za-z0-9_-]{10,}")
_FOLDER_URL = re.compile(
    r"https://drive\.google\.com/drive/(?:u/\d+/)?folders/([A-Za-z0-9_-]{10,})(?:[?#/].*)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalAddress:
    """A root in a folder of this machine."""

    path: Path  #: absolute

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrivePathAddress:
    """A root in a folder beneath "My Drive"."""

    path: str  #: parts separated by "/", never empty

    def __str__(self) -> str:
        return f"gdrive:{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveFolderAddress:
    """A root in a folder of Drive that is known by its id, such as a shared one."""

    folder_id: str

    def __str__(self) -> str:
        return f"gdrive://{self.folder_id}"


RootAddress = LocalAddress | DrivePathAddress | DriveFolderAddress


def parse_root(text: str, *, cwd: Path, home: Path) -> RootAddress:
    """The root that a person means by `text`.

    It is `folder`, `gdrive:path/under/My Drive`, `gdrive://FOLDER_ID`, or a folder's address in the browser.

    Raises:
        UsageError: it is none of them.
    """
    if text != text.strip() or not text:
        raise UsageError(
            f"cannot use {text!r} as a root: name a folder, as in ./experiments or gdrive:experiments"
        )
    if found := _FOLDER_URL.fullmatch(text):
        return DriveFolderAddress(folder_id=found[1])
    if text.lower().startswith("gdrive://"):
        return _folder_address(text)
    if text.lower().startswith("gdrive:"):
        return _drive_path_address(text)
    if found := _SCHEME.match(text):
        raise UsageError(
            f"cannot use {text} as a root: driverun knows no {found[1]}:// roots. "
            "Give a local folder, gdrive:path/under/My Drive or gdrive://FOLDER_ID."
        )
    path = home / text[1:].lstrip("/") if text == "~" or text.startswith("~/") else cwd / text
    return LocalAddress(path=Path(os.path.normpath(path)))


def find_root(start: Path, *, is_root: Callable[[Path], bool]) -> Path | None:
    """The nearest of `start` and the folders above it that is a root; None where none is."""
    return next((folder for folder in (start, *start.parents) if is_root(folder)), None)


def choose_root(
    option: str | None,
    environment: Mapping[str, str],
    *,
    cwd: Path,
    home: Path,
    is_root: Callable[[Path], bool],
) -> RootAddress:
    """The root to work on: `option`, else DRIVERUN_ROOT, else the nearest one from `cwd` upwards.

    Args:
        option: what was given as `--root`; None where nothing was.
        environment: the process's variables; an empty DRIVERUN_ROOT counts as none.
        is_root: whether a folder holds the file that makes it a root.

    Raises:
        RootNotFound: there is none.
        UsageError: the one that was named cannot be.
    """
    named = option if option is not None else environment.get(ROOT_VARIABLE) or None
    if named is not None:
        return parse_root(named, cwd=cwd, home=home)
    found = find_root(cwd, is_root=is_root)
    if found is None:
        raise RootNotFound(
            f"cannot tell which root to use: neither {cwd} nor a folder above it is one. "
            f"Make one with `driverun init`, or name one by --root or {ROOT_VARIABLE}."
        )
    return LocalAddress(path=found)


def _folder_address(text: str) -> DriveFolderAddress:
    folder_id = text[len("gdrive://") :].rstrip("/")
    if not _FOLDER_ID.fullmatch(folder_id):
        raise UsageError(
            f"cannot use {text} as a root: after gdrive:// comes a folder's id, the last part of its address "
            "in the browser. For a path beneath My Drive write gdrive:path, without slashes before it."
        )
    return DriveFolderAddress(folder_id=folder_id)


def _drive_path_address(text: str) -> DrivePathAddress:
    parts = [part for part in text[len("gdrive:") :].split("/") if part]
    if not parts or any(part in (".", "..") for part in parts):
        raise UsageError(
            f"cannot use {text} as a root: name a folder beneath My Drive, as in gdrive:experiments"
        )
    return DrivePathAddress(path="/".join(parts))
