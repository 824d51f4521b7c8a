"""Jobs and roots for passes that nobody watches."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from driverun.clock import SystemClock
from driverun.execution.scheduling import Schedules
from driverun.spec.schedule import ScheduleRules
from driverun.storage.local import LocalStore
from tests.e2e.runtimes import driverun, runtime

#: Its first attempt stands still until it is killed.
CUT = """
import pathlib, signal
import driverun
run = driverun.current_run()
if run.attempt == 1:
    pathlib.Path(MARK).touch()
    signal.pause()
print("attempt", run.attempt)
"""
NIGHTLY = """
import driverun
print("due", driverun.current_run().due.isoformat())
"""


@dataclass
class Desk:
    """A person's folder with jobs, and a root beside it."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def init(self) -> None:
        driverun("init", root=self.root)

    def job(self, name: str, script: str, **fields: object) -> str:
        """Submit it; gives what that prints."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "train.py").write_text(script)
        (folder / "job.yaml").write_text(json.dumps({"entrypoint": "train.py", **fields}))
        return driverun("submit", str(folder), root=self.root).strip()

    def interrupted(self) -> str:
        """A run whose worker was killed while it was at work."""
        mark = self.folder / "it-works"
        run_id = self.job("cut", CUT.replace("MARK", repr(str(mark))))
        with runtime(self.root, "cut") as machine:
            machine.wait_until(mark.exists)
        return run_id

    def seen(self, job: str, schedule: dict[str, str], *, at: datetime) -> None:
        """Have the schedule of a job count since long ago. Before anything else is on the root: its time goes on."""
        clock = SystemClock()
        store = LocalStore(self.root, clock=clock, time_ns=lambda: int(at.timestamp() * 10**9))
        Schedules(store, by="somebody").note(job, ScheduleRules.model_validate(schedule))

    def lines(self, run_id: str) -> list[str]:
        return driverun("logs", run_id, root=self.root).splitlines()
