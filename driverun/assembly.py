"""The only place that picks concrete classes.

What a worker is made of is imported where one is made: a look at the root would pay more for it than for its look.
"""

from __future__ import annotations

import json
import math
import os
import random
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from driverun.clock import Clock, SystemClock
from driverun.errors import ObjectExists, ObjectNotFound, RootNotFound, UsageError
from driverun.runs.layout import CODE, DATA, JOBS, LEDGER, ROOT_FILE, RUNS, SCHEMA_FILE
from driverun.settings import Settings, load_settings
from driverun.storage.base import ObjectStore, OpensLinks
from driverun.storage.local import LocalStore
from driverun.storage.locate import (
    DriveFolderAddress,
    DrivePathAddress,
    LocalAddress,
    RootAddress,
    choose_root,
    parse_root,
)
from driverun.storage.retrying import RetryingLinksStore, RetryingStore, persist

if TYPE_CHECKING:
    from driverun.dispatch.choose import Capabilities
    from driverun.execution.board import Board
    from driverun.execution.client import Client
    from driverun.execution.context import StopSignal
    from driverun.execution.hardware import Machine
    from driverun.execution.secrets import SecretSource
    from driverun.execution.worker import Worker
    from driverun.storage.drive.checkup import DriveCheckup
    from driverun.transfer.progress import OnProgress

