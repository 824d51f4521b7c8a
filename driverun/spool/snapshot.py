"""One snapshot: the full training state at a step boundary, as a folder of two files.

    header.json    what the state is, and where in tensors.bin each array lies; it seals the snapshot
    tensors.bin    the arrays, raw bytes, C order, native byte order

Contents of output files are not in the folder: the header names them by sha256, the spool's `files/` holds
them.
"""

from __future__ import annotations

import enum
import json
import mmap
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from driverun.errors import SpoolError

SCHEMA_VERSION = 1
HEADER = "header.json"
TENSORS = "tensors.bin"
ALIGNMENT = 64


class SnapshotKind(enum.Enum):
    """What a snapshot stands for."""

    CHECKPOINT = "checkpoint"  #: in the middle of a fit
    FIT_END = "fit_end"  #: a fit is finished; pinned as long as the run lives


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """One array of the state. Tensors are matched by group and index and checked by dtype and shape."""

    group: str  #: "trainable", "non_trainable", "optimizer", "metrics", "callbacks", ...
    index: int  #: position in the group
    path: str  #: the framework's name for it, for messages
    dtype: str  #: NumPy's name, or "bfloat16"
    shape: tuple[int, ...]
    offset: int  #: in tensors.bin, bytes
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file that the script had written when the snapshot was taken."""

    path: str  #: relative to the working folder, "/"-separated
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotHeader:
    """Everything about a snapshot but the bytes of its arrays and files."""

    kind: SnapshotKind
    sequence: int  #: grows with every snapshot of an attempt
    step: int  #: optimiser updates of the whole run
    fits_finished: int  #: also the index of the fit in progress
    epoch: int  #: of the fit in progress: epochs finished
    step_in_epoch: int  #: batches of the next epoch that are already consumed
    steps_per_epoch: int | None
    total_steps: int | None  #: of the whole run as far as it is known
    tensors: tuple[TensorEntry, ...]
    files: tuple[FileEntry, ...]
    state: Mapping[str, Any] = field(default_factory=dict)  #: JSON: callbacks, history, random state
    fingerprint: Mapping[str, Any] = field(default_factory=dict)  #: JSON: model, arguments, stack, data
    monitored: float | None = None  #: newest value of the metric that tells the best checkpoint
    capture_s: float = 0.0  #: for how long taking it held training up

    @property
    def tensor_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.tensors)

    @property
    def order(self) -> tuple[int, int]:
        """Sorts snapshots of a run by progress."""
        return (self.fits_finished, self.step)

    def to_json(self) -> dict[str, Any]:
        """Its fields; state and fingerprint are those of the header, not copies (copying them holds training up)."""
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            "schema_version": SCHEMA_VERSION,
            **own,
            "kind": self.kind.value,
            "tensors": [asdict(entry) for entry in self.tensors],
            "files": [asdict(entry) for entry in self.files],
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Raises SpoolError for what is no header of a known format."""
        try:
            if raw["schema_version"] > SCHEMA_VERSION:
                raise SpoolError(
                    f"cannot read a snapshot of format {raw['schema_version']}: install a newer driverun"
                )
            known = _fields_of(cls, raw)
            known["kind"] = SnapshotKind(raw["kind"])
            known["tensors"] = tuple(
                TensorEntry(**{**_fields_of(TensorEntry, entry), "shape": tuple(entry["shape"])})
                for entry in raw["tensors"]
            )
            known["files"] = tuple(FileEntry(**_fields_of(FileEntry, entry)) for entry in raw["files"])
            return cls(**known)
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise SpoolError(f"cannot read a snapshot's header: {exc!r}") from exc


def _fields_of(kind: type[Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """What `kind` knows of `raw`: later versions of the format may say more."""
    return {name: raw[name] for name in kind.__dataclass_fields__ if name in raw}


def write_header(folder: Path, header: SnapshotHeader) -> None:
    """Seal the snapshot in `folder`; tensors.bin must be complete."""
    temporary = folder / f"{HEADER}.new"
    temporary.write_text(json.dumps(header.to_json()), encoding="utf-8")
    os.replace(temporary, folder / HEADER)


def read_header(folder: Path) -> SnapshotHeader | None:
    """The header of the snapshot in `folder`, or None where there is no sealed one.

    Raises:
        SpoolError: there is one, but it is damaged or of a newer format.
    """
    try:
        content = (folder / HEADER).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return SnapshotHeader.from_json(json.loads(content))
    except ValueError as exc:
        raise SpoolError(f"cannot read {folder / HEADER}: {exc}") from exc


@contextmanager
def mapped_tensors(folder: Path) -> Iterator[memoryview]:
    """The bytes of tensors.bin, mapped read-only; empty where the snapshot has no arrays."""
    with open(folder / TENSORS, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            yield memoryview(b"")
            return
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            yield view


def aligned(offset: int) -> int:
    """`offset`, raised to where the next array may begin."""
    return -(-offset // ALIGNMENT) * ALIGNMENT
