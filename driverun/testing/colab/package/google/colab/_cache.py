"""The mount of My Drive: a copy on the runtime's disk, which reaches the cloud when somebody asks for it.

A mountpoint holds two links, to one place on that disk. That is a link too: to the copy, or to itself when the mount is
dead.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

NAMES = ("MyDrive", "My Drive")  #: what My Drive is called below a mountpoint
_FOLDER = ""  #: stands where a file has its digest


class Cache:
    """What DriveFS keeps on the runtime's disk.

    Raises:
        OSError: from any method: the disk failed.
    """

    def __init__(self, folder: Path) -> None:
        """`folder`: of the stand-in."""
        here = folder.resolve()
        self._cloud = here / "cloud"
        self._vm = here / "vm"
        self._copy = self._vm / "cache"
        self._door = self._vm / "door"
        self._note = self._vm / "mount.json"

    @property
    def is_mounted(self) -> bool:
        return self._note.exists()

    @property
    def is_dead(self) -> bool:
        return self.is_mounted and os.readlink(self._door) == str(self._door)

    def attach(self, mountpoint: str, *, readonly: bool) -> None:
        """Show My Drive at `mountpoint`, a folder that is empty or is made, as the cloud has it."""
        self._cloud.mkdir(parents=True, exist_ok=True)
        self._vm.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._copy, ignore_errors=True)  # of a mount that was cut short
        shutil.copytree(self._cloud, self._copy)
        self._turn_door(self._copy)
        self._write(mountpoint=os.path.abspath(mountpoint), readonly=readonly, base=contents(self._copy))
        os.makedirs(mountpoint, exist_ok=True)
        for name in NAMES:
            os.symlink(self._door, os.path.join(mountpoint, name))

    def detach(self) -> None:
        """Take My Drive away, with what was not pushed; the mountpoint stays, empty."""
        if not self.is_mounted:
            return
        for name in NAMES:
            Path(self._read()["mountpoint"], name).unlink(missing_ok=True)
        self._note.unlink()
        self._door.unlink()
        shutil.rmtree(self._copy)

    def break_off(self) -> None:
        """Let everything below the mountpoint raise OSError; what is written in the copy is kept."""
        self._turn_door(self._door)

    def mend(self) -> None:
        """Undo `break_off`."""
        if self.is_mounted:
            self._turn_door(self._copy)

    def pending(self) -> list[str]:
        """Return the paths of what was written or deleted below the mount, and has not reached the cloud."""
        if not self.is_mounted or self._read()["readonly"]:
            return []
        return _differences(self._read()["base"], contents(self._copy))

    def push(self) -> None:
        """Bring what is pending to the cloud. What others put there meanwhile stays, unless it is of the same name."""
        self._carry(self.pending(), self._copy, self._cloud)
        self._remember()

    def pull(self) -> None:
        """Show what the cloud has, all of it and nothing else."""
        if self.is_mounted:
            self._carry(_differences(contents(self._copy), contents(self._cloud)), self._cloud, self._copy)
            self._remember()

    def _carry(self, paths: list[str], source: Path, target: Path) -> None:
        """Make `target` like `source` where they differ; whoever looks sees all of a file or nothing."""
        for path in paths:
            here, there = source / path, target / path
            if not here.exists() or here.is_dir() != there.is_dir():
                _remove(there)
            if here.is_dir():
                there.mkdir(parents=True, exist_ok=True)
            elif here.exists():
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(here, self._vm / "carried")
                os.replace(self._vm / "carried", there)

    def _turn_door(self, target: Path) -> None:
        turned = self._vm / "door.new"
        turned.unlink(missing_ok=True)
        turned.symlink_to(target)
        os.replace(turned, self._door)

    def _remember(self) -> None:
        if self.is_mounted:
            self._write(**{**self._read(), "base": contents(self._copy)})

    def _write(self, **note: object) -> None:
        written = self._vm / "mount.json.new"
        written.write_text(json.dumps(note), encoding="utf-8")
        os.replace(written, self._note)

    def _read(self) -> dict[str, Any]:
        note: dict[str, Any] = json.loads(self._note.read_bytes())
        return note


def contents(tree: Path) -> dict[str, str]:
    """Return the digest of each file below `tree`, and "" for each folder; without links, which Drive does not have."""
    found = {}
    for folder, names, files in os.walk(tree):
        below = Path(folder).relative_to(tree)
        for name in names:
            if not Path(folder, name).is_symlink():
                found[(below / name).as_posix()] = _FOLDER
        for name in files:
            if not Path(folder, name).is_symlink():
                found[(below / name).as_posix()] = hashlib.sha256(Path(folder, name).read_bytes()).hexdigest()
    return found


def _differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return what is not the same in both, a folder before what lies in it."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):  # a file in whose place there is none may have gone with its folder
        path.unlink()