ROOT_FORMAT = 1
RETRY_BUDGET_S = 60.0  #: for one operation on the root; what is left to do after it is for the caller to know


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The machine as a process finds it."""

    environment: Mapping[str, str]
    cwd: Path
    home: Path
    clock: Clock

    @classmethod
    def here(cls) -> Surroundings:
        return cls(environment=dict(os.environ), cwd=Path.cwd(), home=Path.home(), clock=SystemClock())

    @property
    def person(self) -> str:
        """user@host, for whoever reads a wish."""
        user = self.environment.get("USER") or self.environment.get("LOGNAME") or "someone"
        return f"{user}@{os.uname().nodename}"

    def settings(self) -> Settings:
        return load_settings(self.environment, home=self.home)


def root_address(option: str | None, here: Surroundings) -> RootAddress:
    """Which root is meant. Raises RootNotFound."""
    settings = here.settings()
    environment = dict(here.environment)
    if settings.root and not environment.get("DRIVERUN_ROOT"):
        environment["DRIVERUN_ROOT"] = settings.root
    return choose_root(option, environment, cwd=here.cwd, home=here.home, is_root=_is_root)


def _is_root(folder: Path) -> bool:
    return (folder / ROOT_FILE).is_file()


def _store_at(address: RootAddress, here: Surroundings, *, make: bool = False) -> ObjectStore:
    if isinstance(address, LocalAddress):
        store: ObjectStore = LocalStore(address.path, clock=here.clock)
    else:
        store = _drive_store_at(address, here, make=make)
    kind = RetryingLinksStore if isinstance(store, OpensLinks) else RetryingStore
    return kind(store, clock=here.clock, random=random.Random(), budget_s=RETRY_BUDGET_S)


def _drive_store_at(
    address: DrivePathAddress | DriveFolderAddress, here: Surroundings, *, make: bool
) -> ObjectStore:
    _require_drive(f"open {address}")
    from driverun.storage.drive.opening import DriveOpening
    from driverun.storage.drive.store import LISTING_LAG_S

    settings = here.settings()
    lag_s = settings.listing_lag_s
    opening = DriveOpening(
        address,
        environment=here.environment,
        home=here.home,
        clock=here.clock,
        listing_lag_s=lag_s if lag_s is not None else LISTING_LAG_S,
        trusted_authors=settings.trusted_authors,
    )
    return persist(
        lambda: opening.open(make=make),
        what=f"open {address}",
        clock=here.clock,
        random=random.Random(),
        budget_s=RETRY_BUDGET_S,
    )


def open_store(option: str | None, here: Surroundings) -> ObjectStore:
    """The store of the root that is meant.

    Raises:
        RootNotFound: none is, or what is named is no root.
        UsageError: its format is newer than this driverun.
    """
    address = root_address(option, here)
    store = _store_at(address, here)
    content = _root_file(store, address, here)
    try:
        version = int(json.loads(content)["format_version"])
    except (ValueError, KeyError, TypeError) as exc:
        raise UsageError(
            f"cannot use {address}: its {ROOT_FILE} is damaged. Mend it: driverun init {address}"
        ) from exc
    if version > ROOT_FORMAT:
        raise UsageError(
            f"cannot use {address}: it has format {version}, this driverun knows {ROOT_FORMAT}. Install a newer one."
        )
    return store


def _root_file(store: ObjectStore, address: RootAddress, here: Surroundings) -> bytes:
    """The content of the file that makes a folder a root. Raises RootNotFound."""
    try:
        return store.read(ROOT_FILE)
    except ObjectNotFound:
        here.clock.sleep(store.listing_lag_s)  # one that was made a moment ago may not be in the listings yet
    try:
        return store.read(ROOT_FILE)
    except ObjectNotFound as exc:
        raise RootNotFound(f"{address} is no driverun root. Make it one: driverun init {address}") from exc


def make_root(option: str | None, here: Surroundings) -> tuple[ObjectStore, bool]:
    """Make a root, or mend one; whatever is in the folder stays. Gives the store, and whether it is new."""
    from driverun.spec.schema import job_schema

    address = parse_root(option or str(here.cwd), cwd=here.cwd, home=here.home)
    store = _store_at(address, here, make=True)
    # All that workers make things in: two that made a folder at one moment would make two of it on Drive.
    for folder in (JOBS, DATA, LEDGER, RUNS, CODE):
        store.ensure_folder(folder)
    schema = json.dumps(job_schema(), indent=1).encode()
    root = json.dumps({"format_version": ROOT_FORMAT}).encode()
    is_new = False
    for path, content in ((SCHEMA_FILE, schema), (ROOT_FILE, root)):
        try:
            store.create(path, content)
            is_new = path == ROOT_FILE or is_new
        except ObjectExists:
            if store.read(path) != content:
                store.replace(path, content)
    return store, is_new


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialisedRoot:
    """What `driverun init` has done."""

    store: ObjectStore
    is_new: bool
    wheel: str | None  #: where on the root this very driverun lies, for other machines to install
    no_wheel: str = ""  #: why it does not, where it should


def init_root(option: str | None, here: Surroundings) -> InitialisedRoot:
    """Make a root or mend one; on Drive, keep the wheel of this driverun there, so that Colab runs the same."""
    from driverun.transfer.wheel import keep_wheel, running_wheel

    store, is_new = make_root(option, here)
    address = parse_root(option or str(here.cwd), cwd=here.cwd, home=here.home)
    if isinstance(address, LocalAddress):
        return InitialisedRoot(store=store, is_new=is_new, wheel=None)
    try:
        wheel = running_wheel()
    except UsageError as exc:
        return InitialisedRoot(store=store, is_new=is_new, wheel=None, no_wheel=str(exc))
    keep_wheel(store, wheel)
    return InitialisedRoot(store=store, is_new=is_new, wheel=wheel.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveLogin:
    """What `driverun login` has done."""

    file: Path
    warning: str  #: what may end the login


def log_in_to_drive(
    client_file: Path | None, here: Surroundings, *, show: Callable[[str], None]
) -> DriveLogin:
    """Have a person allow access to their Drive, in a browser of this machine, and keep the login.

    Args:
        client_file: of an OAuth client of theirs; None: the one of the login that is there.
        show: is called with the address to be opened.

    Raises:
        UsageError: the file is none, or access was not allowed; the login that was there stays.
        TransientStoreError: Google is out of reach.
    """
    _require_drive("log in")
    from driverun.storage.drive.login import SEVEN_DAYS, ClientFile, log_in, login_file, stored_client

    file = login_file(here.environment, home=here.home)
    client = ClientFile.read(client_file) if client_file is not None else stored_client(file)
    log_in(client, file, show=show)
    return DriveLogin(file=file, warning=SEVEN_DAYS)


def _require_drive(doing: str) -> None:
    try:
        import driverun.storage.drive.opening  # noqa: F401 - takes a second, which local roots do not pay
    except ModuleNotFoundError as exc:
        if (exc.name or "").startswith("driverun"):
            raise
        raise UsageError(
            f"cannot {doing}: {exc.name} is not installed. pip install 'driverun[drive]'"
        ) from exc


def open_checkup(address: RootAddress, here: Surroundings) -> DriveCheckup | None:
    """Someone to ask about the login for a root; None for a local one, which needs none.

    Raises:
        UsageError: nobody is logged in, or the extra `drive` is missing.
    """
    if isinstance(address, LocalAddress):
        return None
    _require_drive(f"open {address}")
    from driverun.storage.drive.checkup import DriveCheckup

    return DriveCheckup(
        address, environment=here.environment, home=here.home, clock=here.clock, random=random.Random()
    )


def open_board(option: str | None, here: Surroundings) -> Board:
    """Where the runs of the root stand that is meant; all that `driverun status` needs, and quick to load."""
    from driverun.execution.board import Board

    return Board(open_store(option, here), clock=here.clock, by=here.person)


def open_client(option: str | None, here: Surroundings) -> Client:
    """The root that is meant, for its owner."""
    from driverun.execution.client import Client

    return Client(open_store(option, here), clock=here.clock, by=here.person)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkOptions:
    """How a worker is to work."""

    max_runtime_s: float | None = None
    allow_cpu: bool = True
    jobs: tuple[str, ...] = ()  #: names of jobs, or ids of runs, to work on; empty: all
    patience_s: float = math.inf  #: for how long to wait for what may come


def open_worker(
    option: str | None,
    here: Surroundings,
    *,
    options: WorkOptions,
    stop: StopSignal,
    say: Callable[[str], None],
    show: Callable[[str], None],
    show_progress: Callable[[str], OnProgress] | None = None,
    wrap_store: Callable[[ObjectStore], ObjectStore] = lambda store: store,
    secret_sources: Sequence[SecretSource] = (),
    machine: Machine | None = None,
) -> Worker:
    """A worker of this machine on the root that is meant; rehearsals wrap its store.

    Secrets come from `secret_sources`, else from the environment, else from the keyring.

    Args:
        machine: as whoever asks has just found it; None: it is looked at now.

    Raises:
        RootNotFound: as `open_store`.
        UsageError: likewise, or there is no interpreter as the settings name it.
    """
    from driverun.dispatch.processes import this_process
    from driverun.execution.context import WorkerContext
    from driverun.execution.environment import Environments
    from driverun.execution.hardware import gpu_processes, look_at_machine
    from driverun.execution.keyring_secrets import KeyringSecrets
    from driverun.execution.secrets import EnvironmentSecrets, Secrets
    from driverun.execution.tasks import ThreadTasks
    from driverun.execution.trainer import process_starter
    from driverun.execution.workdir import Workdir
    from driverun.execution.worker import Worker
    from driverun.transfer.cache import DataCache

    settings = here.settings()
    python = interpreter(here)
    if machine is None:
        machine = look_at_machine(settings.workdir, environment=here.environment)
    context = WorkerContext(
        store=wrap_store(open_store(option, here)),
        clock=here.clock,
        settings=settings,
        worker=new_worker_id(),
        process=this_process(),
        workdir=Workdir(settings.workdir),
        cache=DataCache(settings.workdir / "cache", settings.cache_bytes, clock=here.clock),
        capabilities=capabilities(allow_cpu=options.allow_cpu, machine=machine),
        start_trainer=process_starter(python=python, environment=here.environment, clock=here.clock),
        tasks=ThreadTasks(),
        stop=stop,
        say=say,
        show=show,
        show_progress=show_progress,
        machine=machine,
        gpu_processes=lambda: gpu_processes(environment=here.environment),
        environments=Environments(python=python, environment=here.environment, clock=here.clock),
        secrets=Secrets(
            (*secret_sources, EnvironmentSecrets(here.environment), KeyringSecrets()), clock=here.clock
        ),
    )
    deadline_s = None
    if options.max_runtime_s is not None:
        deadline_s = here.clock.monotonic() + options.max_runtime_s
    return Worker(
        context, deadline_s=deadline_s, by=here.person, jobs=options.jobs, patience_s=options.patience_s
    )


def interpreter(here: Surroundings) -> str:
    """The Python that jobs run with.

    Raises:
        UsageError: there is no such program; known here, it costs no run an attempt.
    """
    wanted = here.settings().python
    if wanted is None:
        return sys.executable
    found = shutil.which(wanted, path=here.environment.get("PATH"))
    if found is None:
        raise UsageError(
            f"cannot run jobs with {wanted}: there is no such program. Set DRIVERUN_PYTHON, or `python` in the"
            " settings, to a Python 3.11 to 3.13; without it, jobs run with the Python of driverun."
        )
    return found


def new_worker_id() -> str:
    """A name that no other worker has, for every file it will create."""
    return "w" + secrets.token_hex(5)


def capabilities(*, allow_cpu: bool, machine: Machine | None = None) -> Capabilities:
    """What this machine has to give, found out without loading a framework; None: it is looked at now."""
    from driverun.dispatch.choose import Capabilities
    from driverun.execution.hardware import look_at_machine
    from driverun.spec.model import Accelerator

    found = machine if machine is not None else look_at_machine(Path.cwd())
    accelerators = frozenset({Accelerator.GPU}) if found.gpus else frozenset()
    return Capabilities(accelerators=accelerators, allows_cpu=allow_cpu, memory_bytes=found.memory_bytes)
