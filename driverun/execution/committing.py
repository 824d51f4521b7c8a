"""Turns snapshots into checkpoints while training goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from driverun.checkpoints.commit import CheckpointCommitter, Committed
from driverun.checkpoints.manifest import FitRef
from driverun.checkpoints.retention import Retention
from driverun.clock import Clock
from driverun.errors import (
    IntegrityError,
    LostOwnership,
    SpoolError,
    StoreAccessDenied,
    StoreError,
    StoreQuotaExceeded,
)
from driverun.execution.sending import SendingStore
from driverun.execution.trouble import Trouble
from driverun.execution.viewing import Sending
from driverun.purpose import on_behalf_of
from driverun.runs.evidence import ClaimEvidence
from driverun.spool.buffers import newest_snapshot
from driverun.spool.folder import SpoolFolder
from driverun.spool.snapshot import SnapshotHeader, read_header

RETRY_S = 5.0  #: after a root that was out of reach
FULL_RETRY_S = 30.0  #: after a root that was full, or closed to us


class SnapshotCommitter:
    """Commits what the trainer puts down: one upload at a time, the newest snapshot wins."""

    def __init__(
        self,
        committer: CheckpointCommitter,
        retention: Retention,
        *,
        sending: SendingStore,
        spool: SpoolFolder,
        claims: Callable[[], Sequence[ClaimEvidence]],
        resume_after: int,
        fits: Sequence[FitRef],
        clock: Clock,
        say: Callable[[str], None],
        is_ending: Callable[[], bool] = lambda: False,
        cleared: Callable[[SnapshotHeader, Path], SnapshotHeader] = lambda header, _files: header,
    ) -> None:
        """Start idle.

        Args:
            sending: the store that `committer` writes to.
            claims: all known claims of the run, for retention.
            fits: the finished fits that the attempt took up, which its checkpoints stand on.
            is_ending: whether the attempt is to hand over, so that nothing is done which the next one can do.
            cleared: the header without what must not go to the root; its second argument is where the files are.
        """
        self._committer = committer
        self._retention = retention
        self._sending = sending
        self._spool = spool
        self._claims = claims
        self._resume_after = resume_after
        self._fits = list(fits)
        self._clock = clock
        self._say = say
        self._is_ending = is_ending
        self._cleared = cleared
        self._sequence = -1
        self._buffers: Path | None = None
        self._pending = False
        self._not_before_s = clock.monotonic()
        self._turn = threading.Lock()
        self.newest: Committed | None = None  #: what this attempt committed last
        self.newest_s = 0.0  #: when that was, by the monotonic clock
        self.commit_s = 0.0  #: how long that took
        self.lost: LostOwnership | None = None
        self._trouble = Trouble(say, clock)

    def snapshot_taken(self, buffers: Path) -> None:
        """There is a snapshot in the buffers that may be newer than what was committed."""
        self._buffers = buffers
        self._pending = True

    def fit_ended(self) -> None:
        """There is the end of a fit in the spool."""
        self._pending = True

    def sending(self) -> Sending | None:
        """How far the checkpoint is that is on its way; None where there is none."""
        return self._sending.sending()

    def commit_pending(self) -> None:
        """Commit what is new, if anything is; meant to be called again and again, beside the attempt."""
        if not self._pending or self.lost is not None or self._clock.monotonic() < self._not_before_s:
            return
        self._pending = False
        try:
            self.drain()
        except LostOwnership as exc:
            self.lost = exc
        except (
            StoreError,
            IntegrityError,
            SpoolError,
            OSError,
        ) as exc:  # the last: this machine's disk is full
            self._trouble.met(exc, f"training goes on locally: {exc}")
            wait_s = FULL_RETRY_S if isinstance(exc, StoreQuotaExceeded | StoreAccessDenied) else RETRY_S
            self._not_before_s = self._clock.monotonic() + wait_s
            self._pending = True

    def drain(self) -> None:
        """Commit all that stands in the spool now.

        Raises:
            LostOwnership, StoreError, SpoolError, IntegrityError: not all is committed.
        """
        with self._turn:
            self._commit_outstanding()

    def _commit_outstanding(self) -> None:
        while (header := read_header(self._spool.fit(len(self._fits)))) is not None:
            self._commit_fit(header)
        if self._buffers is None:
            return
        with newest_snapshot(self._buffers, after_sequence=self._sequence) as found:
            if found is None:
                return
            folder, header = found
            if header.fits_finished == len(self._fits):
                self._committed(self._commit(folder, header))
            elif self._is_last_of_its_fit(header):
                # Who trains the run for more epochs goes on from there; its bytes are nearly all on the root.
                self._commit(folder, header)
            self._sequence = header.sequence

    def _is_last_of_its_fit(self, header: SnapshotHeader) -> bool:
        """Whether it was taken after the last epoch of the fit that ended last, before callbacks heard of its end."""
        if header.fits_finished + 1 != len(self._fits) or header.step_in_epoch:
            return False
        ended = read_header(self._spool.fit(header.fits_finished))
        return ended is not None and ended.step == header.step

    def _commit_fit(self, header: SnapshotHeader) -> None:
        folder = self._spool.fit(len(self._fits))
        committed = self._commit(folder, header)
        assert committed.fit_ref is not None, "the end of a fit can be referred to"
        self._fits.append(committed.fit_ref)
        self._committed(committed)

    def _commit(self, folder: Path, header: SnapshotHeader) -> Committed:
        header = self._cleared(header, self._spool.files)
        expected_bytes = header.tensor_bytes + sum(file.size_bytes for file in header.files)
        began_s = self._clock.monotonic()
        with (
            on_behalf_of(f"checkpoint {self._name(header)}"),
            self._sending.commit(expected_bytes),
        ):
            committed = self._committer.commit(
                folder, header, files=self._spool.files, fits=tuple(self._fits[: header.fits_finished])
            )
        self.newest_s = self._clock.monotonic()
        self.commit_s = self.newest_s - began_s
        return committed

    def _name(self, header: SnapshotHeader) -> str:
        return f"{header.step}-{header.fits_finished} of {self._committer.key}"

    def _committed(self, committed: Committed) -> None:
        self.newest = committed
        self._trouble.over(
            f"the root takes checkpoints again: step {committed.manifest.header.step} is there"
        )
        if self._is_ending():
            return
        with on_behalf_of(f"sweep {self._name(committed.manifest.header)}"):
            swept = self._retention.apply(claims=self._claims(), resume_after=self._resume_after)
        for problem in swept.problems:
            self._say(problem)
