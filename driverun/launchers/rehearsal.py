"""A root of a drill's own, the runs of one job on it, and workers whose power can be cut."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from driverun.assembly import Surroundings, make_root, open_client
from driverun.clock import Clock
from driverun.errors import JobError, RootNotFound, UsageError
from driverun.execution.client import Client
from driverun.launchers.ground import Ground, LocalGround, commits_by_attempt
from driverun.launchers.runtimes import Runtime
from driverun.report.summary import RunSummary
from driverun.runs.state import RunState
from driverun.spec.parser import parse_override
from driverun.spec.sources import SourceKind, kind_of
from driverun.spool.boards import Progress
from driverun.storage.base import ObjectStore
from driverun.transfer.sync import find_source

LOOK_S = 0.02
LOOK_AT_ROOT_S = 0.2  #: for the first commit of an attempt
PATIENCE_S = 3600.0  #: for one attempt to commit something


def _data_root(root: str | None, here: Surroundings) -> ObjectStore | None:
    try:
        return open_client(root, here).store
    except RootNotFound:
        if root is not None:
            raise
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerCut:
    """Where a power cut left a run, and where the next attempt took it up."""

    cut: int  #: number, from 1
    step_reached: int | None
    committed_step: int | None  #: newest of the run on the root when the power went
    resumed_at: int | None = None  #: None: the next attempt never began to train

    @property
    def is_ok(self) -> bool:
        return self.resumed_at == (self.committed_step or 0)

    @property
    def result(self) -> str:
        return "ok" if self.is_ok else f"should have gone on at {self.committed_step or 0}"


class Rehearsal:
    """One root with the runs of one job, and workers that are started on it."""

    def __init__(
        self,
        folder: Path,
        ground: Ground,
        job: Path,
        overrides: Mapping[str, Any],
        *,
        data_from: ObjectStore | None,
        here: Surroundings,
    ) -> None:
        self.folder = folder
        self.ground = ground
        self._environment = {
            name: value for name, value in here.environment.items() if not name.startswith("DRIVERUN_")
        }
        self.clock: Clock = here.clock
        self._started = 0
        self.executed = 0  #: optimiser updates of all attempts, counted outside the checkpoints
        folder.mkdir(exist_ok=True)
        own = {**self._environment, **ground.environment, "DRIVERUN_LISTING_LAG": "0s"}
        store, _ = make_root(ground.address, replace(here, environment=own))
        self.client = Client(store, clock=here.clock, by=here.person)
        loaded = self.client.load_job(str(job))
        if data_from is not None:
            for source in loaded.spec.data:
                if kind_of(source.source) is SourceKind.PATH:  # addresses are the same from every root
                    self._copy(data_from, source.source)
        self.submission = self.client.submit(loaded, params=overrides)
        self.run_id = self.submission.run_id

    def _copy(self, data_from: ObjectStore, source: str) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            for info in find_source(data_from, source):
                local = Path(folder) / "data"
                data_from.download(info.path, local)
                self.client.upload(local, info.path)

    def summary(self, run_id: str | None = None) -> RunSummary:
        """Of the run; None: the first."""
        with self.ground.calm():
            return self.client.run(run_id or self.run_id)

    def start(self, *, marker: Path | None = None) -> Runtime:
        """A worker on a machine of its own: another workdir, another id."""
        self._started += 1
        environment = {**self._environment, **self.ground.environment}
        if marker is not None:
            environment["DRIVERUN_HOLD_COMMIT"] = str(marker)
        return Runtime(
            self.ground.address,
            "--until-empty",
            environment=environment,
            workdir=self.folder / f"machine-{self._started}",
        )

    def run_to_end(self) -> None:
        """Let one worker finish all runs. Raises JobError if one does not succeed."""
        runtime = self.start()
        try:
            progress = Progress()
            while runtime.is_alive:
                progress = runtime.progress() or progress
                self.clock.sleep(LOOK_S)
            self.executed += progress.executed
        finally:
            runtime.power_cut()
        for run in self.submission.runs:
            summary = self.summary(run.run_id)
            if summary.state is not RunState.SUCCEEDED:
                raise JobError(
                    f"cannot drill this job: {run.run_id} ended {summary.state.value}: {summary.reason}\n"
                    f"{runtime.said()}"
                )

    def wait_for_commit(
        self, runtime: Runtime, attempt: int, run_id: str | None = None, *, marker: Path | None = None
    ) -> bool:
        """Whether the attempt has committed something before its worker ended; with `marker`, stands amid doing so."""
        end_s = self.clock.monotonic() + PATIENCE_S
        while runtime.is_alive and self.clock.monotonic() < end_s:
            if marker.exists() if marker is not None else self.has_committed(attempt, run_id):
                return True
            self.clock.sleep(LOOK_S if marker is not None else LOOK_AT_ROOT_S)
        return False

    def committed_step(self, run_id: str | None = None) -> int | None:
        """The newest step of the run on the root; None: of the first."""
        return max((checkpoint.step for checkpoint in self.summary(run_id).checkpoints), default=None)

    def has_committed(self, attempt: int, run_id: str | None = None) -> bool:
        """Has the attempt of that number, or a later one, committed a checkpoint?"""
        commits = commits_by_attempt(self.ground.paths(), run_id or self.run_id)
        newest = max(commits, default=0)
        return newest >= attempt and commits[newest] > 0


@contextmanager
def side_by_side(
    job: Path,
    *,
    kills: int,
    keep: Path | None,
    params: Sequence[str],
    root: str | None,
    here: Surroundings,
    on: Callable[[Path], AbstractContextManager[Ground]] | None,
) -> Iterator[tuple[Rehearsal, Rehearsal]]:
    """The runs of `job` on two roots: one whose workers are left alone, and one where power is to be cut.

    Arguments and errors are as `run_drill` has them.
    """
    if kills < 1:
        raise UsageError("cannot drill without a cut: --kills is at least 1")
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise UsageError(f"cannot keep the drill in {keep}: the folder is not empty. Name a new one.")
    overrides = dict(parse_override(text) for text in params)
    with (
        tempfile.TemporaryDirectory(prefix="driverun-drill-") if keep is None else nullcontext(keep) as place
    ):
        base = Path(place).absolute()
        base.mkdir(parents=True, exist_ok=True)
        data_from = _data_root(root, here)
        local = LocalGround(base / "whole" / "root")
        whole = Rehearsal(base / "whole", local, job, overrides, data_from=data_from, here=here)
        shaky = on(base / "cut") if on is not None else nullcontext(LocalGround(base / "cut" / "root"))
        with shaky as ground:
            with ground.calm():
                cut = Rehearsal(base / "cut", ground, job, overrides, data_from=data_from, here=here)
            yield whole, cut
