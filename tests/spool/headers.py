"""Snapshots with nothing special about them."""

from __future__ import annotations

from typing import Any

from driverun.spool.snapshot import FileEntry, SnapshotHeader, SnapshotKind, TensorEntry


def header_of(sequence: int, *, size_bytes: int = 0, **changes: Any) -> SnapshotHeader:
    """The header of a snapshot in the middle of a fit; its state is one array of `size_bytes`."""
    tensor = TensorEntry(
        group="trainable",
        index=0,
        path="dense/kernel",
        dtype="uint8",
        shape=(size_bytes,),
        offset=0,
        size_bytes=size_bytes,
    )
    fields: dict[str, Any] = {
        "kind": SnapshotKind.CHECKPOINT,
        "sequence": sequence,
        "step": 10 * sequence,
        "fits_finished": 0,
        "epoch": 1,
        "step_in_epoch": 4,
        "steps_per_epoch": 7,
        "total_steps": None,
        "tensors": (tensor,) if size_bytes else (),
        "files": (FileEntry(path="log.csv", size_bytes=3, sha256="ab" * 32),),
        "state": {"history": {"loss": [0.1, float("inf")]}, "none": None},
        "fingerprint": {"model": "x"},
        "monitored": 1 / 3,
        "capture_s": 0.25,
    }
    return SnapshotHeader(**{**fields, **changes})
