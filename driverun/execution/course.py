"""What is known of an attempt so far, as its record tells it and as a display shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from driverun.checkpoints.commit import Committed
from driverun.checkpoints.restore import Restored
from driverun.dispatch.choose import FIRST_CHECKPOINT
from driverun.execution.committing import SnapshotCommitter
from driverun.execution.environment import JobPackages
from driverun.execution.outcome import Outcome
from driverun.execution.telling import Told
from driverun.execution.viewing import AttemptView, Pace
from driverun.runs.layout import AttemptKey
from driverun.spool.boards import Progress, ProgressBoard


@dataclass(slots=True, kw_only=True)
class Course:
    """Each part of an attempt writes what it comes to know; any thread may read at any time."""

    key: AttemptKey
    began_s: float  #: by the monotonic clock, like all moments here
    machine: Mapping[str, Any]  #: facts of what it runs on
    doing: str = "preparing"  #: one plain phrase
    packages: JobPackages = field(default_factory=JobPackages)
    restored: Restored | None = None  #: the checkpoint that it took up
    began_with: str | None = None  #: the state of another run, in one line
    told: Told = field(default_factory=Told)
    board: ProgressBoard | None = None  #: None: there is no training process yet
    committing: SnapshotCommitter | None = None  #: likewise
    pace: Pace = field(default_factory=Pace)
    trained_s: float | None = None  #: when the first step was made
    outcome: Outcome | None = None  #: None while it is at work

    @property
    def newest(self) -> Committed | None:
        """The newest checkpoint that it committed."""
        return self.committing.newest if self.committing is not None else None

    def see_steps(self, now_s: float) -> int:
        """How many steps the training process has made by now."""
        executed = self.board.read().executed if self.board is not None else 0
        if executed and self.trained_s is None:
            self.trained_s = now_s
        self.pace.note(now_s, executed)
        return executed

    def fields_of_record(self) -> dict[str, Any]:
        """What the record tells while the attempt is at work and afterwards, its state and reason left out."""
        told, newest = self.told, self.newest
        progress = self.board.read() if self.board is not None else None
        return {
            "fit": told.fit,
            "epoch": told.epoch,
            "step": max(told.step, progress.step if progress is not None else 0),
            "first_step": told.first_step,
            "total_steps": told.total_steps,
            "committed_step": newest.manifest.header.step if newest is not None else None,
            "exactness": told.exactness,
            "exactness_reasons": tuple(told.reasons),
            "metrics": dict(told.metrics),
            "environment": self.environment(),
        }

    def environment(self) -> dict[str, Any]:
        """What it ran on, and how long it took from its beginning until a first step could be on the root."""
        found = {**self.machine, **self.told.environment}
        if self.began_with is not None:
            found["init_from"] = self.began_with
        if self.packages.versions:
            found["packages"] = dict(self.packages.versions)
        committing = self.committing
        if self.trained_s is not None and committing is not None and committing.newest is not None:
            found[FIRST_CHECKPOINT] = round(self.trained_s - self.began_s + committing.commit_s, 1)
        return found

    def view(self, now_s: float) -> AttemptView:
        """What it is at, for a display."""
        told, board, committing, restored = self.told, self.board, self.committing, self.restored
        progress = board.read() if board is not None else Progress()
        newest = committing.newest if committing is not None else None
        age_s = now_s - committing.newest_s if committing is not None else 0.0
        known_total = progress.total_steps if progress.total_steps >= 0 else None
        outcome, doing = self.outcome, self.doing
        return AttemptView(
            run_id=self.key.run_id,
            number=self.key.number,
            doing=doing if outcome is None else outcome.state.value.lower(),
            fit=progress.fit if progress.fit >= 0 else told.fit,
            epoch=progress.epoch if progress.epoch >= 0 else told.epoch,
            step=max(told.step, progress.step, 0),
            total_steps=told.total_steps if told.total_steps is not None else known_total,
            steps_per_s=self.pace.steps_per_s if doing == "training" and outcome is None else None,
            logs=told.logs,
            first_step=told.first_step,
            resumed_step=restored.header.step if restored is not None else 0,
            resumed_from_attempt=restored.manifest.key.number if restored is not None else None,
            committed_step=newest.manifest.header.step if newest is not None else None,
            committed_age_s=max(0.0, age_s) if newest is not None else None,
            sending=committing.sending() if committing is not None and outcome is None else None,
            exactness=told.exactness,
            outcome=outcome,
        )
