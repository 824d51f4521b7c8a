"""A root on an emulated Drive in a process of its own, for drills."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from driverun.assembly import Surroundings, open_store
from driverun.errors import UsageError
from driverun.purpose import on_behalf_of
from driverun.runs.claim_log import RootObject
from driverun.testing.drive_audit import DriveAudit, audit_drive
from driverun.testing.drive_emulator import AdminClient, EmulatorSettings
from driverun.testing.drive_emulator.records import FileRecord

ROOT = "gdrive:drill"
OWN = "drill"  #: what the drill's own requests say that they are for
ENDPOINT_VARIABLE = "DRIVERUN_DRIVE_ENDPOINT"
LAG_VARIABLE = "DRIVERUN_LISTING_LAG"
USUAL_LAG_S = 10.0  #: what workers count on unless they are told otherwise
END_S = 30.0  #: for an emulator to end

#: No latency, no lag, no limit, no fault.
_CALM = {"latency_ms": 0.0, "listing_lag_s": 0.0, "writes_per_second": 0.0, "fault_rate": 0.0}


class DriveGround:
    """A root on an emulator that runs; what goes wrong there goes wrong for workers alone."""

    def __init__(self, url: str, settings: EmulatorSettings, *, here: Surroundings) -> None:
        self._admin = AdminClient(url)
        self._rough = {name: value for name, value in asdict(settings).items() if name in _CALM}
        self._blocks = 0
        self._here = here
        self.environment: Mapping[str, str] = {ENDPOINT_VARIABLE: url}
        if settings.listing_lag_s > USUAL_LAG_S:
            self.environment = {**self.environment, LAG_VARIABLE: f"{settings.listing_lag_s:g}s"}

    @property
    def address(self) -> str:
        return ROOT

    @contextmanager
    def calm(self) -> Iterator[None]:
        if self._blocks == 0:
            self._admin.change(**_CALM)
        self._blocks += 1
        try:
            with on_behalf_of(OWN):
                yield
        finally:
            self._blocks -= 1
            if self._blocks == 0:
                self._admin.change(**self._rough)

    def paths(self) -> Iterator[str]:
        return paths_on(self._admin.files())

    def objects(self) -> Iterator[RootObject]:
        files = self._admin.files()
        by_id = {file.id: file for file in files}
        for file in files:
            if file.revisions and not file.is_trashed:
                yield RootObject(
                    path=_path_of(file, by_id),
                    object_id=file.id,
                    created_at=_time(file.created_at),
                    written_at=tuple(_time(revision.modified_at) for revision in file.revisions),
                )

    def audit(self) -> DriveAudit:
        environment = {**self._here.environment, **self.environment, LAG_VARIABLE: "0s"}
        with self.calm():
            requests = [record for record in self._admin.requests() if f"({OWN})" not in record.agent]
            store = open_store(ROOT, replace(self._here, environment=environment))
            return audit_drive(self._admin.files(), requests, store)


def _time(ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)


def paths_on(files: Iterable[FileRecord]) -> Iterator[str]:
    """The paths of all `files`, from the root, which is a folder in My Drive."""
    by_id = {file.id: file for file in files}
    for file in by_id.values():
        yield _path_of(file, by_id)


def _path_of(file: FileRecord, by_id: Mapping[str, FileRecord]) -> str:
    """Its path from the root; My Drive itself is not among the files."""
    names = [file.title]
    while file.parents and file.parents[0] in by_id:
        file = by_id[file.parents[0]]
        names.append(file.title)
    return "/".join(reversed(names[:-1]))


def drive_ground(
    settings: EmulatorSettings, *, seed: int, here: Surroundings
) -> Callable[[Path], AbstractContextManager[DriveGround]]:
    """Makes, in a folder, a root on an emulator of its own, which ends with the block.

    Raises:
        UsageError: the emulator does not start.
    """

    @contextmanager
    def ground(folder: Path) -> Iterator[DriveGround]:
        command = [sys.executable, "-m", "driverun", "dev-drive", "--state", str(folder / "drive")]
        command += ["--seed", str(seed), "--quota-gb", "0"]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url:
                raise UsageError(f"cannot start an emulated Drive: see `{' '.join(command[2:])}`")
            yield DriveGround(url, settings, here=here)
        finally:
            process.terminate()
            process.wait(timeout=END_S)
            if process.stdout is not None:
                process.stdout.close()

    return ground
