"""What a Drive looks like after workers were at it: is it tidy, and what did it cost?"""

from __future__ import annotations

import enum
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from driverun.checkpoints.newest import checkpoint_of, load_fits, load_manifest
from driverun.errors import IntegrityError, ObjectNotFound
from driverun.runs.layout import RUNS, attempt_of_path
from driverun.storage.base import ObjectStore
from driverun.testing.drive_emulator import RequestRecord
from driverun.testing.drive_emulator.records import FileRecord
from driverun.transfer.results import read_results_manifest

_AGENT = re.compile(r"driverun \(([a-z]+) ([^)]*)\)")
_CHUNK = "upload"  # how the emulator calls a piece of a large file
_SWEEP = "sweep"  # what requests say that are made to remove old checkpoints
_ENOUGH_LOOKS = 5  # to judge them


class Work(enum.Enum):
    """What workers do again and again; the value is what their requests say that they are for."""

    CHECKPOINT = "checkpoint"
    HEARTBEAT = "heartbeat"
    LOOK = "look"  #: for a run that could be taken up

    @property
    def budget(self) -> int:
        """The most requests that one may cost where nothing goes wrong on the way."""
        return {Work.CHECKPOINT: 6, Work.HEARTBEAT: 2, Work.LOOK: 1}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one kind of work cost, each time that it met no fault.

    Pieces of large files are left out. What it takes to remove old checkpoints is shared out evenly among the new ones,
    because one may remove what many left.
    """

    work: Work
    totals: tuple[float, ...]  #: of each time, the least first

    @property
    def most(self) -> float:
        """What counts against the budget. A look that finds something reads it, so of looks it is the middle one."""
        return median(self.totals) if self.work is Work.LOOK else self.totals[-1]

    @property
    def is_within_budget(self) -> bool:
        is_unknown = self.work is Work.LOOK and len(self.totals) < _ENOUGH_LOOKS
        return is_unknown or self.most <= self.work.budget

    def __str__(self) -> str:
        return (
            f"{self.work.value}: {median(self.totals):.3g} requests, at most {self.totals[-1]:.3g}, of"
            f" {len(self.totals)}; the budget is {self.work.budget}"
        )


def costs_of(requests: Iterable[RequestRecord]) -> list[Cost]:
    """What each kind of work cost, by what the requests say that they are for; the first look of a worker left out."""
    times: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    disturbed = set()
    for request in requests:
        found = _AGENT.search(request.agent)
        if found is None or (found[1] == Work.LOOK.value and found[2].startswith("1 ")):
            continue
        time = (found[1], found[2])
        times[time][request.method_id.removeprefix("drive.")] += 1
        if request.fault or request.status == 0 or request.status >= 400:
            disturbed.add(time)
    costs = []
    sweeping = sum(sum(counts.values()) for (kind, _), counts in times.items() if kind == _SWEEP)
    for work in Work:
        every = [(time, counts) for time, counts in times.items() if time[0] == work.value]
        share = sweeping / len(every) if work is Work.CHECKPOINT and every else 0.0
        calm = [counts for time, counts in every if time not in disturbed]
        if calm:
            totals = sorted(sum(counts.values()) - counts[_CHUNK] + share for counts in calm)
            costs.append(Cost(work=work, totals=tuple(totals)))
    return costs


def untidiness(files: Sequence[FileRecord]) -> list[str]:
    """Equal names in one folder, and whatever is in the trash."""
    names = Counter((parent, file.title) for file in files for parent in file.parents)
    faults = [f"{title} is there {count} times" for (_, title), count in names.items() if count > 1]
    return faults + [f"{file.title} is in the trash" for file in files if file.is_trashed]


def orphaned_manifests(store: ObjectStore) -> list[str]:
    """Manifests of checkpoints and results that name what is not there, or not as they say."""
    faults = []
    there = {info.path: info for info in store.list(RUNS, recursive=True)}
    for path, info in there.items():
        key = attempt_of_path(path)
        if key is None:
            continue
        try:
            wanted: list[tuple[str, str, int]] = []
            if checkpoint_of(key, info) is not None:
                manifest = load_manifest(store, path).manifest
                for each in (manifest, *load_fits(store, manifest)):
                    wanted += [
                        (each.key.pack_file(pack.sha256), pack.sha256, pack.size_bytes) for pack in each.packs
                    ]
            elif path == key.results_manifest:
                results = read_results_manifest(store, key.results_folder)
                wanted += [
                    (f"{key.results_folder}/{file.path}", file.sha256, file.size_bytes)
                    for file in results.stored
                ]
        except (IntegrityError, ObjectNotFound) as exc:
            faults.append(str(exc))
            continue
        for needed, sha256, size_bytes in wanted:
            found = there.get(needed)
            if found is None:
                faults.append(f"{path} names {needed}, which is not there")
            elif (found.sha256, found.size_bytes) != (sha256, size_bytes):
                faults.append(f"{path} names {needed}, which holds other bytes")
    return faults


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveAudit:
    """What a drill left on a Drive, and what it cost there."""

    lines: tuple[str, ...]
    untidy: tuple[str, ...]
    costly: tuple[str, ...]

    @property
    def faults(self) -> tuple[str, ...]:
        return (*self.untidy, *self.costly)


def audit_drive(
    files: Sequence[FileRecord], requests: Sequence[RequestRecord], store: ObjectStore
) -> DriveAudit:
    """Look at all that is there, and at all that was asked for."""
    untidy = untidiness(files) + orphaned_manifests(store)
    costs = costs_of(requests)
    disturbed = sum(bool(request.fault) for request in requests)
    refused = sum(request.status == 403 and not request.fault for request in requests)
    tidy = "no name is there twice, nothing is in the trash, every manifest is whole"
    lines = [
        f"{len(requests)} requests of workers; {disturbed} met a fault, {refused} came too soon after others",
        *(str(cost) for cost in costs),
        f"{len(files)} files and folders; {tidy if not untidy else 'not as they should be'}",
    ]
    costly = [f"too many requests: {cost}" for cost in costs if not cost.is_within_budget]
    return DriveAudit(lines=tuple(lines), untidy=tuple(untidy), costly=tuple(costly))
