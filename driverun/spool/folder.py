"""Where things lie in a spool, the local folder in which runner and training process meet.

request.json          runner: what to run and how
control.bin           runner: what it wants from the trainer, one byte
progress.bin          trainer: where training stands, fixed size
events.jsonl          trainer: what happened, one JSON object a line
events.reserve        trainer: room for the last event of a job that fills the disk
trainer.lock          held by the trainer as long as it lives, its pid inside: one spool, one trainer
fits/<index>/         trainer: the end of a finished fit, a snapshot that stays
files/<sha256>        both: contents of output files that snapshots name
models/<name>         trainer: fitted models, as results
restore/checkpoint/   runner: the snapshot to take up
restore/fits/<index>/ runner: the ends of fits that were finished before
restore/weights/      runner: a snapshot of another run, whose weights the first fit starts from
buffers               trainer: two snapshots in turn; a folder of its own, in memory where it is small
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REFUSED = (
    75  #: exit code of a trainer that could not begin: the spool is taken or does not hold what it should
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolFolder:
    """The paths of one attempt's spool."""

    path: Path

    @property
    def request(self) -> Path:
        return self.path / "request.json"

    @property
    def control(self) -> Path:
        return self.path / "control.bin"

    @property
    def progress(self) -> Path:
        return self.path / "progress.bin"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def trainer_lock(self) -> Path:
        return self.path / "trainer.lock"

    @property
    def files(self) -> Path:
        return self.path / "files"

    @property
    def models(self) -> Path:
        return self.path / "models"

    @property
    def restored_checkpoint(self) -> Path:
        return self.path / "restore" / "checkpoint"

    def fit(self, index: int) -> Path:
        return self.path / "fits" / f"{index:03d}"

    @property
    def initial_weights(self) -> Path:
        return self.path / "restore" / "weights"

    def restored_fit(self, index: int) -> Path:
        return self.path / "restore" / "fits" / f"{index:03d}"

    def file(self, sha256: str) -> Path:
        return self.files / sha256

    def make(self) -> None:
        """Create the folders that both processes expect; what is there stays."""
        for folder in (
            self.path,
            self.files,
            self.models,
            self.path / "fits",
            self.path / "restore" / "fits",
        ):
            folder.mkdir(parents=True, exist_ok=True)
