"""Arrays of a framework in and out of snapshots, raw bytes, without a copy more than needed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from driverun.spool.snapshot import (
    TENSORS,
    SnapshotHeader,
    TensorEntry,
    aligned,
    mapped_tensors,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedArray:
    """One array of the state with its place in it; any shape, 0-d included."""

    group: str
    path: str
    array: Any  #: np.ndarray, possibly a view of the framework's own memory


def dtype_named(name: str) -> Any:
    """The NumPy dtype called `name`; those that NumPy itself lacks (bfloat16) come from ml_dtypes."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


def laid_out(arrays: Iterable[NamedArray]) -> tuple[TensorEntry, ...]:
    """Where each array goes in tensors.bin; indices count within a group."""
    entries: list[TensorEntry] = []
    counts: dict[str, int] = {}
    offset = 0
    for named in arrays:
        index = counts.get(named.group, 0)
        counts[named.group] = index + 1
        entries.append(
            TensorEntry(
                group=named.group,
                index=index,
                path=named.path,
                dtype=named.array.dtype.name,
                shape=tuple(named.array.shape),
                offset=offset,
                size_bytes=named.array.nbytes,
            )
        )
        offset = aligned(offset + named.array.nbytes)
    return tuple(entries)


def size_of(entries: Sequence[TensorEntry]) -> int:
    """Bytes that tensors.bin needs."""
    return entries[-1].offset + entries[-1].size_bytes if entries else 0


def copy_into(memory: memoryview, entries: Sequence[TensorEntry], arrays: Sequence[NamedArray]) -> None:
    """Copy each array to its place."""
    for entry, named in zip(entries, arrays, strict=True):
        if not entry.size_bytes:
            continue
        target = np.frombuffer(memory, dtype=named.array.dtype, count=named.array.size, offset=entry.offset)
        np.copyto(target.reshape(named.array.shape), named.array)


def write_tensors(folder: Path, entries: Sequence[TensorEntry], arrays: Sequence[NamedArray]) -> None:
    """Write tensors.bin of a snapshot that stays."""
    with open(folder / TENSORS, "wb") as file:
        for entry, named in zip(entries, arrays, strict=True):
            file.seek(entry.offset)
            file.write(np.ascontiguousarray(named.array).reshape(-1).view(np.uint8).data)
        file.truncate(size_of(entries))
        file.flush()
        os.fsync(file.fileno())


def read_tensors(folder: Path, header: SnapshotHeader) -> dict[str, list[NamedArray]]:
    """The arrays of a snapshot by group, copied out of the file."""
    groups: dict[str, list[NamedArray]] = {}
    with mapped_tensors(folder) as view:
        for entry in header.tensors:
            raw = np.frombuffer(view, dtype=np.uint8, count=entry.size_bytes, offset=entry.offset).copy()
            array = raw.view(dtype_named(entry.dtype)).reshape(entry.shape)
            groups.setdefault(entry.group, []).append(
                NamedArray(group=entry.group, path=entry.path, array=array)
            )
            del raw
    return groups


def digest_of(arrays: Iterable[NamedArray], state: Mapping[str, Any]) -> str:
    """One sha256 over arrays and JSON; names are left out, they count the layers made before."""
    digest = hashlib.sha256()
    for named in arrays:
        array = np.ascontiguousarray(named.array)
        head = f"{named.group}|{array.dtype.name}|{named.array.shape}|{named.array.nbytes}\n"
        digest.update(head.encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    digest.update(json.dumps(state, sort_keys=True).encode())
    return digest.hexdigest()
