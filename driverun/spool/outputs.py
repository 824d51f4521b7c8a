"""Which files of a working folder are results, and what their digest is."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import stat
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

EXECUTED = ".executed.ipynb"  #: how the name of a notebook ends that was run and holds its outputs
NEVER = ("data", "__pycache__", ".ipynb_checkpoints", ".driverun")
CHUNK = 1 << 20

_WILDCARDS = re.compile(r"((?:^|(?<=/))\*\*/|\*\*|\*|\?|\[!?[^\]/]+\])")
_MEANINGS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


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

    def with_notebook(self, path: str) -> OutputRule:
        """This rule, which admits the executed notebook as well, whatever the job's own patterns take."""
        plain = re.sub(r"([*?\[])", r"[\1]", path)
        return replace(self, include=(*self.include, plain))

    def find(self, folder: Path) -> Iterator[tuple[str, os.stat_result]]:
        """The files in `folder` that may be outputs by name, sorted: (path, stat).

        Code that was delivered is among them: whether it was changed since is for the caller to see
        (`code_files`). Links are followed for files, not for folders.
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
                    status = os.stat(os.path.join(where, name))
                except OSError:
                    continue  # it vanished, or is a dangling link
                if stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
                    found.append((path, status))
        yield from sorted(found)


def _matches(path: str, pattern: str) -> bool:
    """Shell patterns in which "**" spans folders and a pattern without "/" matches at any depth.

    A last part without wildcards may be a folder as well, and then means all that is in it.
    """
    return _expression(pattern).fullmatch(path) is not None


@functools.lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    if pattern.endswith("/"):
        pattern += "**"
    if "/" not in pattern and pattern != "**":
        pattern = f"**/{pattern}"
    expression = "".join(_translated(part) for part in _WILDCARDS.split(pattern))
    if not _WILDCARDS.search(pattern.rpartition("/")[2]):
        expression += "(?:/.*)?"
    return re.compile(f"(?s:{expression})")


def _translated(part: str) -> str:
    if part in _MEANINGS:
        return _MEANINGS[part]
    if part.startswith("[") and part.endswith("]") and len(part) > 2:
        negated = part.startswith("[!")
        content = part[2 if negated else 1 : -1].replace("\\", "\\\\").replace("^", "\\^").replace("[", "\\[")
        translated = f"[^/{content}]" if negated else f"[{content}]"
        try:
            re.compile(translated)
        except re.error:  # [z-a]
            return re.escape(part)
        return translated
    return re.escape(part)


def executed_notebook(notebook: str, code_files: Collection[str]) -> str:
    """Where the notebook of a job is put with the outputs of its run, in the working folder."""
    name = notebook.removesuffix(".ipynb") + EXECUTED
    while name in code_files:  # somebody put the results of a run into the job
        name = name.removesuffix(".ipynb") + EXECUTED
    return name


def differs_by_the_clock(path: str) -> bool:
    """Whether no two runs write the same to `path`: times and durations are all over it.

    So it is with TensorBoard's event files, and with notebooks whose cells show progress.
    """
    return "events.out.tfevents." in path or path.endswith(EXECUTED)


def sha256_of(path: Path) -> str:
    """Hex digest of the file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def outputs_sha256(files: Mapping[str, Path]) -> str:
    """One digest of all outputs: equal for two runs that wrote the same, whenever they ran.

    Wall times are left out: TensorBoard's event files (times and host names throughout) and executed notebooks
    (progress bars with times) are skipped, and of a `.keras` archive the members are hashed without their dates and
    without `date_saved` in its metadata.
    """
    digest = hashlib.sha256()
    for path in sorted(files):
        if differs_by_the_clock(path):
            continue
        # A name need not be UTF-8; what is not comes out of the system as lone surrogates.
        name = path.encode("utf-8", "surrogateescape")
        digest.update(name + b"\0" + _content_digest(files[path]).encode() + b"\n")
    return digest.hexdigest()


def _content_digest(file: Path) -> str:
    if file.suffix == ".keras" and zipfile.is_zipfile(file):
        try:
            return _archive_digest(file)
        except (zipfile.BadZipFile, NotImplementedError, ValueError):
            pass  # it only looks like one, so its bytes are what it is
    return sha256_of(file)


def _archive_digest(file: Path) -> str:
    digest = hashlib.sha256()
    with zipfile.ZipFile(file) as archive:
        for name in sorted(archive.namelist()):
            content = hashlib.sha256()
            if name in ("metadata.json", "config.json"):
                content.update(lasting_part(name, archive.read(name)))
            else:
                with archive.open(name) as member:
                    while block := member.read(CHUNK):
                        content.update(block)
            digest.update(name.encode("utf-8", "surrogateescape") + b"\0" + content.digest())
    return digest.hexdigest()


def lasting_part(name: str, content: bytes) -> bytes:
    """The bytes of a `.keras` archive's member without what differs between two equal models.

    That is the date in metadata.json, and in config.json the ids of shared objects, which are memory
    addresses.
    """
    if name == "metadata.json":
        metadata = json.loads(content)
        if not isinstance(metadata, dict):
            return content
        metadata.pop("date_saved", None)
        return json.dumps(metadata, sort_keys=True).encode()
    if name == "config.json":
        return re.sub(rb'"shared_object_id": \d+', b'"shared_object_id": 0', content)
    return content
