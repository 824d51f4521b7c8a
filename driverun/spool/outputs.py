"""Which files of a working folder are results, and what their digest is."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

NEVER = ("data", "__pycache__", ".ipynb_checkpoints", ".driverun")
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRule:
    """What counts as an output of a script: all that it wrote, less its own code, data/ and caches."""

    include: Sequence[str] = ("**",)
    exclude: Sequence[str] = ()
    code_files: Mapping[str, str] = field(default_factory=dict)  #: path -> sha256, as they were delivered

    def admits(self, path: str) -> bool:
        """Whether the file at `path`, relative and "/"-separated, may be an output by its name."""
        parts = PurePosixPath(path).parts
        if parts[0] in NEVER or "__pycache__" in parts:
            return False
        if not any(_matches(path, pattern) for pattern in self.include):
            return False
        return not any(_matches(path, pattern) for pattern in self.exclude)

    def find(self, folder: Path) -> Iterator[tuple[str, os.stat_result]]:
        """The files in `folder` that may be outputs by name, sorted: (path, stat).

        Code that was delivered is among them: whether it was changed since is for the caller to see (`code_files`).
        Links are followed for files, not for folders.
        """
        found: list[tuple[str, os.stat_result]] = []
        for where, folders, files in os.walk(folder):
            relative = os.path.relpath(where, folder)
            prefix = "" if relative == "." else relative.replace(os.sep, "/") + "/"
            folders[:] = [
                name for name in folders if name != "__pycache__" and not (not prefix and name in NEVER)
            ]
            for name in files:
                path = prefix + name
                if not self.admits(path):
                    continue
                try:
                    stat = os.stat(os.path.join(where, name))
                except OSError:
                    continue  # it vanished, or is a dangling link
                found.append((path, stat))
        yield from sorted(found)


def _matches(path: str, pattern: str) -> bool:
    """Shell patterns in which "**" spans folders and a bare name matches at any depth."""
    if pattern == "**":
        return True
    if pattern.endswith("/"):
        pattern += "**"
    if "/" not in pattern:
        return fnmatch.fnmatchcase(PurePosixPath(path).name, pattern) or fnmatch.fnmatchcase(path, pattern)
    expression = "".join(
        ".*" if part == "**" else "[^/]*" if part == "*" else "[^/]" if part == "?" else re.escape(part)
        for part in re.split(r"(\*\*|\*|\?)", pattern)
    )
    return re.fullmatch(expression, path) is not None


def sha256_of(path: Path) -> str:
    """Hex digest of the file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def outputs_sha256(files: Mapping[str, Path]) -> str:
    """One digest of all outputs: equal for two runs that wrote the same, whenever they ran.

    Wall times are left out: TensorBoard's event files (times and host names throughout) are skipped, and of a `.keras`
    archive the members are hashed without their dates and without `date_saved` in its metadata.
    """
    digest = hashlib.sha256()
    for path in sorted(files):
        if "events.out.tfevents." in path:
            continue
        digest.update(path.encode() + b"\0" + _content_digest(files[path]).encode() + b"\n")
    return digest.hexdigest()


def _content_digest(file: Path) -> str:
    if file.suffix == ".keras" and zipfile.is_zipfile(file):
        digest = hashlib.sha256()
        with zipfile.ZipFile(file) as archive:
            for name in sorted(archive.namelist()):
                content = lasting_part(name, archive.read(name))
                digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
        return digest.hexdigest()
    return sha256_of(file)


def lasting_part(name: str, content: bytes) -> bytes:
    """The bytes of a `.keras` archive's member without what differs between two equal models.

    That is the date in metadata.json, and in config.json the ids of shared objects, which are memory addresses.
    """
    if name == "metadata.json":
        metadata = json.loads(content)
        metadata.pop("date_saved", None)
        return json.dumps(metadata, sort_keys=True).encode()
    if name == "config.json":
        return re.sub(rb'"shared_object_id": \d+', b'"shared_object_id": 0', content)
    return content
