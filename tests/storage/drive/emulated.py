"""Roots on an emulated Drive, for the tests of this folder."""

from __future__ import annotations

import random
from pathlib import Path

from driverun.storage.drive.opening import ENDPOINT_VARIABLE, TOKEN_VARIABLE, DriveOpening
from driverun.storage.drive.store import DriveStore
from driverun.storage.locate import DriveFolderAddress, DrivePathAddress
from driverun.storage.retrying import RetryingStore, persist
from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator

ACCOUNT = "person@example.com"


def drive_root(
    emulator: DriveEmulator,
    clock: FakeClock,
    *,
    path: str = "experiments/of mine",
    folder_id: str | None = None,
    account: str = ACCOUNT,
    make: bool = True,
    listing_lag_s: float = 0.0,
) -> DriveStore:
    """A store of its own, as another process would have it."""
    address: DrivePathAddress | DriveFolderAddress = (
        DrivePathAddress(path=path) if folder_id is None else DriveFolderAddress(folder_id=folder_id)
    )
    opening = DriveOpening(
        address,
        environment={ENDPOINT_VARIABLE: emulator.url, TOKEN_VARIABLE: f"user:{account}"},
        home=Path("/nowhere"),
        clock=clock,
        listing_lag_s=listing_lag_s,
    )
    return persist(
        lambda: opening.open(make=make), what="open", clock=clock, random=random.Random(1), budget_s=1e6
    )


def patient(store: DriveStore, clock: FakeClock, *, seed: int = 1, budget_s: float = 1e6) -> RetryingStore:
    return RetryingStore(store, clock=clock, random=random.Random(seed), budget_s=budget_s)
