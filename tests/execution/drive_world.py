"""A world whose root is on an emulated Drive, each worker with a connection of its own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from driverun.assembly import Surroundings, make_root
from driverun.execution.worker import Mode, Worked
from driverun.storage.base import ObjectStore
from driverun.storage.drive.opening import ENDPOINT_VARIABLE, TOKEN_VARIABLE, DriveOpening
from driverun.storage.drive.transport import Connections
from driverun.storage.locate import DriveFolderAddress, DrivePathAddress
from driverun.storage.retrying import RetryingStore, persist
from driverun.testing.drive_emulator import DriveEmulator
from driverun.testing.faulty import Moment, SimulatedDisconnect
from tests.execution.world import World

BUDGET_S = 60.0  #: of assembly
GUEST = "guest@example.com"  #: an account beside the owner's, which trusts it


@dataclass
class DriveWorld(World):
    """One root on a Drive, and any number of machines."""

    emulator: DriveEmulator = field(kw_only=True)
    root: str = field(default="experiments", kw_only=True)
    lag_s: float = field(default=0.0, kw_only=True)
    guest: tuple[str, str] | None = field(
        default=None, kw_only=True
    )  #: workers are this account, in that folder
    environment: dict[str, str] = field(default_factory=dict, kw_only=True)  #: of workers; it may change

    def __post_init__(self) -> None:
        super().__post_init__()
        self.environment[ENDPOINT_VARIABLE] = self.emulator.url
        surroundings = Surroundings(
            environment={
                ENDPOINT_VARIABLE: self.emulator.url,
                "DRIVERUN_LISTING_LAG": "0s",
                "DRIVERUN_TRUSTED_AUTHORS": GUEST,
            },
            cwd=self.folder,
            home=self.folder,
            clock=self.clock,
        )
        self.store, _ = make_root(f"gdrive:{self.root}", surroundings)

    def connect(self) -> ObjectStore:
        """The root, as a process of its own has it."""
        address: DrivePathAddress | DriveFolderAddress = DrivePathAddress(path=self.root)
        if self.guest is not None:
            account, folder = self.guest
            self.environment[TOKEN_VARIABLE] = f"user:{account}"
            address = DriveFolderAddress(folder_id=folder)
        opening = DriveOpening(
            address,
            environment=self.environment,
            home=Path("/nowhere"),
            clock=self.clock,
            listing_lag_s=self.lag_s,
        )
        luck = random.Random(self.machines)
        store = persist(opening.open, what="open", clock=self.clock, random=luck, budget_s=BUDGET_S)
        return RetryingStore(store, clock=self.clock, random=luck, budget_s=BUDGET_S)

    def work(self, store: ObjectStore | None = None, *, mode: Mode = Mode.UNTIL_EMPTY) -> Worked:
        """Let a new worker work; to it the listings lag, to the test they do not."""
        self.clock.advance(seconds=self.lag_s)
        self.emulator.settings.listing_lag_s = self.lag_s
        try:
            return super().work(store if store is not None else self.connect(), mode=mode)
        finally:
            self.emulator.settings.listing_lag_s = 0.0


class Wire:
    """The wire between workers and Drive, cut at one request.

    Attributes:
        requests: how many were made while it was watched.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests = 0
        self._is_watched = False
        self._crash_at: int | None = None
        self._moment = Moment.BEFORE
        urlopen = Connections.urlopen

        def watched(connections: Connections, method: str, uri: str, **options: Any) -> Any:
            if not self._is_watched:
                return urlopen(connections, method, uri, **options)
            self.requests += 1
            self._die(Moment.BEFORE)
            answer = urlopen(connections, method, uri, **options)
            try:
                self._die(Moment.AFTER)
            except SimulatedDisconnect:
                answer.close()
                raise
            return answer

        monkeypatch.setattr(Connections, "urlopen", watched)

    @contextmanager
    def watched(self, *, crash_at: int | None = None, moment: Moment = Moment.BEFORE) -> Iterator[None]:
        """Count the requests of the block; the dead make no more after number `crash_at`, from 1."""
        self.requests, self._crash_at, self._moment, self._is_watched = 0, crash_at, moment, True
        try:
            yield
        finally:
            self._is_watched = False

    def _die(self, moment: Moment) -> None:
        if self._crash_at is None or self.requests < self._crash_at:
            return
        if self.requests > self._crash_at or moment is self._moment:
            raise SimulatedDisconnect(f"the runtime is gone since request {self._crash_at}")
