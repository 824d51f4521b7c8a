"""Snapshots, attempts and roots to try checkpoints on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driverun.checkpoints.commit import CheckpointCommitter, Committed
from driverun.checkpoints.manifest import FitRef
from driverun.checkpoints.restore import Restored, restore_newest
from driverun.runs.evidence import ClaimEvidence
from driverun.runs.layout import AttemptKey
from driverun.spool.folder import SpoolFolder
from driverun.spool.snapshot import (
    TENSORS,
    FileEntry,
    SnapshotHeader,
    SnapshotKind,
    TensorEntry,
    aligned,
    mapped_tensors,
    read_header,
    write_header,
)
from driverun.storage.base import ObjectStore
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock

RUN_ID = "digits-0123456789ab"
LEASE_S = 90.0

Array = NDArray[Any]


def attempt(number: int, worker: str = "anna") -> AttemptKey:
    return AttemptKey(run_id=RUN_ID, number=number, worker=worker)


def write_snapshot(
    folder: Path,
    files_folder: Path,
    *,
    step: int,
    arrays: Sequence[Array],
    files: Mapping[str, bytes] | None = None,
    kind: SnapshotKind = SnapshotKind.CHECKPOINT,
    fits_finished: int = 0,
    gap: int = 0,
    state: Mapping[str, Any] | None = None,
    monitored: float | None = None,
) -> SnapshotHeader:
    """A sealed snapshot in `folder`; `gap` more bytes than needed lie between two arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    files_folder.mkdir(parents=True, exist_ok=True)
    memory = bytearray()
    tensors = []
    for index, array in enumerate(arrays):
        offset = aligned(len(memory) + gap)
        memory.extend(bytes(offset - len(memory)))
        content = np.asarray(array).tobytes()
        memory.extend(content)
        tensors.append(
            TensorEntry(
                group="trainable",
                index=index,
                path=f"layer/{index}",
                dtype=array.dtype.name,
                shape=array.shape,
                offset=offset,
                size_bytes=len(content),
            )
        )
    (folder / TENSORS).write_bytes(memory)
    entries = []
    for path, content in (files or {}).items():
        sha256 = hashlib.sha256(content).hexdigest()
        (files_folder / sha256).write_bytes(content)
        entries.append(FileEntry(path=path, size_bytes=len(content), sha256=sha256))
    header = SnapshotHeader(
        kind=kind,
        sequence=step,
        step=step,
        fits_finished=fits_finished,
        epoch=0,
        step_in_epoch=step,
        steps_per_epoch=100,
        total_steps=500,
        tensors=tuple(tensors),
        files=tuple(entries),
        state=state or {"history": {"loss": [0.5], "accuracy": [0.9]}},
        fingerprint={"stack": "test"},
        monitored=monitored,
        capture_s=0.01,
    )
    write_header(folder, header)
    return header


def arrays_of(folder: Path) -> list[Array]:
    """The arrays of the sealed snapshot in `folder`."""
    header = read_header(folder)
    assert header is not None
    arrays = []
    with mapped_tensors(folder) as memory:
        for entry in header.tensors:
            content = bytes(memory[entry.offset : entry.offset + entry.size_bytes])
            arrays.append(np.frombuffer(content, dtype=np.dtype(entry.dtype)).reshape(entry.shape))
    return arrays


@dataclass
class World:
    """A root, and attempts that one after the other own the run."""

    folder: Path
    clock: FakeClock = field(default_factory=FakeClock)
    pack_bytes: int = 1 << 20
    claims: list[ClaimEvidence] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        self._snapshots = 0

    @property
    def files(self) -> Path:
        return self.folder / "files"

    def claim(self, number: int, worker: str = "anna") -> AttemptKey:
        self.clock.advance(seconds=1)
        key = attempt(number, worker)
        info = self.store.create(key.claim_file, b"{}")
        self.claims.append(ClaimEvidence(key=key, created_at=info.created_at, object_id=info.object_id))
        self.clock.advance(seconds=1)
        return key

    def committer(
        self,
        key: AttemptKey,
        *,
        store: ObjectStore | None = None,
        still_ours: Callable[[], None] = lambda: None,
    ) -> CheckpointCommitter:
        return CheckpointCommitter(
            self.store if store is None else store,
            key,
            temporary=self.folder / "temporary",
            still_ours=still_ours,
            clock=self.clock,
            pack_bytes=self.pack_bytes,
        )

    def snapshot(
        self, step: int, arrays: Sequence[Array] | None = None, **more: Any
    ) -> tuple[Path, SnapshotHeader]:
        """A snapshot whose arrays tell the step, unless others are given."""
        self._snapshots += 1
        folder = self.folder / "snapshots" / str(self._snapshots)
        chosen = state_at(step) if arrays is None else arrays
        return folder, write_snapshot(folder, self.files, step=step, arrays=chosen, **more)

    def commit(
        self,
        committer: CheckpointCommitter,
        step: int,
        arrays: Sequence[Array] | None = None,
        *,
        fits: Sequence[FitRef] = (),
        **more: Any,
    ) -> Committed:
        folder, header = self.snapshot(step, arrays, **more)
        self.clock.advance(seconds=1)
        return committer.commit(folder, header, files=self.files, fits=fits)

    def restore(
        self, *, store: ObjectStore | None = None, resume_after: int = 0
    ) -> tuple[Restored | None, SpoolFolder, list[str]]:
        """What the next worker finds, on a machine of its own."""
        self._snapshots += 1
        skipped: list[str] = []
        spool = SpoolFolder(path=self.folder / f"spool-{self._snapshots}")
        restored = restore_newest(
            self.store if store is None else store,
            RUN_ID,
            claims=self.claims,
            into=spool,
            cache=self.folder / "cache",
            resume_after=resume_after,
            skipped=skipped.append,
        )
        return restored, spool, skipped

    def restored_step(self) -> int | None:
        """The step that the next worker begins at, its state checked against what it was."""
        restored, spool, _ = self.restore()
        if restored is None:
            return None
        assert_is_state_at(restored.header.step, spool.restored_checkpoint)
        return restored.header.step

    def paths(self, key: AttemptKey) -> list[str]:
        """Names in the attempt's folder."""
        return [info.path.removeprefix(f"{key.folder}/") for info in self.store.list(key.folder)]

    def damage(self, path: str, content: bytes) -> None:
        """Put other bytes in the place of what is stored, behind the store's back."""
        self.store.replace(path, content)


def state_at(step: int) -> list[Array]:
    return [
        np.full((40, 3), step, dtype=np.float32),
        np.arange(100, dtype=np.int64),
        np.asarray(step, dtype=np.int64),
    ]


def assert_is_state_at(step: int, folder: Path) -> None:
    for expected, found in zip(state_at(step), arrays_of(folder), strict=True):
        np.testing.assert_array_equal(found, expected)
