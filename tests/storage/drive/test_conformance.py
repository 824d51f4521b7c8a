"""The suite of every store, over HTTP: on a Drive that works, and on one where every call may go wrong."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import ClassVar

import pytest

from driverun.storage.base import ObjectStore
from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator, EmulatorSettings
from driverun.testing.store_conformance import ObjectStoreConformance
from tests.storage.drive.emulated import drive_root, patient

LATENCY_MS = 2.0  # so that time passes
_roots = itertools.count()


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, clock: FakeClock) -> Iterator[DriveEmulator]:
    settings = EmulatorSettings(latency_ms=LATENCY_MS)
    with DriveEmulator(tmp_path_factory.mktemp("drive"), clock=clock, settings=settings) as emulator:
        yield emulator
        assert not [each for each in emulator.requests if each.status == 400]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, clock: FakeClock) -> Iterator[DriveEmulator]:
    settings = EmulatorSettings(latency_ms=LATENCY_MS, fault_rate=0.05, hang_s=0.0)
    folder = tmp_path_factory.mktemp("drive")
    with DriveEmulator(folder, clock=clock, settings=settings, seed=7) as emulator:
        yield emulator
        places = [(each.title, each.parents) for each in emulator.files() if not each.is_trashed]
        assert len(places) == len(set(places)), "a lost answer made a second file"


class TestDriveStore(ObjectStoreConformance):
    creates_exclusively: ClassVar[bool] = False
    creations_per_thread: ClassVar[int] = 5

    @pytest.fixture
    def store(self, sound: DriveEmulator, clock: FakeClock) -> ObjectStore:
        return drive_root(sound, clock, path=f"roots/{next(_roots)}")


class TestRetriedFaultyDriveStore(ObjectStoreConformance):
    creates_exclusively: ClassVar[bool] = False
    creations_per_thread: ClassVar[int] = 5

    @pytest.fixture
    def store(self, faulty: DriveEmulator, clock: FakeClock) -> ObjectStore:
        return patient(drive_root(faulty, clock, path=f"roots/{next(_roots)}"), clock)
