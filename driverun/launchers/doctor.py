"""What is wrong with a set-up, and how to mend it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Protocol

from driverun.assembly import (
    Surroundings,
    capabilities,
    new_worker_id,
    open_checkup,
    open_client,
    root_address,
)
from driverun.clock import Clock
from driverun.errors import DriverunError, RootNotFound, StoreQuotaExceeded, TransientStoreError
from driverun.execution.client import Client
from driverun.execution.workdir import SHARED_MEMORY, is_free
from driverun.runs.layout import probe_file
from driverun.settings import Settings
from driverun.storage.base import ObjectStore
from driverun.transfer.progress import written_size

LEAST_FREE_BYTES = 2 * 10**9
LEAST_KERAS = (3, 8)
LARGEST_SKEW_S = 60.0
LARGEST_DRIVE_SKEW_S = 300.0  #: further off, Google refuses the signatures of service accounts
PROBES = 5  #: files that are written to a root on Drive and taken away again
LEAST_WRITES_PER_S = 0.5  #: with less, heartbeats and checkpoints come late

TRY_LATER = "look at this machine's network; then try later"
ALLOW_DRIVE = "driverun login, and tick the box for Google Drive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    message: str
    remedy: str = ""
    is_fault: bool = False
    is_unreachable: bool = False  #: the root did not answer, so what comes after this was not looked at


class Account(Protocol):
    """Who is logged in to Drive, and what they have."""

    @property
    def email(self) -> str: ...

    @property
    def is_robot(self) -> bool: ...

    @property
    def total_bytes(self) -> int | None: ...

    @property
    def used_bytes(self) -> int: ...

    @property
    def trash_bytes(self) -> int: ...


class Checkup(Protocol):
    """Whoever can be asked about a login."""

    def missing_scopes(self) -> frozenset[str]: ...

    def account(self) -> Account: ...

    def now(self) -> datetime: ...

    def is_on_shared_drive(self) -> bool: ...


def examine(root: str | None, here: Surroundings) -> list[Finding]:
    """Look at this machine, and at the root that is meant.

    Nothing is changed; the files that try a root on Drive are taken away again.
    """
    found = list(_machine())
    try:
        settings = here.settings()
    except DriverunError as exc:
        return [*found, Finding(subject="settings", message=str(exc), is_fault=True)]
    found += _workdir(settings)
    try:
        address = root_address(root, here)
    except DriverunError as exc:
        return [*found, _no_root(exc)]
    try:
        checkup = open_checkup(address, here)
    except DriverunError as exc:
        return [*found, Finding(subject="login", message=str(exc), is_fault=True)]
    try:  # finding by finding, so that what was found before an error is told
        if checkup is not None:
            for finding in _login(checkup):
                found.append(finding)
                if finding.is_fault:
                    return found
            for finding in _drive(checkup, here.clock):
                found.append(finding)
        client = open_client(root, here)
        for finding in _root(client, here, is_local=checkup is None):
            found.append(finding)
        if checkup is not None:
            for finding in _round_trip(client.store, here.clock):
                found.append(finding)
    except TransientStoreError as exc:
        found.append(
            Finding(subject="root", message=str(exc), remedy=TRY_LATER, is_fault=True, is_unreachable=True)
        )
    except RootNotFound as exc:
        found.append(_no_root(exc))
    except DriverunError as exc:
        found.append(Finding(subject="root", message=str(exc), is_fault=True))
    return found


def _no_root(exc: DriverunError) -> Finding:
    remedy = "make one: driverun init FOLDER; then set DRIVERUN_ROOT or pass --root"
    return Finding(subject="root", message=str(exc), remedy=remedy, is_fault=True)


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


def _login(checkup: Checkup) -> Iterator[Finding]:
    try:
        missing = checkup.missing_scopes()
    except TransientStoreError:
        raise
    except DriverunError as exc:
        yield Finding(
            subject="login",
            message=str(exc),
            remedy="if it ends every week, publish the app of your client file: docs/drive.md, 2., step 4",
            is_fault=True,
        )
        return
    try:
        account = checkup.account()
    except TransientStoreError:
        raise
    except DriverunError as exc:
        yield Finding(subject="scopes", message=str(exc), remedy=ALLOW_DRIVE, is_fault=True)
        return
    yield Finding(subject="login", message=f"{account.email}; it can be renewed")
    yield Finding(
        subject="scopes",
        message=f"the login does not allow {', '.join(sorted(missing))}" if missing else "all of Drive",
        remedy=ALLOW_DRIVE if missing else "",
        is_fault=bool(missing),
    )


def _drive(checkup: Checkup, clock: Clock) -> Iterator[Finding]:
    skew_s = (clock.now() - checkup.now()).total_seconds()
    is_far_off = abs(skew_s) > LARGEST_DRIVE_SKEW_S
    yield Finding(
        subject="clock",
        message=f"this machine's is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} Drive's",
        remedy="set it: timedatectl set-ntp true; Google may refuse logins, and schedules fall due at wrong times"
        if is_far_off
        else "",
        is_fault=is_far_off,
    )
    account = checkup.account()
    if checkup.is_on_shared_drive():
        yield Finding(subject="quota", message="a shared drive, which does not tell how full it is")
    elif account.is_robot:
        yield Finding(
            subject="quota",
            message=f"{account.email} is a service account: it owns no storage, and can create no files in a My Drive",
            remedy="use a folder of a shared drive, as gdrive://FOLDER_ID, with it as a member; or driverun login",
            is_fault=True,
        )
    elif account.total_bytes is None:
        yield Finding(subject="quota", message=f"{written_size(account.used_bytes)} used, without a limit")
    else:
        free = max(0, account.total_bytes - account.used_bytes)
        room = f"{written_size(free)} free" if free else "Drive is full"
        yield Finding(
            subject="quota",
            message=f"{room}, of {written_size(account.total_bytes)} for Drive, Gmail and Photos together",
            remedy=""
            if free >= LEAST_FREE_BYTES
            else f"empty the trash, which holds {written_size(account.trash_bytes)}, or remove old results below runs/",
            is_fault=free < LEAST_FREE_BYTES,
        )


def _round_trip(store: ObjectStore, clock: Clock) -> Iterator[Finding]:
    """Write, read and remove some small files. Raises TransientStoreError; then one of them may be left."""
    name = new_worker_id()
    probes = {
        probe_file(f"{name}-{number}"): f"{name} {number}, of driverun doctor\n" for number in range(PROBES)
    }
    fault = remedy = ""
    writing_s = 0.0
    try:
        began_s = clock.monotonic()
        for path, text in probes.items():
            store.create(path, text.encode())
        writing_s += clock.monotonic() - began_s
        if any(store.read(path) != text.encode() for path, text in probes.items()):
            fault = "what was read is not what was written"
    except TransientStoreError:
        raise
    except DriverunError as exc:
        fault = str(exc)
        remedy = (
            ""
            if isinstance(exc, StoreQuotaExceeded)
            else f"have {store.location} shared with you as an editor"
        )
    finally:
        began_s = clock.monotonic()
        for path in probes:
            store.delete(path)
        writing_s += clock.monotonic() - began_s
    if fault:
        yield Finding(subject="round trip", message=fault, remedy=remedy, is_fault=True)
        return
    yield Finding(subject="round trip", message=f"{PROBES} files were written, read and removed")
    rate = 2 * PROBES / writing_s if writing_s > 0 else float("inf")
    is_slow = rate < LEAST_WRITES_PER_S
    yield Finding(
        subject="write rate",
        message=f"{2 * PROBES} writes, one after the other, in {writing_s:.1f} s; Drive allows about three a second",
        remedy="stop what else writes with this account, such as a sync or a backup, or set heartbeat to a minute"
        if is_slow
        else "",
        is_fault=is_slow,
    )


def _root(client: Client, here: Surroundings, *, is_local: bool) -> Iterator[Finding]:
    store = client.store
    runs = client.runs()
    yield Finding(subject="root", message=f"{store.location}, {len(runs)} run{'s' * (len(runs) != 1)}")
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
    if is_local and skew_s > LARGEST_SKEW_S:
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
