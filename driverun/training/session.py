"""One training process and the spool: what to take up, what to put down, what to tell.

Nothing here knows a framework; `keras_*.py` hands over arrays and gets them back.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from driverun.clock import Clock
from driverun.spool.boards import ControlBoard, ProgressBoard
from driverun.spool.buffers import SnapshotWriter
from driverun.spool.cadence import Cadence
from driverun.spool.events import EventKind, EventWriter
from driverun.spool.folder import SpoolFolder
from driverun.spool.masking import Masker
from driverun.spool.outputs import OutputRule
from driverun.spool.request import TrainingRequest
from driverun.spool.snapshot import SnapshotHeader, SnapshotKind, read_header, write_header
from driverun.training.descendants import kill_descendants
from driverun.training.working_folder import Capture, WorkingFolder

MAX_FIT_ENDS_BYTES = (
    8 * 10**9
)  #: finished fits kept in full; beyond it a resume cannot bring all of them back

MEMORY_SHARE = 0.1  #: of the free memory that both snapshots together may take


class TrainingSession:
    """The state of one training process that outlives any single fit."""

    def __init__(self, request: TrainingRequest, spool: SpoolFolder, *, clock: Clock) -> None:
        self.request = request
        self.spool = spool
        self.clock = clock
        self.events = EventWriter(spool.events)
        self.control = ControlBoard(spool.control)
        self.progress = ProgressBoard(spool.progress)
        self.cadence = Cadence.of_request(request.cadence_kind, request.cadence_value)
        self.files = WorkingFolder(
            Path(request.working_folder),
            store=spool.files,
            rule=OutputRule(
                include=request.outputs_include,
                exclude=request.outputs_exclude,
                code_files=request.code_files,
            ),
            max_bytes=request.max_checkpoint_size_bytes,
        )
        #: the values as the process was given them; what is cut off a text, or kept, is masked before
        self.masker = Masker({name: os.environ[name] for name in request.secrets if name in os.environ})
        self.stack: dict[str, Any] = {}  #: what bit-exactness depends on, filled in by the framework's module
        self.deterministic = True
        self.fits_begun = 0
        self.fits_finished = 0
        self.step = 0  #: optimiser updates of the whole run
        self.executed = 0  #: of this process
        self.capture_s = 0.0
        self._sequence = 0
        self._fit_digests: list[str] = []
        self._fit_ends_bytes = 0
        self._reasons: set[str] = set()
        self._buffers: SnapshotWriter | None = None
        self._buffers_folder = Path(request.buffers)
        self._files_of: dict[Path, set[str]] = {}  #: contents of files that each snapshot names
        self._last_snapshot_at = clock.monotonic()
        self._last_snapshot_step = request.resumed_step
        self._hand_over = False
        self._gaps: dict[str, None] = {}
        self.at_end: list[Callable[[], None]] = []  #: what is left to do once the script has run to its end
        for reason in request.notes:
            self.approximate(reason)

    # What there is to take up.

    def finished_fit(self, index: int) -> tuple[Path, SnapshotHeader] | None:
        """The end of fit `index`, if an earlier attempt reached it."""
        if index >= self.request.restore_fits:
            return None
        folder = self.spool.restored_fit(index)
        header = read_header(folder)
        return None if header is None else (folder, header)

    def checkpoint_of(self, index: int) -> tuple[Path, SnapshotHeader] | None:
        """The snapshot in the middle of fit `index`, if that is where an earlier attempt was."""
        if not self.request.restore_checkpoint or index != self.request.restore_fits:
            return None
        folder = self.spool.restored_checkpoint
        header = read_header(folder)
        return None if header is None else (folder, header)

    # What to tell.

    def say(self, text: str) -> None:
        """One line for the job's log."""
        sys.stdout.flush()
        print(f"driverun: {text}", file=sys.stderr, flush=True)  # noqa: T201 (the child's stderr is the job's log)

    def approximate(self, reason: str) -> None:
        """Record, once, why the run cannot claim to be exact."""
        self._downgrade(EventKind.APPROXIMATE, reason)

    def step_exact(self, reason: str) -> None:
        """Record, once, why bits may differ although no step does."""
        self._downgrade(EventKind.STEP_EXACT, reason)

    def gap(self, reason: str) -> None:
        """Remember what a snapshot cannot hold; a resume from it will be approximate for this reason."""
        if reason not in self._gaps:
            self._gaps[reason] = None
            self.say(f"a resume would be approximate: {reason}")

    def _downgrade(self, kind: EventKind, reason: str) -> None:
        if reason not in self._reasons:
            self._reasons.add(reason)
            self.events.write(kind, reason=reason)

    def put_progress(
        self, *, fit: int, epoch: int, step_in_epoch: int, steps_per_epoch: int, total_steps: int
    ) -> None:
        self.progress.put(fit, epoch, self.step, step_in_epoch, steps_per_epoch, total_steps, self.executed)

    # When to put down.

    @property
    def hand_over_wanted(self) -> bool:
        return self._hand_over or self.control.is_raised

    def ask_hand_over(self) -> None:
        """As if the runner had asked; for signal handlers."""
        self._hand_over = True

    def snapshot_due(self, *, epochs_since: int = 0) -> bool:
        return self.cadence.due(
            now_s=self.clock.monotonic(),
            last_s=self._last_snapshot_at,
            steps_since=self.step - self._last_snapshot_step,
            epochs_since=epochs_since,
            capture_s=self.capture_s,
        )

    # Putting down.

    def capture_files(self) -> Capture:
        capture = self.files.capture()
        if capture.left_out_bytes:
            self.say(
                f"the files that the script wrote ({capture.left_out_bytes / 1e6:.0f} MB) exceed"
                " outputs.max_checkpoint_size: they are not part of checkpoints and go out at the end only"
            )
        return capture

    def take_snapshot(
        self,
        arrays: Sequence[Any],
        *,
        epoch: int,
        step_in_epoch: int,
        steps_per_epoch: int | None,
        total_steps: int | None,
        state: Mapping[str, Any],
        fingerprint: Mapping[str, Any],
        monitored: float | None,
    ) -> bool:
        """Put the state of the fit in progress into a buffer; False if both buffers are being read."""
        from driverun.training.arrays import copy_into, laid_out, size_of

        began = self.clock.monotonic()
        entries = laid_out(arrays)
        if self._buffers is None:
            self._buffers_folder = buffers_folder(self.request, size_of(entries))
            self._buffers = SnapshotWriter(self._buffers_folder)
        begun = self._buffers.begin(size_of(entries))
        if begun is None:
            return False
        slot, memory = begun
        try:
            copy_into(memory, entries, arrays)
            capture = self.capture_files()
        except BaseException:
            slot.abandon()
            raise
        finally:
            memory.release()
        self._sequence += 1
        self.capture_s = self.clock.monotonic() - began
        self._files_of[slot.folder] = {entry.sha256 for entry in capture.files}
        slot.seal(
            SnapshotHeader(
                kind=SnapshotKind.CHECKPOINT,
                sequence=self._sequence,
                step=self.step,
                fits_finished=self.fits_finished,
                epoch=epoch,
                step_in_epoch=step_in_epoch,
                steps_per_epoch=steps_per_epoch,
                total_steps=total_steps,
                tensors=entries,
                files=capture.files,
                state={**state, "files_left_out": capture.left_out_bytes, "gaps": list(self._gaps)},
                fingerprint=self._whole_fingerprint(fingerprint),
                monitored=monitored,
                capture_s=self.capture_s,
            )
        )
        self.files.forget(set().union(*self._files_of.values()))
        self._last_snapshot_at = self.clock.monotonic()
        self._last_snapshot_step = self.step
        self.events.write(
            EventKind.SNAPSHOT,
            step=self.step,
            capture_s=self.capture_s,
            size_bytes=size_of(entries),
            buffers=str(self._buffers_folder),
        )
        return True

    def _whole_fingerprint(self, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **fingerprint,
            "stack": self.stack,
            "code_sha256": self.request.code_sha256,
            "data_sha256": self.request.data_sha256,
        }

    def put_fit_end(
        self,
        arrays: Sequence[Any],
        *,
        epoch: int,
        state: Mapping[str, Any],
        fingerprint: Mapping[str, Any],
        monitored: float | None,
        digest: str,
    ) -> None:
        """Pin the end of the fit in progress, which is then finished; `digest` is of what equal runs share."""
        from driverun.training.arrays import laid_out, size_of, write_tensors

        index = self.fits_finished
        self._fit_digests.append(digest)
        entries = laid_out(arrays)
        kept = self._fit_ends_bytes + size_of(entries) <= MAX_FIT_ENDS_BYTES
        if not kept:
            self.say(
                f"the ends of finished fits take more than {MAX_FIT_ENDS_BYTES / 1e9:.0f} GB: fit {index + 1}"
                " is kept without its variables, a resume would be approximate"
            )
            arrays, entries = (), ()
        self._fit_ends_bytes += size_of(entries)
        capture = self.capture_files()
        self._sequence += 1
        self.fits_finished = index + 1
        folder = self.spool.fit(index)
        self._files_of[folder] = {entry.sha256 for entry in capture.files}
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder, entries, arrays)
        write_header(
            folder,
            SnapshotHeader(
                kind=SnapshotKind.FIT_END,
                sequence=self._sequence,
                step=self.step,
                fits_finished=self.fits_finished,
                epoch=epoch,
                step_in_epoch=0,
                steps_per_epoch=None,
                total_steps=self.step,
                tensors=entries,
                files=capture.files,
                state={
                    **state,
                    "files_left_out": capture.left_out_bytes,
                    "variables_left_out": not kept,
                    "gaps": list(self._gaps),
                },
                fingerprint=self._whole_fingerprint(fingerprint),
                monitored=monitored,
            ),
        )
        self._last_snapshot_at = self.clock.monotonic()
        self._last_snapshot_step = self.step

    def count_replayed_fit(self, header: SnapshotHeader, digest: str) -> None:
        """Fit `header.fits_finished - 1` is done without having been trained here."""
        self._files_of[self.spool.restored_fit(self.fits_finished)] = {e.sha256 for e in header.files}
        self._fit_digests.append(digest)
        self._fit_ends_bytes += header.tensor_bytes
        self.fits_finished = header.fits_finished
        self.step = header.step
        self._sequence = max(self._sequence, header.sequence)

    def took_up(self, header: SnapshotHeader) -> None:
        """The fit in progress goes on from `header`."""
        self.step = header.step
        self._sequence = max(self._sequence, header.sequence)
        self._last_snapshot_at = self.clock.monotonic()
        self._last_snapshot_step = self.step

    @property
    def state_sha256(self) -> str | None:
        """Digest of all that was trained; None if nothing was."""
        if not self._fit_digests:
            return None
        return hashlib.sha256("\n".join(self._fit_digests).encode()).hexdigest()

    def close(self) -> None:
        """Let go of the spool; for whoever runs several sessions in one process."""
        if self._buffers is not None:
            self._buffers.close()
        self.events.close()
        self.control.close()
        self.progress.close()

    def hand_over(self) -> NoReturn:
        """End the process; everything that matters is in the spool."""
        self.events.write(EventKind.HANDED_OVER, step=self.step)
        self.say(f"stopped on request at step {self.step}")
        leave(0)


def buffers_folder(request: TrainingRequest, size_bytes: int) -> Path:
    """Where two snapshots of this size are kept: in memory if they are a small part of what is free there."""
    if request.memory_buffers is not None:
        memory = Path(request.memory_buffers)
        space = os.statvfs(memory)
        free_bytes = min(space.f_bavail * space.f_frsize, _available_memory_bytes())
        if 2 * size_bytes <= free_bytes * MEMORY_SHARE:
            return memory / "buffers"
    return Path(request.buffers)


def _available_memory_bytes() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0


def leave(code: int) -> NoReturn:
    """End this process and all that it started, at once: a script's own cleaning-up belongs to its real end."""
    sys.stdout.flush()
    sys.stderr.flush()
    kill_descendants()
    os._exit(code)
