"""Real training processes on spools of their own, with scripts as people write them."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from driverun.spool.events import Event, EventKind, EventReader
from driverun.spool.folder import SpoolFolder
from driverun.spool.request import TrainingRequest

PACKAGE_HOME = Path(__file__).parents[2]
PATIENCE_S = 60.0  #: for what has to happen and does within a second; a loaded machine is slow
GONE_S = 5.0  #: within which nothing of a job may be left


def environment(seed: int = 7) -> dict[str, str]:
    """What a runner gives its trainer, as far as it matters here."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("DRIVERUN_")},
        "PYTHONPATH": str(PACKAGE_HOME),
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": str(seed),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }


@dataclass
class Ended:
    """What a training process left."""

    code: int
    log: bytes
    events: list[Event]

    @property
    def text(self) -> str:
        return self.log.decode()

    def of(self, kind: EventKind) -> list[Mapping[str, Any]]:
        return [event.fields for event in self.events if event.kind is kind]

    @property
    def failure(self) -> Mapping[str, Any]:
        assert not self.of(EventKind.FINISHED)
        (failure,) = self.of(EventKind.FAILED)
        return failure

    def assert_finished(self) -> None:
        assert self.code == 0, self.text
        assert len(self.of(EventKind.FINISHED)) == 1, self.text
        assert not self.of(EventKind.FAILED)


@dataclass
class Job:
    """A spool with a working folder, ready to be trained."""

    folder: Path
    request: TrainingRequest = field(init=False)

    def __post_init__(self) -> None:
        self.work = self.folder / "work"
        self.work.mkdir(parents=True)
        self.spool = SpoolFolder(path=self.folder / "spool")
        self.spool.make()
        self.request = TrainingRequest(
            run_id="job-0123456789ab",
            name="job",
            attempt=1,
            worker="w1",
            entrypoint_kind="script",
            entrypoint="train.py",
            argv=(),
            params={},
            seed=7,
            deterministic=None,
            backend=None,
            working_folder=str(self.work),
            buffers=str(self.folder / "buffers"),
            cadence_kind="auto",
            cadence_value=None,
            monitor=None,
        )

    def write(self, path: str, source: str) -> None:
        target = self.work / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(textwrap.dedent(source), encoding="utf-8")

    def ask(self, **changes: Any) -> None:
        """Change the request."""
        self.request = replace(self.request, **changes)

    def start(self, source: str | None = None) -> Running:
        """A training process of `source`, or of what was written before."""
        if source is not None:
            self.write("train.py", source)
        self.request.write(self.spool.request)
        return Running(self)

    def run(self, source: str | None = None, **changes: Any) -> Ended:
        """Train to the end."""
        self.ask(**changes)
        with self.start(source) as running:
            return running.end()

    def trainer_command(self, lifeline: int) -> list[str]:
        # -P as the runner has it: modules of the job never stand in for those of Python
        return [sys.executable, "-P", "-m", "driverun.training", str(self.spool.path), str(lifeline)]


class Running:
    """A training process whose runner is the test."""

    def __init__(self, job: Job) -> None:
        self._job = job
        reading, self.lifeline = os.pipe()
        try:
            self.process = subprocess.Popen(
                job.trainer_command(reading),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment(job.request.seed),
                cwd=job.work,
                pass_fds=(reading,),
            )
        finally:
            os.close(reading)
        assert self.process.stdout is not None
        self.log = Log(self.process.stdout)
        self._events = EventReader(job.spool.events)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *exc: object) -> None:
        self.cut_lifeline()
        self.process.wait(PATIENCE_S)
        self.log.close()

    def cut_lifeline(self) -> None:
        if self.lifeline >= 0:
            os.close(self.lifeline)
        self.lifeline = -1

    def end(self) -> Ended:
        """Wait until it and all that it started are gone."""
        log = self.log.read_to_the_end(PATIENCE_S)
        code = self.process.wait(PATIENCE_S)
        return Ended(code=code, log=log, events=list(self._events.read()))


class Log:
    """The reading end of a pipe that every process of a job holds: its end is the end of the last of them."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._seen = b""

    def line(self) -> str:
        """The next whole line."""
        while b"\n" not in self._seen:
            assert self._more(PATIENCE_S), f"the log ended: {self._seen.decode()}"
        line, _, self._seen = self._seen.partition(b"\n")
        return line.decode()

    def wait_for(self, beginning: str) -> str:
        """What follows `beginning` in the first line that has it."""
        while True:
            line = self.line()
            if line.startswith(beginning):
                return line.removeprefix(beginning).strip()

    def read_to_the_end(self, patience_s: float) -> bytes:
        while self._more(patience_s):
            pass
        return self._seen

    def close(self) -> None:
        self._pipe.close()

    def _more(self, patience_s: float) -> bool:
        ready, _, _ = select.select([self._pipe], [], [], patience_s)
        assert ready, f"nothing came for {patience_s} s after {self._seen[-500:]!r}"
        chunk = os.read(self._pipe.fileno(), 1 << 16)
        self._seen += chunk
        return bool(chunk)
