"""What is wrong with a set-up, and how to mend it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from driverun.assembly import Surroundings, capabilities, open_client
from driverun.errors import DriverunError
from driverun.execution.client import Client
from driverun.execution.workdir import SHARED_MEMORY, is_free
from driverun.settings import Settings
from driverun.transfer.progress import written_size

LEAST_FREE_BYTES = 2 * 10**9
LEAST_KERAS = (3, 8)
LARGEST_SKEW_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    message: str
    remedy: str = ""
    is_fault: bool = False


def examine(root: str | None, here: Surroundings) -> list[Finding]:
    """Look at this machine and at the root that is meant; nothing is changed."""
    found = list(_machine())
    try:
        settings = here.settings()
    except DriverunError as exc:
        return [*found, Finding(subject="settings", message=str(exc), is_fault=True)]
    found += _workdir(settings)
    try:
        client = open_client(root, here)
    except DriverunError as exc:
        remedy = "make one: driverun init FOLDER; then set DRIVERUN_ROOT or pass --root"
        return [*found, Finding(subject="root", message=str(exc), remedy=remedy, is_fault=True)]
    return [*found, *_root(client, here)]


def _machine() -> Iterator[Finding]:
    version = platform.python_version()
    is_known = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Finding(
        subject="python",
        message=f"{version} at {sys.executable}",
        remedy="" if is_known else "driverun is tested with Python 3.11 to 3.13",
        is_fault=not is_known,
    )
    yield from _keras()
    given = capabilities(allow_cpu=True).accelerators
    names = (
        ", ".join(sorted(kind.name for kind in given))
        or "none: jobs with `accelerator: gpu` wait for another machine"
    )
    yield Finding(subject="accelerator", message=names)
    if SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(SHARED_MEMORY).free
        yield Finding(subject="shared memory", message=f"{written_size(free)} free for small snapshots")


def _keras() -> Iterator[Finding]:
    for name in ("tensorflow", "keras"):
        found = next((v for v in (_version(name), _version(f"{name}-cpu")) if v), None)
        if found is None:
            yield Finding(
                subject=name,
                message="is not installed: scripts that train with it will not start",
                remedy="pip install 'driverun[tensorflow]'",
            )
        elif name == "keras" and tuple(int(part) for part in found.split(".")[:2]) < LEAST_KERAS:
            yield Finding(
                subject=name,
                message=f"{found} is older than what driverun resumes exactly",
                remedy="pip install 'keras>=3.8'",
                is_fault=True,
            )
        else:
            yield Finding(subject=name, message=found)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _workdir(settings: Settings) -> Iterator[Finding]:
    folder = settings.workdir
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        yield Finding(
            subject="local work",
            message=f"{folder} cannot be written to",
            remedy="set DRIVERUN_WORKDIR to a folder of yours",
            is_fault=True,
        )
        return
    free = shutil.disk_usage(existing).free
    yield Finding(
        subject="local work",
        message=f"{folder}, {written_size(free)} free",
        remedy=""
        if free >= LEAST_FREE_BYTES
        else "free some space, or set DRIVERUN_WORKDIR to a larger disk",
        is_fault=free < LEAST_FREE_BYTES,
    )
    attempts = folder / "attempts"
    left = [path for path in attempts.iterdir() if is_free(path)] if attempts.is_dir() else []
    if left:
        yield Finding(
            subject="leftovers",
            message=f"{len(left)} folders of workers that died; the next `driverun work` removes them",
        )


def _root(client: Client, here: Surroundings) -> Iterator[Finding]:
    store = client.store
    runs = client.runs()
    yield Finding(subject="root", message=f"{store.location}, {len(runs)} runs")
    path = Path(store.location)
    if path.is_dir() and not os.access(path / ".driverun", os.W_OK):
        yield Finding(
            subject="root",
            message="cannot be written to",
            remedy=f"chmod -R u+w {store.location}",
            is_fault=True,
        )
    elif path.is_dir() and shutil.disk_usage(path).free < LEAST_FREE_BYTES:
        yield Finding(
            subject="root",
            message=f"only {written_size(shutil.disk_usage(path).free)} free",
            remedy="delete results that are no longer needed under runs/",
            is_fault=True,
        )
    skew_s = abs((store.now() - here.clock.now()).total_seconds())
    if skew_s > LARGEST_SKEW_S:
        yield Finding(
            subject="clock",
            message=f"this machine's differs from the root's by {skew_s:.0f} s; times shown may confuse, nothing else",
        )
    for problem in client.problems():
        yield Finding(
            subject="ledger",
            message=f"{problem.path}: {problem.message}",
            remedy="move the file out of ledger/",
            is_fault=True,
        )
    for invalid in client.invalid_jobs():
        for fault in invalid.faults:
            yield Finding(
                subject=f"job {invalid.name}", message=str(fault), remedy="mend the file", is_fault=True
            )
